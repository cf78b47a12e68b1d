//! containerd's native events as a second source of hints: when CRI's own event for an exit, a start or an OOM kill
//! does not follow soon, the pod is asked for. Only with containerd; another runtime simply has no such hints.

use std::time::{Duration, SystemTime};

use containerd_client::events::{ContainerCreate, TaskExit, TaskOom, TaskStart};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::types::Envelope;
use gantry_agent_core::observed::{ContainerState, ObservedPod};
use prost::Message;
use tokio::task::JoinSet;
use tonic::{Request, Status};

use super::Runtime;
use super::merge::rank;
use super::watcher::Backoff;

/// CRI's own event normally follows within a few milliseconds.
const GRACE: Duration = Duration::from_millis(500);
/// The topic of new containers.
const BIRTH: &str = "/containers/create";
/// Hints being followed at a time; more are dropped, the relist covers them.
const MAX_FOLLOWED: usize = 256;

/// What containerd says has happened to a container (or to a sandbox, which is one for containerd).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hint {
    Started(String),
    Exited(String),
    OutOfMemory(String),
}

/// Runs until it is aborted; returns at once when the runtime is not containerd.
pub(super) async fn run(runtime: Runtime) {
    let mut backoff = Backoff::default();
    loop {
        match runtime.version().await {
            Ok(version) if version.name == "containerd" => {
                if let Err(status) = subscribe(&runtime, &mut backoff).await {
                    tracing::debug!(%status, "containerd's native event stream ended");
                }
            }
            Ok(version) => {
                tracing::debug!(runtime = version.name, "no native events from this runtime");
                return;
            }
            Err(error) => tracing::debug!(%error, "waiting for the container runtime"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn subscribe(runtime: &Runtime, backoff: &mut Backoff) -> Result<(), Status> {
    let filter = |topic| format!("topic==\"/tasks/{topic}\",namespace==k8s.io");
    let mut filters = ["start", "exit", "oom"].map(filter).to_vec();
    filters.push(format!("topic==\"{BIRTH}\",namespace==k8s.io"));
    let mut stream = EventsClient::new(runtime.channel.clone())
        .subscribe(Request::new(SubscribeRequest { filters }))
        .await?
        .into_inner();
    let mut followed = JoinSet::new();
    while let Some(envelope) = stream.message().await? {
        *backoff = Backoff::default();
        while followed.try_join_next().is_some() {}
        if let Some((id, at)) = birth(&envelope) {
            runtime.births.note(id, at);
            continue;
        }
        if let Some(hint) = parse(&envelope)
            && followed.len() < MAX_FOLLOWED
        {
            followed.spawn(follow(runtime.clone(), hint));
        }
    }
    Ok(())
}

/// A container was made, and when.
fn birth(envelope: &Envelope) -> Option<(String, SystemTime)> {
    if envelope.topic != BIRTH {
        return None;
    }
    let event = ContainerCreate::decode(envelope.event.as_ref()?.value.as_slice()).ok()?;
    let at = envelope.timestamp.as_ref()?;
    let since = Duration::new(u64::try_from(at.seconds).ok()?, u32::try_from(at.nanos).ok()?);
    Some((event.id, SystemTime::UNIX_EPOCH.checked_add(since)?))
}

fn parse(envelope: &Envelope) -> Option<Hint> {
    let any = envelope.event.as_ref()?;
    let bytes = any.value.as_slice();
    match envelope.topic.as_str() {
        "/tasks/start" => TaskStart::decode(bytes)
            .ok()
            .map(|e| Hint::Started(e.container_id)),
        // The exit of a command run by exec carries the exec's id.
        "/tasks/exit" => {
            let exit = TaskExit::decode(bytes).ok()?;
            (exit.id == exit.container_id).then_some(Hint::Exited(exit.container_id))
        }
        "/tasks/oom" => TaskOom::decode(bytes)
            .ok()
            .map(|e| Hint::OutOfMemory(e.container_id)),
        _ => None,
    }
}

async fn follow(runtime: Runtime, hint: Hint) {
    let (Hint::Started(id) | Hint::Exited(id) | Hint::OutOfMemory(id)) = &hint;
    let Some(uid) = runtime.cache.owner(id) else {
        return;
    };
    let known = runtime
        .cache
        .settled(&uid, GRACE, |pod| is_known(pod, &hint))
        .await;
    if known {
        return;
    }
    let refreshed = match hint {
        Hint::Started(_) | Hint::Exited(_) => runtime.refresh(&uid).await,
        Hint::OutOfMemory(_) => runtime.refresh_fully(&uid).await,
    };
    if let Err(error) = refreshed {
        tracing::debug!(%error, uid, "could not follow up an event of containerd");
    }
}

/// The pod's picture shows what the hint says.
fn is_known(pod: &ObservedPod, hint: &Hint) -> bool {
    match hint {
        Hint::Started(id) => pod.containers.iter().all(|c| c.id != *id || rank(&c.state) > 0),
        Hint::Exited(id) => {
            pod.containers
                .iter()
                .all(|c| c.id != *id || matches!(c.state, ContainerState::Exited(_)))
                && pod.sandboxes.iter().all(|s| s.id != *id || !s.ready)
        }
        // While the container lives on, its exit will tell.
        Hint::OutOfMemory(id) => pod.containers.iter().all(|c| {
            c.id != *id || matches!(&c.state, ContainerState::Exited(exit) if exit.reason == "OOMKilled")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, event: &impl Message) -> Envelope {
        let event = prost_types::Any {
            type_url: String::new(),
            value: event.encode_to_vec(),
        };
        Envelope {
            topic: topic.to_owned(),
            event: Some(event),
            ..Envelope::default()
        }
    }

    #[test]
    fn a_birth_has_a_time() {
        let create = ContainerCreate {
            id: "c".into(),
            ..ContainerCreate::default()
        };
        let mut envelope = envelope(BIRTH, &create);
        assert_eq!(birth(&envelope), None, "no time");
        envelope.timestamp = Some(prost_types::Timestamp { seconds: 5, nanos: 7 });
        let at = SystemTime::UNIX_EPOCH + Duration::new(5, 7);
        assert_eq!(birth(&envelope), Some(("c".to_owned(), at)));
        envelope.topic = "/containers/delete".to_owned();
        assert_eq!(birth(&envelope), None);
    }

    #[test]
    fn an_exec_exit_is_no_hint() {
        let exit = |id: &str| TaskExit {
            container_id: "c".into(),
            id: id.into(),
            ..TaskExit::default()
        };
        assert_eq!(
            parse(&envelope("/tasks/exit", &exit("c"))),
            Some(Hint::Exited("c".into()))
        );
        assert_eq!(parse(&envelope("/tasks/exit", &exit("exec-1"))), None);
        assert_eq!(parse(&envelope("/images/create", &exit("c"))), None);
    }

    proptest::proptest! {
        #[test]
        fn no_event_makes_the_reader_panic(
            topic in "/tasks/(start|exit|oom)|/containers/create",
            value: Vec<u8>,
            seconds: i64,
            nanos: i32,
        ) {
            let event = prost_types::Any {
                type_url: String::new(),
                value,
            };
            let envelope = Envelope {
                topic,
                event: Some(event),
                timestamp: Some(prost_types::Timestamp { seconds, nanos }),
                ..Envelope::default()
            };
            let _ = (parse(&envelope), birth(&envelope));
        }
    }
}
