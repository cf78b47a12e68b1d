//! The task of one pod: waits for one typed event, gives it to the machine (core), begins the steps that it plans,
//! publishes the status that it computes.
//!
//! * Inputs: the pod as wanted (watch, latest wins), the pod as the runtime has it (watch, latest wins), verdicts of
//!   probes (mpsc), ends of its own steps (polled in this task), the machine's next deadline.
//! * Outputs: through [`Hands`].
//! * Ends when nothing of the pod is left, or when the manager goes; then everything it held (steps in flight, probes,
//!   turn) is dropped and the pod goes on running.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures::future::BoxFuture;
use gantry_agent_core::{
    machine::{Event, Failure, NodeFacts, Notice, Now, Plan, PodMachine, Step, StepKey},
    observed::{ContainerState, ObservedPod},
    status::pod_ips,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{mpsc, watch};

use super::{
    account::{Account, PodCounters},
    steps::{Ended, StepResult, Steps},
    turns::{StartTurn, Turns},
};
use crate::{
    metrics::{Pass, Phase},
    probes::{ProbeEvent, ProbeSet, Target},
};

/// Verdicts wait here while the worker is busy for microseconds; a probe that finds it full waits as well.
const PROBE_QUEUE: usize = 8;

/// What the manager wants of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The API object as last seen.
    pub(crate) pod: Arc<Pod>,
    /// The API server has it.
    pub(crate) present: bool,
}

/// A step and what it is about.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) step: Step,
    pub(crate) pod: Arc<Pod>,
    /// The pod's addresses; the node's for a pod in the node's network.
    pub(crate) pod_ips: Vec<IpAddr>,
}

/// What a worker does to the world.
pub(crate) trait Hands: Send + Sync + 'static {
    /// Carries out a step. What may be dropped half way is `StepKey::droppable`.
    fn run(&self, job: Job) -> BoxFuture<'static, StepResult>;
    /// Makes this the pod's status in the API, soon.
    fn publish(&self, pod: &Pod, status: PodStatus);
    /// Leaves an event.
    fn notice(&self, pod: &Pod, notice: Notice);
    /// Starts the probes of a container instance, if it has any.
    fn probe(&self, target: Target, events: &mpsc::Sender<ProbeEvent>) -> Option<ProbeSet>;
    /// Answers when something that the pod's volumes are made of has changed. Cancel safe.
    fn inputs_changed(&self, uid: String) -> BoxFuture<'static, ()>;
    /// The API object is gone.
    fn forget(&self, uid: &str);
}

/// How a worker begins.
pub(crate) struct Beginning {
    pub(crate) wanted: watch::Receiver<Wanted>,
    pub(crate) observed: watch::Receiver<Arc<ObservedPod>>,
    pub(crate) facts: Arc<NodeFacts>,
    /// The node does not take the pod.
    pub(crate) rejected: Option<Failure>,
    /// Set when the pod has ended: it uses nothing of the node.
    pub(crate) finished: Arc<AtomicBool>,
    /// Where it is counted.
    pub(crate) counters: PodCounters,
}

/// The worker; see the module's documentation.
pub(crate) struct Worker<H> {
    hands: H,
    turns: Turns,
    machine: PodMachine,
    counters: PodCounters,
    account: Account,
    wanted: watch::Receiver<Wanted>,
    observed: watch::Receiver<Arc<ObservedPod>>,
    finished: Arc<AtomicBool>,
    steps: Steps,
    turn: Option<StartTurn>,
    /// By container ID; `None` for one without probes.
    probes: HashMap<String, Option<ProbeSet>>,
    probe_events: (mpsc::Sender<ProbeEvent>, mpsc::Receiver<ProbeEvent>),
    /// Containers that ran before the agent did.
    adopted: HashSet<String>,
    /// Armed while a step waits for objects.
    inputs: Option<BoxFuture<'static, ()>>,
}

/// What a worker wakes up for.
enum Wake {
    Wanted,
    Observed(Arc<ObservedPod>),
    Step(Ended),
    Probe(ProbeEvent),
    Inputs,
    Deadline,
    /// The manager has gone.
    Over,
}

/// The time.
pub(crate) fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: Timestamp::now(),
    }
}

impl<H: Hands> Worker<H> {
    pub(crate) fn new(beginning: Beginning, hands: H, turns: Turns) -> Self {
        let Beginning {
            mut wanted,
            mut observed,
            facts,
            rejected,
            finished,
            counters,
        } = beginning;
        let (first, seen) = (
            wanted.borrow_and_update().clone(),
            observed.borrow_and_update().clone(),
        );
        let account = Account::new(counters.clone(), &first.pod, first.present, Instant::now());
        let adopted = seen.containers.iter().map(|c| c.id.clone()).collect();
        let mut machine = if first.present {
            PodMachine::new(first.pod, seen, facts, now())
        } else {
            PodMachine::orphan(seen, facts, now())
        };
        if let Some(failure) = rejected {
            machine.on_event(Event::Reject(failure), now());
        }
        Self {
            hands,
            turns,
            machine,
            counters,
            account,
            wanted,
            observed,
            finished,
            steps: Steps::default(),
            turn: None,
            probes: HashMap::new(),
            probe_events: mpsc::channel(PROBE_QUEUE),
            adopted,
            inputs: None,
        }
    }

