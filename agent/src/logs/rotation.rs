//! Rotation of the logs of running containers, as the reference does it.
//!
//! Every `containerLogMonitorInterval` the size of each running container's log is asked for: which containers run and
//! where their logs are is known, so a round without work is one `stat` for each and no call to the runtime. A log that
//! has grown to `containerLogMaxSize` is renamed to `<n>.log.<local time>`, and the runtime is told to open the name
//! anew; if it does not, the name is given back. Before that the file rotated last is compressed and what is more than
//! `containerLogMaxFiles` is removed, the oldest first. A log that is missing (the agent ended between the rename and
//! the call) is opened anew as well.
//!
//! Disk work is done for at most `containerLogMaxWorkers` containers at a time; a runtime that is slow to answer for one
//! container delays no other.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gantry_agent_core::{
    logs::rotation::{STAMP, plan},
    observed::{Container, ContainerState, ObservedPod},
    quantity::Quantity,
};
use jiff::Zoned;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Tapes, compress::compress, log_path, removal::names};
use crate::{
    config::Settings,
    report::Chain,
    runtime::{Runtime, RuntimeError},
};

/// When logs are rotated, and what is kept of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// `podLogsDir`.
    pub(crate) root: PathBuf,
    pub(crate) max_bytes: u64,
    /// At least two: the one that is written to and the one before it.
    pub(crate) max_files: usize,
    pub(crate) workers: usize,
    pub(crate) interval: Duration,
}

/// The task; dropping it ends rotation.
pub(crate) struct Rotation {
    _task: AbortOnDropHandle<()>,
}

/// What the rotation of one container needs.
#[derive(Clone)]
struct Worker {
    policy: Arc<Policy>,
    runtime: Runtime,
    tapes: Tapes,
    turns: Arc<Semaphore>,
}

/// A log that needs something.
struct Due {
    id: String,
    path: PathBuf,
}

