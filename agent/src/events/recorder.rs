//! The task that writes events to the API server.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::core::v1::{Event, EventSource},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{pods::Turns, report::Chain};

use super::{
    EventType, Events, Happening,
    correlate::{Correlator, Decision},
};

/// `source.component`.
const COMPONENT: &str = "kubelet";
/// Tries before an event is given up while the API server does not answer; the queue fills meanwhile.
const TRIES: u32 = 12;
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(10);

/// So long after it happened waits what is normal, for the node to have nothing to start or stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Start the recorder task; it ends when every [`Events`] handle is gone. `per_second` 0: no limit.
pub(crate) fn start(client: Client, node: &str, per_second: u32, burst: u32, turns: Turns) -> Events {
    let (events, queue) = Events::new(node);
    let recorder = Recorder {
        client,
        node: node.to_owned(),
        correlator: Correlator::default(),
        rate: Rate::new(per_second, burst),
        turns,
    };
    tokio::spawn(recorder.run(queue));
    events
}

struct Recorder {
    client: Client,
    node: String,
    correlator: Correlator,
    rate: Rate,
    turns: Turns,
}

impl Recorder {
    async fn run(mut self, mut queue: mpsc::Receiver<Happening>) {
        while let Some(happening) = queue.recv().await {
            match happening.kind {
                EventType::Normal => self.turns.rest(patience(&happening, Timestamp::now())).await,
                EventType::Warning => {}
            }
            self.handle(&happening).await;
        }
    }

    async fn handle(&mut self, happening: &Happening) {
        let reason = &happening.reason;
        for _ in 0..2 {
            match self.correlator.decide(happening, Instant::now()) {
                Decision::Skip => return,
                Decision::Create { key, message } => {
                    let event = self.event(happening, message);
                    let name = event.metadata.name.clone().unwrap_or_default();
                    match self
                        .insist(
                            |api| {
                                let event = event.clone();
                                async move { api.create(&PostParams::default(), &event).await.map(|_| ()) }
                            },
                            namespace(happening),
                        )
                        .await
                    {
                        Ok(()) => self.correlator.created(&key, name),
                        Err(error) => tracing::warn!(reason, error = %Chain(&error), "event not written"),
                    }
                    return;
                }
                Decision::Repeat {
                    key,
                    name,
                    count,
                    message,
                } => {
                    let body =
                        json!({"count": count, "message": message, "lastTimestamp": Time(happening.at)});
                    match self
                        .insist(
                            |api| {
                                let (name, body) = (name.clone(), body.clone());
                                async move {
                                    api.patch(&name, &PatchParams::default(), &Patch::Strategic(body))
                                        .await
                                        .map(|_| ())
                                }
                            },
                            namespace(happening),
                        )
                        .await
                    {
                        Err(kube::Error::Api(status)) if status.code == 404 => self.correlator.lost(&key),
                        Err(error) => {
                            return tracing::warn!(reason, error = %Chain(&error), "event not written");
                        }
                        Ok(()) => return,
                    }
                }
            }
        }
    }

    /// Try until the API server answers, whatever it says.
    async fn insist<F, Fut>(&mut self, request: F, namespace: &str) -> Result<(), kube::Error>
    where
        F: Fn(Api<Event>) -> Fut,
        Fut: Future<Output = Result<(), kube::Error>>,
    {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let mut tries = 0;
        loop {
            tokio::time::sleep(self.rate.take(Instant::now())).await;
            tries += 1;
            match request(api.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ kube::Error::Api(_)) => return Err(error),
                Err(error) if tries >= TRIES => return Err(error),
                Err(error) => tracing::debug!(error = %Chain(&error), "event not written, will retry"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn event(&self, happening: &Happening, message: String) -> Event {
        let about = &happening.about;
        Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}",
                    about.name.as_deref().unwrap_or("unknown"),
                    Timestamp::now().as_nanosecond()
                )),
                namespace: Some(namespace(happening).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: about.clone(),
            type_: Some(happening.kind.as_str().to_owned()),
            reason: Some(happening.reason.clone()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(Time(happening.at)),
            last_timestamp: Some(Time(happening.at)),
            source: Some(EventSource {
                component: Some(COMPONENT.into()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some(COMPONENT.into()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        }
    }
}

/// How long a normal event may still wait.
fn patience(happening: &Happening, now: Timestamp) -> Duration {
    let waited = Duration::try_from(now.duration_since(happening.at)).unwrap_or_default();
    PATIENCE.saturating_sub(waited)
}

/// Events about things without a namespace go to `default`.
fn namespace(happening: &Happening) -> &str {
    happening.about.namespace.as_deref().unwrap_or("default")
}

/// A token bucket over all events.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    last: Instant,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(per_second),
            burst,
            tokens: burst,
            last: Instant::now(),
        }
    }

    /// Take one token; the answer is how long to wait for it.
    fn take(&mut self, now: Instant) -> Duration {
        if self.per_second == 0.0 {
            return Duration::ZERO;
        }
        let refill = now.saturating_duration_since(self.last).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + refill).min(self.burst) - 1.0;
        self.last = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.per_second)
    }
}

#[cfg(test)]
mod tests;
