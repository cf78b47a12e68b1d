//! Where the wish for pods comes from: the API server's watch of the pods bound to this node.
//!
//! In: a client and the node's name. Out: [`Update`]s on a channel. One task per source; it lives as long as the channel
//! and reconnects with back-off. A source of static pods will be another task on the same channel.

use std::sync::Arc;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::mpsc;

use crate::report::Chain;

/// Updates that wait for the manager, which is only ever busy for microseconds; a full queue slows the watch down.
const QUEUE: usize = 64;

/// News of the wished pods.
#[derive(Debug)]
pub(crate) enum Update {
    /// These are all: what is not among them is gone.
    Replace(Vec<Arc<Pod>>),
    /// This one is new or has changed.
    Apply(Arc<Pod>),
    /// This one is gone; as it last was.
    Delete(Arc<Pod>),
}

/// Watches the pods of the node; must be called inside a runtime.
pub(crate) fn watch_api(client: Client, node: &str) -> mpsc::Receiver<Update> {
    let (updates, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(follow(client, node.to_owned(), updates));
    receiver
}

async fn follow(client: Client, node: String, updates: mpsc::Sender<Update>) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let pods = watcher(Api::<Pod>::all(client), config).backoff(gantry_kubeapi::WatchBackoff::default());
    let mut pods = std::pin::pin!(pods);
    let mut list = Vec::new();
    loop {
        let update = tokio::select! {
            // Cancel safe: the loop ends.
            () = updates.closed() => return,
            // Cancel safe: a stream's next item.
            event = pods.try_next() => match event {
                Ok(Some(event)) => take(event, &mut list),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the watch of pods broke, will retry");
                    None
                }
            },
        };
        if let Some(update) = update
            && updates.send(update).await.is_err()
        {
            return;
        }
    }
}

/// Nothing is reported of a list that is not complete.
fn take(event: watcher::Event<Pod>, list: &mut Vec<Arc<Pod>>) -> Option<Update> {
    match event {
        watcher::Event::Init => {
            list.clear();
            None
        }
        watcher::Event::InitApply(pod) => {
            list.push(slim(pod));
            None
        }
        watcher::Event::InitDone => Some(Update::Replace(std::mem::take(list))),
        watcher::Event::Apply(pod) => Some(Update::Apply(slim(pod))),
        watcher::Event::Delete(pod) => Some(Update::Delete(slim(pod))),
    }
}

/// Without what nobody reads and what takes most of the room.
fn slim(mut pod: Pod) -> Arc<Pod> {
    pod.managed_fields_mut().clear();
    pod.metadata.managed_fields = None;
    Arc::new(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.managed_fields = Some(vec![Default::default()]);
        pod
    }

    #[test]
    fn a_list_is_reported_only_when_it_is_complete() {
        let mut list = Vec::new();
        for event in [
            watcher::Event::Init,
            watcher::Event::InitApply(pod("lost")),
            // The connection broke.
            watcher::Event::Init,
            watcher::Event::InitApply(pod("a")),
            watcher::Event::InitApply(pod("b")),
        ] {
            assert!(take(event, &mut list).is_none());
        }
        let Some(Update::Replace(pods)) = take(watcher::Event::InitDone, &mut list) else {
            panic!("no list");
        };
        let names: Vec<String> = pods.iter().map(|p| p.name_any()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(pods.iter().all(|p| p.metadata.managed_fields.is_none()));
        assert!(matches!(
            take(watcher::Event::Delete(pod("a")), &mut list),
            Some(Update::Delete(_))
        ));
    }
}
