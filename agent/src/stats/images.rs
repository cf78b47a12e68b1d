//! The names of the images that containers run, for labels: what containerd calls them.
//!
//! CRI tells a container's image by its id and only containerd's own API names it, that of sandboxes too. Each
//! container is asked for once, when it is first seen. With another runtime the name in the pod's spec is taken, and
//! sandboxes have none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use gantry_agent_core::observed::ObservedPod;

use crate::runtime::Runtime;

/// Questions in flight.
const AT_ONCE: usize = 8;
/// A scrape does not wait longer for names.
const PATIENCE: Duration = Duration::from_secs(1);

/// By the container's or sandbox's id. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ImageNames(Arc<HashMap<String, Arc<str>>>);

impl ImageNames {
    pub(super) fn get(&self, id: &str) -> Option<Arc<str>> {
        self.0.get(id).cloned()
    }

    /// Asks for those that are not known, and forgets those that are gone.
    pub(super) async fn refresh(&mut self, runtime: &Runtime, pods: &[Arc<ObservedPod>]) {
        let ids = || {
            pods.iter().flat_map(|pod| {
                let sandboxes = pod.sandboxes.iter().map(|sandbox| (sandbox.id.as_str(), ""));
                let containers = pod.containers.iter().map(|c| (c.id.as_str(), c.image.as_str()));
                sandboxes.chain(containers)
            })
        };
        let unknown: Vec<(String, String)> = ids()
            .filter(|(id, _)| !self.0.contains_key(*id))
            .map(|(id, image)| (id.to_owned(), image.to_owned()))
            .collect();
        if unknown.is_empty() && ids().count() == self.0.len() {
            return;
        }
        let names = Arc::make_mut(&mut self.0);
        let asked = stream::iter(unknown).map(|(id, spec)| async move {
            // An answer without a name is an answer; a failed question is asked again.
            let name = runtime.image_of(&id).await.ok()?.unwrap_or(spec);
            Some((id, Arc::from(name)))
        });
        let mut answers = asked.buffer_unordered(AT_ONCE);
        let all = async {
            while let Some(answer) = answers.next().await {
                names.extend(answer);
            }
        };
        // Cancel safe: what was answered is kept.
        let _ = tokio::time::timeout(PATIENCE, all).await;
        drop(answers);
        let known: HashSet<&str> = ids().map(|(id, _)| id).collect();
        names.retain(|id, _| known.contains(id.as_str()));
    }
}