/// A log was not rotated. It is tried again in the next round.
#[derive(Debug, Error)]
enum RotateError {
    #[error("cannot {action} {}", path.display())]
    Disk {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the runtime does not open the log anew")]
    Reopen(#[source] RuntimeError),
    #[error("the runtime does not say where the log is")]
    Find(#[source] RuntimeError),
}

// === impl Policy ===

impl Policy {
    /// As configured; `None` when rotation is off, which a negative size means.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        // The size has been checked when the configuration was read.
        let size: Quantity = settings.container_log_max_size.parse().ok()?;
        Some(Self {
            root: settings.pod_logs_dir.clone(),
            max_bytes: u64::try_from(size.value()).ok()?,
            max_files: settings.container_log_max_files,
            workers: settings.container_log_max_workers,
            interval: settings.container_log_monitor_interval,
        })
    }
}

// === impl Rotation ===

impl Rotation {
    /// Rotates from now on. Must be called inside a runtime.
    pub(crate) fn start(policy: Policy, runtime: Runtime, tapes: Tapes) -> Self {
        let worker = Worker {
            turns: Arc::new(Semaphore::new(policy.workers.max(1))),
            policy: Arc::new(policy),
            runtime,
            tapes,
        };
        Self {
            _task: AbortOnDropHandle::new(tokio::spawn(run(worker))),
        }
    }
}

async fn run(worker: Worker) {
    let mut ticks = interval(worker.policy.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut busy = HashSet::new();
    let mut tasks: JoinSet<(String, Option<PathBuf>)> = JoinSet::new();
    // Logs that are not where we would have put them, by container.
    let mut elsewhere: HashMap<String, PathBuf> = HashMap::new();
    loop {
        tokio::select! {
            // Cancel safe: a timer.
            _ = ticks.tick() => {}
            // Cancel safe: a task is taken out when it has ended.
            Some(done) = tasks.join_next() => {
                if let Ok((id, found)) = done {
                    busy.remove(&id);
                    elsewhere.extend(found.map(|path| (id, path)));
                }
                continue;
            }
        }
        let mut logs = running(&worker.runtime, &worker.policy.root);
        elsewhere.retain(|id, _| logs.iter().any(|log| log.id == *id));
        logs.retain(|log| !busy.contains(&log.id));
        for log in &mut logs {
            if let Some(path) = elsewhere.get(&log.id) {
                log.path.clone_from(path);
            }
        }
        let max_bytes = worker.policy.max_bytes;
        // Only a shutdown cancels it.
        let due = tokio::task::spawn_blocking(move || due(logs, max_bytes)).await;
        for due in due.unwrap_or_default() {
            busy.insert(due.id.clone());
            let worker = worker.clone();
            tasks.spawn(async move {
                let found = worker.work(&due).await.unwrap_or_else(|error| {
                    let error = Chain(&error).to_string();
                    tracing::warn!(container = due.id, path = %due.path.display(), error, "the log was not rotated");
                    None
                });
                (due.id, found)
            });
        }
    }
}

/// The logs of all running containers.
fn running(runtime: &Runtime, root: &Path) -> Vec<Due> {
    let cache = runtime.pods();
    let pods: Vec<Arc<ObservedPod>> = cache
        .known()
        .unwrap_or_default()
        .iter()
        .filter_map(|uid| cache.get(uid))
        .collect();
    let runs = |container: &&Container| matches!(container.state, ContainerState::Running { .. });
    let of_pod = |pod: &Arc<ObservedPod>| -> Vec<Due> {
        let containers = pod.containers.iter().filter(runs);
        let due = containers.map(|container| Due {
            id: container.id.clone(),
            path: log_path(root, pod, container),
        });
        due.collect()
    };
    pods.iter().flat_map(of_pod).collect()
}

/// Those that are too large or missing. Blocking.
fn due(logs: Vec<Due>, max_bytes: u64) -> Vec<Due> {
    let needed = |log: &Due| match fs::metadata(&log.path) {
        Ok(metadata) => metadata.len() >= max_bytes,
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    logs.into_iter().filter(needed).collect()
}

// === impl Worker ===

impl Worker {
    /// Rotates the log, or has it opened anew when it is missing. Answers its path when that is not where we looked.
    async fn work(&self, due: &Due) -> Result<Option<PathBuf>, RotateError> {
        match size(&due.path)? {
            Some(_) => self.rotate(due).await.map(|()| None),
            None => self.find(due).await,
        }
    }

    async fn find(&self, due: &Due) -> Result<Option<PathBuf>, RotateError> {
        let path = match self.runtime.container_log(&due.id).await {
            Ok(log) => log.path,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(RotateError::Find(error)),
        };
        // Not logged into a file, or by somebody else.
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        if path != due.path && size(&path)?.is_some() {
            return Ok(Some(path));
        }
        self.reopen(&due.id).await?;
        Ok((path != due.path).then_some(path))
    }

    async fn rotate(&self, due: &Due) -> Result<(), RotateError> {
        let rotated = self.on_disk(&due.path, prepare).await?;
        let Some(rotated) = rotated else { return Ok(()) };
        if let Err(error) = self.reopen(&due.id).await {
            let restore = move |path: &Path, _| give_back(&rotated, path);
            self.on_disk(&due.path, restore).await?;
            return Err(error);
        }
        let (tapes, path) = (self.tapes.clone(), due.path.clone());
        // Only a shutdown cancels it.
        let _ = tokio::task::spawn_blocking(move || tapes.rotated(&path)).await;
        Ok(())
    }

    async fn reopen(&self, id: &str) -> Result<(), RotateError> {
        let reopened = self.runtime.reopen_container_log(id).await;
        reopened.map_err(RotateError::Reopen)
    }

    /// Blocking work, a few at a time.
    async fn on_disk<T: Default + Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&Path, usize) -> Result<T, RotateError> + Send + 'static,
    ) -> Result<T, RotateError> {
        let (path, max_files) = (path.to_owned(), self.policy.max_files);
        // Never closed.
        let turn = self.turns.clone().acquire_owned().await.ok();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&path, max_files)
        });
        // Only a shutdown cancels it.
        done.await.unwrap_or_else(|_| Ok(T::default()))
    }
}

fn size(path: &Path) -> Result<Option<u64>, RotateError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(disk("look at", path)(source)),
    }
}

/// Makes room, compresses, renames; answers the new name, `None` when another rotation has had it in this second.
fn prepare(path: &Path, max_files: usize) -> Result<Option<PathBuf>, RotateError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let log = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let names = names(folder).map_err(disk("list", folder))?;
    let plan = plan(&log, &names, max_files);
    for name in plan.remove {
        let old = folder.join(name);
        fs::remove_file(&old).map_err(disk("remove", &old))?;
    }
    for name in plan.compress {
        let old = folder.join(name);
        compress(&old).map_err(disk("compress", &old))?;
    }
    let rotated = folder.join(format!("{log}.{}", Zoned::now().strftime(STAMP)));
    let moved = rename(path, &rotated).map_err(disk("rename", path))?;
    Ok(moved.then_some(rotated))
}

/// The rotated log gets its name back, unless the runtime has made a new one although it did not say so.
fn give_back(rotated: &Path, path: &Path) -> Result<(), RotateError> {
    rename(rotated, path).map_err(disk("rename back", rotated))?;
    Ok(())
}

/// Answers whether it was done: nothing is ever replaced.
fn rename(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // A file system without this flag.
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_ok() => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(from, to).map(|()| true),
        Err(error) => Err(error.into()),
    }
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RotateError {
    let path = path.to_owned();
    move |source| RotateError::Disk { action, path, source }
}

#[cfg(test)]
#[path = "rotation/tests.rs"]
mod tests;
