//! Events for users, as the reference writes them. There are few: what comes while too many wait, or while the API server does not
//! take them for long, is given up.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::programmer::with_cause;

/// `reportingController`.
const CONTROLLER: &str = "kube-proxy";
/// Events that wait.
const DEPTH: usize = 64;
/// Tries while the API server does not answer, and the pause between two.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    regarding: ObjectReference,
    is_warning: bool,
    reason: &'static str,
    action: &'static str,
    note: String,
}

impl Happening {
    fn namespace(&self) -> &str {
        self.regarding.namespace.as_deref().unwrap_or("default")
    }

    fn event(&self, host: &str, at: Timestamp) -> Event {
        let regarding = self.regarding.clone();
        let name = regarding.name.as_deref().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", at.as_nanosecond())),
                namespace: Some(self.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(at)),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(format!("{CONTROLLER}-{host}")),
            action: Some(self.action.into()),
            reason: Some(self.reason.into()),
            regarding: Some(regarding),
            note: Some(self.note.clone()),
            type_: Some(if self.is_warning { "Warning" } else { "Normal" }.into()),
            ..Event::default()
        }
    }
}

fn reference(kind: &str, namespace: Option<&str>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some(kind.into()),
        namespace: namespace.map(str::to_owned),
        name: Some(name.into()),
        ..ObjectReference::default()
    }
}

/// Takes events of this node's program; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    node: Arc<str>,
    queue: mpsc::Sender<Happening>,
}

impl Events {
    /// Where they come out is to be read by somebody.
    #[must_use]
    pub fn new(node: &str) -> (Self, mpsc::Receiver<Happening>) {
        let (queue, out) = mpsc::channel(DEPTH);
        let node = node.into();
        (Self { node, queue }, out)
    }

    /// The program starts.
    pub fn starting(&self) {
        self.tell(Happening {
            regarding: reference("Node", None, &self.node),
            is_warning: false,
            reason: "Starting",
            action: "StartKubeProxy",
            note: String::new(),
        });
    }

    /// One of the program's own ports is not served, for which it ends.
    pub fn port_not_served(&self, reason: &'static str, error: &str) {
        self.tell(Happening {
            regarding: reference("Node", None, &self.node),
            is_warning: true,
            reason,
            action: "StartKubeProxy",
            note: error.to_owned(),
        });
    }

    /// The health check of a service (`namespace/name`) cannot be served.
    pub fn check_not_served(&self, service: &str, port: u16, error: &str) {
        let (namespace, name) = service.split_once('/').unwrap_or_default();
        let node = &self.node;
        self.tell(Happening {
            regarding: reference("Service", Some(namespace), name),
            is_warning: true,
            reason: "FailedToStartServiceHealthcheck",
            action: "Listen",
            note: format!("node {node} failed to start healthcheck {service:?} on port {port}: {error}"),
        });
    }

    fn tell(&self, happening: Happening) {
        if self.queue.try_send(happening).is_err() {
            debug!("too many events; one is not written");
        }
    }
}

/// Starts the task that writes what is told, until nobody is left who tells.
#[must_use]
pub fn start(client: Client, node: &str, host: String) -> (Events, JoinHandle<()>) {
    let (events, mut queue) = Events::new(node);
    let writer = tokio::spawn(async move {
        while let Some(happening) = queue.recv().await {
            write(&client, &host, &happening).await;
        }
    });
    (events, writer)
}

/// Writes one, with patience.
async fn write(client: &Client, host: &str, happening: &Happening) {
    let event = happening.event(host, Timestamp::now());
    let api: Api<Event> = Api::namespaced(client.clone(), happening.namespace());
    for _ in 0..TRIES {
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => return,
            Err(error @ kube::Error::Api(_)) => {
                let reason = happening.reason;
                warn!(reason, error = with_cause(&error), "an event is not written");
                return;
            }
            Err(error) => debug!(
                error = with_cause(&error),
                "an event is not written; trying again"
            ),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_references_words() {
        let (events, mut out) = Events::new("n");
        events.check_not_served("ns/web", 31000, "in use");
        events.starting();
        let at = Timestamp::from_second(1).expect("a time");
        let mut next = || out.try_recv().expect("it was told").event("h", at);
        let failed = next();
        assert_eq!(failed.metadata.name.as_deref(), Some("web.3b9aca00"));
        assert_eq!(failed.metadata.namespace.as_deref(), Some("ns"));
        assert_eq!(
            failed.note.as_deref(),
            Some("node n failed to start healthcheck \"ns/web\" on port 31000: in use")
        );
        assert_eq!(failed.reporting_instance.as_deref(), Some("kube-proxy-h"));
        let start = next();
        assert_eq!(start.metadata.namespace.as_deref(), Some("default"));
        let regarding = start.regarding.expect("the node");
        assert_eq!(
            (regarding.kind.as_deref(), regarding.namespace),
            (Some("Node"), None)
        );
    }
}
