//! Runs the probes of containers and tells the pod's worker what they say.
//!
//! ```text
//! worker ── start(target) ──> ProbeSet: one task per probe ── run when the machine (core) says so ──> http, tcp, exec, grpc
//!        <── mpsc ProbeEvent (verdicts that changed, warnings for events) ───────────────────────────┘
//! ```
//!
//! * Inputs: a running container instance and the pod's address. Outputs: [`ProbeEvent`]s. The worker drops the
//!   [`ProbeSet`] when the instance ends; that ends its tasks, and a run in flight with them.
//! * A task sleeps until its machine's next deadline and holds nothing but the machine and a reference to the pod. A
//!   probe never overlaps with itself; no thread is made for it.
//! * [`http`]: requests, shared with hooks; [`check`]: one run of a probe; [`grpc`]: the health protocol.

pub(crate) mod check;
mod grpc;
pub(crate) mod http;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use gantry_agent_core::probe::{Birth, Outcome, ProbeKind, ProbeMachine, ProbeSettings, Verdict};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::{ProbeMetrics, ProbeSeries};
use crate::runtime::{ExecOutput, Runtime, RuntimeError};

use self::check::{Answer, Checker};

/// Runs a command in a container: the part of the runtime that probes and hooks need.
pub(crate) trait ContainerExec: Send + Sync + 'static {
    /// Runs the command; the runtime kills it after `limit` (zero: the runtime's own limit).
    fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<ExecOutput, RuntimeError>>;
}

impl ContainerExec for Runtime {
    fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<ExecOutput, RuntimeError>> {
        let (runtime, id) = (self.clone(), container_id.to_owned());
        Box::pin(async move { runtime.exec_sync(&id, command, limit).await })
    }
}

/// Starts probes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Probes {
    exec: Arc<dyn ContainerExec>,
    metrics: ProbeMetrics,
}

/// A container instance to be probed.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The pod; its spec names the container.
    pub(crate) pod: Arc<Pod>,
    /// The container's name.
    pub(crate) container: String,
    /// The instance.
    pub(crate) container_id: String,
    /// The pod's address (the node's, for host network pods): the default host of network probes.
    pub(crate) pod_ip: Option<IpAddr>,
    /// When the instance was started.
    pub(crate) started_at: Timestamp,
    /// It is known to have started: its startup probe succeeded in an earlier run of the agent.
    pub(crate) started: bool,
    /// It ran before the agent did: the last known verdicts stay until the first result, which comes after a random
    /// part of the period.
    pub(crate) adopted: bool,
}

/// What a probe has to say. Sent only when there is a new verdict or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeEvent {
    /// The container's name.
    pub(crate) container: String,
    /// The instance.
    pub(crate) container_id: String,
    /// Which probe.
    pub(crate) kind: ProbeKind,
    /// The verdict, when it is another than before.
    pub(crate) verdict: Option<Verdict>,
    /// An event for the container, of type `Warning`.
    pub(crate) warning: Option<Warning>,
}

/// An event for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    /// `Unhealthy` or `ProbeWarning`.
    pub(crate) reason: &'static str,
    /// As the reference writes it: `Readiness probe failed: HTTP probe failed with statuscode: 500`.
    pub(crate) message: String,
}

/// The probes of one container instance; dropping it ends them.
#[derive(Debug)]
pub(crate) struct ProbeSet {
    stage: Arc<watch::Sender<Stage>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
    /// A startup probe that has succeeded is shown until the instance ends.
    _series: Vec<Arc<ProbeSeries>>,
}

/// What all probes of an instance have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The startup probe has not succeeded. Left when it does.
    Starting,
    /// Liveness and readiness are probed. Left when the pod terminates.
    Started,
    /// Only readiness is probed. Final.
    Terminating,
}

impl Probes {
    /// Probes that run commands through `exec`, the runtime.
    pub(crate) fn new(exec: Arc<dyn ContainerExec>, metrics: ProbeMetrics) -> Self {
        Self { exec, metrics }
    }

