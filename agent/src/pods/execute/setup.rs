//! What a pod needs on the node besides the runtime, and the way back.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use gantry_agent_core::machine::{Outcome, StepError};
use gantry_chassis::files::gone_is_fine;
use k8s_openapi::api::core::v1::Pod;

use super::{
    PodHands, Tools,
    error::{failed, refused},
};
use crate::{
    logs,
    metrics::Phase,
    pods::{spec::files, steps::StepResult},
    volumes::VolumeError,
};

/// The reason of whatever stays behind, for the log.
const REMOVE: &str = "FailedRemove";

impl PodHands {
    /// Cgroup, log directory, volumes.
    pub(super) async fn set_up(&self, pod: &Arc<Pod>) -> StepResult {
        let (tools, begun) = (&self.tools, Instant::now());
        let (cgroup, mounts) = tokio::join!(tools.cgroups.create_pod(pod), tools.volumes.set_up(pod));
        cgroup.map_err(|e| failed("FailedCreatePodContainer", &e))?;
        files::make_log_directory(&tools.node.pod_logs_dir, pod).map_err(|e| failed("Failed", &e))?;
        *self.mounts() = Arc::new(mounts.map_err(|e| not_mounted(&e))?);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        // A pod that was there before the agent does not start.
        if tools.observed(uid).sandboxes.is_empty() {
            tools.metrics.starts.phase(Phase::Volumes, begun.elapsed());
        }
        Ok(Outcome::Done)
    }
}

/// Each volume with its cause, as the kubelet's events have it.
fn not_mounted(error: &VolumeError) -> StepError {
    refused("FailedMount", error.messages().join(", "))
}

impl Tools {
    /// A container that nobody asks for any more, and its log. The log stays when the container does.
    pub(super) async fn remove_container(&self, pod: &Pod, id: &str) -> StepResult {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let observed = self.runtime.pods().get(&uid).unwrap_or_default();
        let removed = self.runtime.remove_container(id).await;
        removed.map_err(|e| failed(REMOVE, &e))?;
        let Some(container) = observed.containers.iter().find(|c| c.id == id) else {
            return Ok(Outcome::Done);
        };
        let log = logs::log_path(&self.node.pod_logs_dir, &observed, container);
        let link = Path::new(files::LOG_LINKS).join(files::link_name(pod, &container.name, id));
        match tokio::task::spawn_blocking(move || logs::remove_logs(&log, &link)).await {
            Ok(Ok(())) => {}
            // What stays goes with the pod.
            Ok(Err(error)) => tracing::warn!(container = id, %error, "cannot remove the container's log"),
            Err(error) => tracing::warn!(container = id, %error, "cannot remove the container's log"),
        }
        Ok(Outcome::Done)
    }

    /// What is left of a pod that the API server no longer has: its logs and the links to them, and what the removal
    /// of its volumes and its cgroup has missed.
    pub(super) async fn clean_up(&self, pod: &Pod) -> StepResult {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.volumes
            .tear_down(&uid)
            .await
            .map_err(|e| failed(REMOVE, &e))?;
        self.cgroups
            .remove_pod(&uid)
            .await
            .map_err(|e| failed(REMOVE, &e))?;
        let logs = files::log_directory(&self.node.pod_logs_dir, pod);
        match tokio::task::spawn_blocking(move || remove_logs(&logs)).await {
            Ok(Ok(())) => Ok(Outcome::Done),
            Ok(Err(error)) => Err(failed(REMOVE, &error)),
            Err(error) => Err(failed(REMOVE, &error)),
        }
    }
}

/// The links first: they are found by where they point to.
fn remove_logs(logs: &Path) -> io::Result<()> {
    for link in links_into(Path::new(files::LOG_LINKS), logs)? {
        gone_is_fine(std::fs::remove_file(link))?;
    }
    gone_is_fine(std::fs::remove_dir_all(logs))
}

fn links_into(links: &Path, logs: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(links) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter(|link| std::fs::read_link(link).is_ok_and(|log| log.starts_with(logs)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_links_into_the_pods_own_logs_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let (links, logs) = (dir.path().join("links"), dir.path().join("logs/ns_p_1"));
        std::fs::create_dir_all(&links).expect("a directory");
        let link = |name: &str, target: PathBuf| {
            std::os::unix::fs::symlink(target, links.join(name)).expect("a link");
        };
        link("mine", logs.join("c/0.log"));
        link("other", dir.path().join("logs/ns_p_12/c/0.log"));
        assert_eq!(links_into(&links, &logs).expect("a list"), [links.join("mine")]);
        assert!(
            links_into(&dir.path().join("absent"), &logs)
                .expect("a list")
                .is_empty()
        );
    }
}