    pub(crate) async fn run(mut self) {
        self.account.begins(self.machine.pod());
        loop {
            let plan = self.machine.plan(now());
            self.act(plan);
            self.tell();
            self.account.acted(&self.machine, self.steps.in_flight());
            if self.machine.gone() {
                return;
            }
            match self.wake().await {
                Wake::Over => return,
                wake => {
                    let update = matches!(wake, Wake::Wanted);
                    self.account.wakes(if update { Pass::Update } else { Pass::Sync });
                    self.take(wake);
                }
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let deadline = self.machine.next_deadline(now());
        tokio::select! {
            // Cancel safe: `changed` marks the value as seen only when it answers.
            changed = self.wanted.changed() => if changed.is_ok() { Wake::Wanted } else { Wake::Over },
            // Cancel safe, as above. The cache never drops a watch that is held.
            Ok(()) = self.observed.changed() => Wake::Observed(self.observed.borrow_and_update().clone()),
            // Cancel safe, by its documentation.
            ended = self.steps.next() => Wake::Step(ended),
            // Cancel safe, by tokio's documentation. The sender is in `self`.
            Some(event) = self.probe_events.1.recv() => Wake::Probe(event),
            // Cancel safe: the future stays where it is.
            () = armed(&mut self.inputs) => Wake::Inputs,
            // Cancel safe: asked for again.
            () = until(deadline) => Wake::Deadline,
        }
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Wanted => {
                let Wanted { pod, present } = self.wanted.borrow_and_update().clone();
                self.account.shown(&pod);
                self.machine.on_event(Event::Desired(pod), now());
                if !present {
                    self.machine.on_event(Event::Removed, now());
                    self.hands.forget(&self.uid());
                }
            }
            Wake::Observed(observed) => self.machine.on_event(Event::Observed(observed), now()),
            Wake::Step(ended) => self.step_ended(ended),
            Wake::Probe(event) => self.probe_event(event),
            Wake::Inputs => {
                self.inputs = None;
                self.machine.on_event(Event::InputsChanged, now());
            }
            Wake::Deadline | Wake::Over => {}
        }
    }

    fn step_ended(&mut self, ended: Ended) {
        let Ended { step, result, turn } = ended;
        if turn.is_some() {
            self.turn = turn;
        }
        if matches!(step, StepKey::EnsureImage(_)) {
            self.account.awaits_image(false);
        }
        tracing::debug!(?step, ok = result.is_ok(), "step ended");
        if result.is_err() && matches!(step, StepKey::SetUp | StepKey::Start(_)) {
            self.inputs = Some(self.hands.inputs_changed(self.uid()));
        }
        self.machine.on_event(Event::StepDone { step, result }, now());
    }

    fn probe_event(&mut self, event: ProbeEvent) {
        let ProbeEvent {
            container,
            container_id,
            kind,
            verdict,
            warning,
        } = event;
        if let Some(warning) = warning {
            let (reason, message) = (warning.reason.to_owned(), warning.message);
            let notice = Notice {
                container: Some(container),
                warning: true,
                reason,
                message,
            };
            self.hands.notice(self.machine.pod(), notice);
        }
        if let Some(verdict) = verdict {
            self.machine.on_event(
                Event::Probe {
                    container_id,
                    kind,
                    verdict,
                },
                now(),
            );
        }
    }

    fn act(&mut self, plan: Plan) {
        if plan.release_turn {
            self.turn = None;
        }
        for step in &plan.cancel {
            if matches!(step, StepKey::EnsureImage(_)) {
                self.account.awaits_image(false);
            }
            self.steps.cancel(step);
        }
        for step in plan.start {
            if step == Step::TakeTurn {
                let (turns, starts) = (self.turns.clone(), self.counters.starts.clone());
                let begun = Instant::now();
                self.steps.begin_turn(Box::pin(async move {
                    let turn = turns.start().await;
                    starts.phase(Phase::Queue, begun.elapsed());
                    turn
                }));
                continue;
            }
            let job = Job {
                pod: self.machine.pod().clone(),
                pod_ips: self.pod_ips(),
                step,
            };
            let key = job.step.key();
            if matches!(key, StepKey::EnsureImage(_)) {
                self.account.awaits_image(true);
            }
            tracing::debug!(step = ?key, "step begins");
            self.steps.begin(key, self.hands.run(job));
        }
    }

    fn tell(&mut self) {
        for notice in self.machine.take_notices() {
            self.hands.notice(self.machine.pod(), notice);
        }
        if self.machine.publishes() {
            let old = self.machine.last_status().clone();
            let status = self.machine.status(now()).clone();
            self.account.status(&old, &status);
            self.hands.publish(self.machine.pod(), status);
        }
        self.finished.store(self.machine.finished(), Ordering::Relaxed);
        self.follow_containers();
    }

    /// Probes begin and end with the containers that they are about.
    fn follow_containers(&mut self) {
        let machine = &self.machine;
        self.probes.retain(|id, _| machine.probed().any(|c| c.id == *id));
        let syncing = machine.syncing();
        for container in machine.probed() {
            if self.probes.contains_key(&container.id) || !syncing {
                continue;
            }
            let ContainerState::Running { started_at } = container.state else {
                continue;
            };
            let target = Target {
                pod: machine.pod().clone(),
                container: container.name.clone(),
                container_id: container.id.clone(),
                pod_ip: self.pod_ips().first().copied(),
                started_at,
                started: machine.was_started(&container.id),
                adopted: self.adopted.contains(&container.id),
            };
            let set = self.hands.probe(target, &self.probe_events.0);
            self.probes.insert(container.id.clone(), set);
        }
        if !syncing {
            self.probes.values().flatten().for_each(ProbeSet::terminate);
        }
    }

    fn pod_ips(&self) -> Vec<IpAddr> {
        let machine = &self.machine;
        let sandbox = machine.observed().sandbox();
        pod_ips(machine.pod(), sandbox.map_or(&[], |s| &s.ips), machine.host_ips())
    }

    fn uid(&self) -> String {
        self.machine.pod().metadata.uid.clone().unwrap_or_default()
    }
}

async fn armed(inputs: &mut Option<BoxFuture<'static, ()>>) {
    match inputs {
        Some(changed) => changed.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
