//! What pods that are gone have left on the node: volumes, cgroups, logs.
//!
//! Looked for while no new pod can appear, removed in a task of its own, because unmounting can hang.

use std::{collections::HashSet, io, path::PathBuf};

use gantry_agent_core::observed::ContainerState;
use tracing::warn;

use crate::{
    cgroups::Cgroups,
    logs::{LogFolders, remove_all_logs},
    report::Chain,
    runtime::PodCache,
    volumes::Volumes,
};

/// Where pods leave something.
#[derive(Clone)]
pub(crate) struct Leftovers {
    pub(crate) volumes: Volumes,
    pub(crate) cgroups: Cgroups,
    pub(crate) logs: LogFolders,
}

/// What was left.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// UIDs of pods with a directory.
    volumes: Vec<String>,
    /// UIDs of pods with a cgroup.
    cgroups: Vec<String>,
    /// Directories of logs, links to logs.
    logs: (Vec<PathBuf>, Vec<PathBuf>),
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.volumes.is_empty() && self.cgroups.is_empty() && self.logs.0.is_empty() && self.logs.1.is_empty()
    }
}

impl Leftovers {
    /// What pods other than `known` have left; `None` when it is nothing.
    pub(super) async fn look(&self, known: &HashSet<String>, cache: &PodCache) -> Option<Found> {
        let volumes = self.volumes.orphans(known).await.unwrap_or_else(|error| {
            warn!(%error, "cannot list the directories of pods");
            Vec::new()
        });
        let mut cgroups = self.cgroups.pods().await;
        cgroups.retain(|uid| !known.contains(uid));
        let found = Found {
            volumes,
            cgroups,
            logs: self
                .logs(known.clone(), living(cache))
                .await
                .unwrap_or_else(|error| {
                    warn!(%error, "cannot list the logs of pods");
                    Default::default()
                }),
        };
        if found.is_nothing() {
            self.volumes.swept(0, 0);
            return None;
        }
        Some(found)
    }

    async fn logs(
        &self,
        known: HashSet<String>,
        living: HashSet<String>,
    ) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let logs = self.logs.clone();
        tokio::task::spawn_blocking(move || Ok((logs.left(&known)?, logs.dead_links(&living)?))).await?
    }

    /// Removes it; what cannot be removed is found again.
    pub(super) async fn remove(self, found: Found) {
        for uid in found.cgroups {
            if let Err(error) = self.cgroups.remove_pod(&uid).await {
                warn!(uid, error = %Chain(&error), "cannot remove the cgroup of a pod that is gone, will retry");
            }
        }
        let (mut cleaned, mut failed) = (0, 0);
        for uid in found.volumes {
            match self.volumes.tear_down(&uid).await {
                Ok(()) => cleaned += 1,
                Err(error) => {
                    failed += 1;
                    warn!(uid, error = %Chain(&error), "cannot remove the volumes of a pod that is gone, will retry");
                }
            }
        }
        self.volumes.swept(cleaned, failed);
        let (directories, links) = found.logs;
        let removed = tokio::task::spawn_blocking(move || remove_all_logs(&directories, &links)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(error.into())) {
            warn!(%error, "cannot remove the logs of a pod that is gone, will retry");
        }
    }
}

/// Containers that have not ended, as far as known: the runtime may still be about to write their logs.
fn living(cache: &PodCache) -> HashSet<String> {
    let pods = cache.all();
    let containers = pods.iter().flat_map(|pod| &pod.containers);
    let living = containers.filter(|container| !matches!(container.state, ContainerState::Exited(_)));
    living.map(|container| container.id.clone()).collect()
}
