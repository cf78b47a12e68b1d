//! The tasks that keep the cache current.
//!
//! * `events`: reads CRI `GetContainerEvents` and merges each event. It never waits for anything but the stream:
//!   containerd's own calls block when a subscriber lags behind by 100 events.
//! * `relist`: a full list at the start, whenever the event stream was lost, and about once a minute; every second
//!   while the runtime has no event stream to offer.
//! * `hints`: containerd's native events, see [`super::hints`].
//!
//! All are abort safe (a merge is synchronous) and end when the [`Watcher`] is dropped.

use std::sync::Arc;
use std::time::Duration;

use gantry_cri::v1;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Request, Status, Streaming};

use super::merge::Change;
use super::relist::observe_with_message;
use super::{Runtime, hints, observe};

/// The slow repair.
const RELIST: Duration = Duration::from_secs(60);
/// Without events a list is all there is; the reference's period.
const RELIST_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// The first and the longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// containerd sends no response header before the first event, so a call that has not failed for this long is open.
const OPEN_AFTER: Duration = Duration::from_secs(1);

/// Owns the tasks; dropping it ends them.
pub(crate) struct Watcher {
    _tasks: JoinSet<()>,
}

impl Watcher {
    pub(super) fn spawn(runtime: Runtime) -> Self {
        let lost = Arc::new(Notify::new());
        let (open, is_open) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(relist(runtime.clone(), Arc::clone(&lost), is_open));
        tasks.spawn(events(runtime.clone(), lost, open));
        tasks.spawn(hints::run(runtime));
        Self { _tasks: tasks }
    }
}

async fn relist(runtime: Runtime, lost: Arc<Notify>, mut is_open: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    let mut reachable = true;
    let mut last: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        let listed = runtime.relist().await;
        runtime.metrics.relist_tried(begun.elapsed());
        let pause = match listed {
            Ok(()) => {
                let since = last.replace(begun).map(|last| begun.duration_since(last));
                runtime.metrics.relisted(since);
                if !std::mem::replace(&mut reachable, true) {
                    tracing::info!("the container runtime answers again");
                }
                backoff = Backoff::default();
                jittered(if *is_open.borrow_and_update() {
                    RELIST
                } else {
                    RELIST_WITHOUT_EVENTS
                })
            }
            Err(error) => {
                if std::mem::replace(&mut reachable, false) {
                    tracing::warn!(%error, "cannot list what the container runtime runs; keeping the last known state");
                }
                backoff.next()
            }
        };
        tokio::select! {
            // Cancel safe: a timer.
            () = tokio::time::sleep(pause) => {}
            // Cancel safe: Notify keeps its permit.
            () = lost.notified() => {}
            // Cancel safe: watch keeps the newest value. The sender ends with the events task, then polling is right.
            changed = is_open.changed() => if changed.is_err() { tokio::time::sleep(RELIST_WITHOUT_EVENTS).await },
        }
    }
}

async fn events(runtime: Runtime, lost: Arc<Notify>, open: watch::Sender<bool>) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let end = stream_events(&runtime, &open).await;
        open.send_replace(false);
        lost.notify_one();
        match end {
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                tracing::warn!("the container runtime offers no events; listing every second instead");
                return;
            }
            Err(status) => tracing::debug!(%status, "the container event stream ended"),
            Ok(()) => tracing::debug!("the container event stream ended"),
        }
        if started.elapsed() > BACKOFF.1 {
            backoff = Backoff::default();
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Reads one stream to its end.
async fn stream_events(runtime: &Runtime, open: &watch::Sender<bool>) -> Result<(), Status> {
    // containerd replays up to five minutes of old events to its first subscriber; the relist covers those.
    let since = Timestamp::now();
    let mut client = runtime.runtime.clone();
    let call = client.get_container_events(Request::new(v1::GetEventsRequest {}));
    tokio::pin!(call);
    let mut stream: Streaming<v1::ContainerEventResponse> = tokio::select! {
        answer = &mut call => {
            let stream = answer.inspect_err(|_| runtime.metrics.stream_failed())?.into_inner();
            runtime.metrics.stream_opened();
            stream
        }
        // The call goes on below, it is only polled from two places.
        () = tokio::time::sleep(OPEN_AFTER) => {
            runtime.metrics.stream_opened();
            open.send_replace(true);
            call.await?.into_inner()
        }
    };
    open.send_if_modified(|open| !std::mem::replace(open, true));
    while let Some(event) = stream.message().await? {
        if i128::from(event.created_at) >= since.as_nanosecond() {
            runtime.metrics.event(event.created_at);
            merge(runtime, event);
        }
    }
    Ok(())
}

/// Merges one event. Does not wait: what needs a file or a call continues in a task of its own, which the order
/// independence of merging allows.
fn merge(runtime: &Runtime, event: v1::ContainerEventResponse) {
    let removed = event.container_event_type() == v1::ContainerEventType::ContainerDeletedEvent;
    let labels = event.pod_sandbox_status.as_ref().map(|s| &s.labels);
    let labels = labels.or_else(|| event.containers_statuses.first().map(|c| &c.labels));
    if let Some(identity) = labels.and_then(observe::identity) {
        let sandbox = event.pod_sandbox_status.as_ref().map(observe::sandbox);
        let known = runtime.cache.get(&identity.uid);
        let mut containers = Vec::new();
        for status in event.containers_statuses {
            let old = known
                .iter()
                .flat_map(|pod| &pod.containers)
                .find(|c| c.id == status.id);
            let sandbox_id = sandbox
                .as_ref()
                .map(|s| &s.id)
                .or_else(|| old.map(|c| &c.sandbox_id))
                .cloned();
            // A container of an unknown sandbox: the relist finds out.
            let Some(sandbox_id) = sandbox_id else { continue };
            if status.state() != v1::ContainerState::ContainerExited {
                containers.push(observe::container(&status, &sandbox_id, ""));
            } else if old.is_none_or(|c| c.exit().is_none_or(|exit| exit.reason != status.reason)) {
                tokio::spawn(merge_exit(runtime.clone(), identity.clone(), status, sandbox_id));
            }
        }
        runtime.cache.apply(Change::Seen {
            identity,
            sandbox,
            containers,
        });
    }
    if removed {
        // For a container's id this removes just the container.
        runtime.cache.apply(Change::SandboxRemoved {
            id: &event.container_id,
        });
    }
}

async fn merge_exit(
    runtime: Runtime,
    identity: super::merge::Identity,
    status: v1::ContainerStatus,
    sandbox_id: String,
) {
    let container = observe_with_message(status, sandbox_id).await;
    runtime.cache.apply(Change::Seen {
        identity,
        sandbox: None,
        containers: vec![container],
    });
}

/// Doubling pauses with jitter.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let pause = BACKOFF
            .0
            .saturating_mul(1 << self.failures.min(10))
            .min(BACKOFF.1);
        self.failures += 1;
        jittered(pause)
    }
}

/// Between 0.8 and 1.2 of `period`, so that the nodes of a cluster do not move in step.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.8..1.2))
}