    /// Starts the probes of a container instance that runs; `None` when it has none. Initial verdicts are not sent:
    /// they are [`ProbeKind::initial`], or the last known ones for an adopted instance.
    pub(crate) fn start(&self, target: Target, events: &mpsc::Sender<ProbeEvent>) -> Option<ProbeSet> {
        let container = find(&target.pod, &target.container)?;
        let has_startup = container.startup_probe.is_some();
        let started = target.started || !has_startup;
        let stage = Arc::new(watch::Sender::new(if started {
            Stage::Started
        } else {
            Stage::Starting
        }));
        let begun = instant_of(target.started_at);
        let (mut tasks, mut all_series) = (Vec::new(), Vec::new());
        for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
            let Some(probe) = probe_of(container, kind) else {
                continue;
            };
            if kind == ProbeKind::Startup && target.started {
                continue;
            }
            let settings = ProbeSettings::from_api(probe);
            let spread = target.adopted.then(|| settings.period.mul_f64(rand::random()));
            let birth = Birth {
                started: begun,
                gated: !started,
                adopted: spread,
            };
            let series = Arc::new(self.metrics.of(&target.pod, &target.container, kind));
            all_series.push(Arc::clone(&series));
            let runner = Runner {
                machine: ProbeMachine::new(kind, settings, birth, Instant::now()),
                series,
                target: target.clone(),
                checker: Checker::new(Arc::clone(&self.exec)),
                stage: Arc::clone(&stage),
                events: events.clone(),
            };
            tasks.push(AbortOnDropHandle::new(tokio::spawn(runner.run())));
        }
        (!tasks.is_empty()).then_some(ProbeSet {
            stage,
            _tasks: tasks,
            _series: all_series,
        })
    }
}

impl ProbeSet {
    /// The pod terminates: readiness goes on, the others end.
    pub(crate) fn terminate(&self) {
        self.stage.send_replace(Stage::Terminating);
    }
}

/// The task of one probe.
struct Runner {
    machine: ProbeMachine,
    target: Target,
    series: Arc<ProbeSeries>,
    checker: Checker,
    stage: Arc<watch::Sender<Stage>>,
    events: mpsc::Sender<ProbeEvent>,
}

impl Runner {
    async fn run(mut self) {
        let mut stage = self.stage.subscribe();
        loop {
            self.enter(*stage.borrow_and_update());
            if self.machine.is_done() {
                return;
            }
            tokio::select! {
                // Cancel safe: the deadline is asked for again.
                () = sleep_until(self.machine.next_deadline()) => {}
                // Cancel safe, by its documentation. The sender is in `self`, so it is never closed.
                _ = stage.changed() => continue,
            }
            if self.machine.begin(Instant::now()) && !self.probe().await {
                return;
            }
        }
    }

    /// One run. `false`: nobody listens any more.
    async fn probe(&mut self) -> bool {
        let kind = self.machine.kind();
        let container = find(&self.target.pod, &self.target.container);
        let Some((container, probe)) = container.and_then(|c| Some((c, probe_of(c, kind)?))) else {
            return false;
        };
        let begun = Instant::now();
        let answer = self
            .checker
            .check(probe, container, &self.target, self.machine.timeout())
            .await;
        // Terminating since the run began: its result must not count.
        let stage = *self.stage.borrow();
        self.enter(stage);
        let (outcome, warning) = judge(kind, answer);
        let now = Instant::now();
        self.series.ran(outcome, now.duration_since(begun));
        let verdict = match outcome {
            Some(outcome) => self.machine.finish(outcome, now),
            None => {
                self.machine.abandon(now);
                None
            }
        };
        if kind == ProbeKind::Startup && verdict == Some(Verdict::Success) {
            self.stage.send_if_modified(|stage| {
                let starting = *stage == Stage::Starting;
                if starting {
                    *stage = Stage::Started;
                }
                starting
            });
        }
        self.tell(kind, verdict, warning).await
    }

    fn enter(&mut self, stage: Stage) {
        match stage {
            Stage::Starting => {}
            Stage::Started => self.machine.open_gate(Instant::now()),
            Stage::Terminating => self.machine.terminate(),
        }
    }

    async fn tell(&self, kind: ProbeKind, verdict: Option<Verdict>, warning: Option<Warning>) -> bool {
        if verdict.is_none() && warning.is_none() {
            return true;
        }
        let event = ProbeEvent {
            container: self.target.container.clone(),
            container_id: self.target.container_id.clone(),
            kind,
            verdict,
            warning,
        };
        self.events.send(event).await.is_ok()
    }
}

/// What an answer counts for, and what users are told of it.
fn judge(kind: ProbeKind, answer: Answer) -> (Option<Outcome>, Option<Warning>) {
    let warning = |reason, what: &str, text: String| {
        let message = format!("{} probe {what}: {text}", kind.title());
        Some(Warning { reason, message })
    };
    match answer {
        Answer::Success => (Some(Outcome::Success), None),
        Answer::Warning(text) => (Some(Outcome::Success), warning("ProbeWarning", "warning", text)),
        Answer::Failure(text) => (Some(Outcome::Failure), warning("Unhealthy", "failed", text)),
        Answer::Error(text) => (
            None,
            warning("Unhealthy", "errored and resulted in unknown state", text),
        ),
    }
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|container| container.name == name)
}

fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// The moment on the monotonic clock. A time in the future (another clock) is now.
fn instant_of(time: Timestamp) -> Instant {
    let now = Instant::now();
    let age = Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
