//! One pod on this node, as a state machine without IO and without a clock.
//!
//! In: [`Event`]s (the API object, observations of the runtime, verdicts of probes, ends of steps). Out:
//! [`PodMachine::plan`] (steps for the shell), [`PodMachine::status`] (what the API shall show),
//! [`PodMachine::next_deadline`] (when to look again if nothing happens) and [`PodMachine::take_notices`] (events).
//!
//! ```text
//!            deleted, gone from the API, deadline,      nothing runs,       gone from the API,
//!            rejected, evicted, all containers done     sandbox stopped     volumes unmounted       nothing left
//!  Syncing ───────────────────────────────> Terminating ──────────> Terminated ──────────> Removing ──────────> Gone
//! ```
//!
//! No arrow leads back: a pod that terminates never starts again (kubelet: `pod_workers.go`). Every call decides on
//! the whole desired and observed state; what is remembered besides is what neither of them can tell: steps in
//! flight, failures and their back-off, containers that the agent itself is stopping.

mod ending;
mod event;
mod events;
mod kills;
mod retry;
mod stage;
mod step;
mod sync;
mod verdicts;
mod view;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

pub use self::{
    event::{Event, Failure, Now},
    step::{Image, ImageUser, Notice, Outcome, Plan, Retry, Start, Step, StepError, StepKey},
    verdicts::Verdicts,
};
use self::{
    kills::Kill,
    retry::Retries,
    stage::{Ending, Stage, Turn},
    view::View,
};
use crate::{
    backoff::Crashes,
    observed::{ContainerState, ObservedPod},
    pod::{self, Spec},
    status,
};

/// A start that takes longer than this gives its turn back: a stuck one must not keep the other pods waiting.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// What the machine has to know about its node.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// The node's addresses, the primary one first: `status.hostIPs`.
    pub host_ips: Vec<IpAddr>,
    /// The longest crash back-off (`crashLoopBackOff.maxContainerRestartPeriod`).
    pub max_restart_period: Option<Duration>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct PodMachine {
    pod: Arc<Pod>,
    /// The API has the object.
    present: bool,
    facts: Arc<NodeFacts>,
    stage: Stage,
    view: View,
    /// With the time they began.
    in_flight: BTreeMap<StepKey, Instant>,
    retries: Retries,
    /// Images that are ready for the next start, by container name.
    images: BTreeMap<String, Image>,
    crashes: Crashes,
    /// Containers that are being stopped, by ID.
    kills: BTreeMap<String, Kill>,
    /// IDs of containers that the agent stopped in order to start them again, whatever their exit code.
    again: BTreeSet<String>,
    /// Containers whose postStart hook has not ended: ID to name.
    hooks: BTreeMap<String, String>,
    verdicts: BTreeMap<String, Verdicts>,
    /// Exits whose back-off was announced, by container ID.
    told: BTreeSet<String>,
    turn: Turn,
    /// Files of volumes may show metadata that has changed.
    stale_files: bool,
    cancel: Vec<StepKey>,
    notices: Vec<Notice>,
    /// As computed last; at first what the API has.
    status: PodStatus,
}

impl PodMachine {
    /// A pod that the API has bound to this node, and what the runtime holds of it.
    #[must_use]
    pub fn new(pod: Arc<Pod>, observed: Arc<ObservedPod>, facts: Arc<NodeFacts>, now: Now) -> Self {
        let mut status = pod.status.clone().unwrap_or_default();
        status.start_time.get_or_insert(status::time(now.wall));
        Self {
            pod,
            present: true,
            stage: Stage::Syncing { set_up: false },
            view: View::new(observed),
            in_flight: BTreeMap::new(),
            retries: Retries::default(),
            images: BTreeMap::new(),
            crashes: facts
                .max_restart_period
                .map_or_else(Crashes::default, Crashes::new),
            kills: BTreeMap::new(),
            again: BTreeSet::new(),
            hooks: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            told: BTreeSet::new(),
            turn: Turn::Idle,
            stale_files: false,
            cancel: Vec::new(),
            notices: Vec::new(),
            status,
            facts,
        }
    }

    /// A pod that only the runtime knows: it was deleted while the agent was away.
    #[must_use]
    pub fn orphan(observed: Arc<ObservedPod>, facts: Arc<NodeFacts>, now: Now) -> Self {
        let metadata = ObjectMeta {
            name: Some(observed.name.clone()),
            namespace: Some(observed.namespace.clone()),
            uid: Some(observed.uid.clone()),
            ..ObjectMeta::default()
        };
        let names: BTreeSet<&String> = observed.containers.iter().map(|c| &c.name).collect();
        let containers = names.into_iter().map(|name| Container {
            name: name.clone(),
            ..Container::default()
        });
        let grace = observed.containers.iter().filter_map(|c| c.grace_secs).max();
        let spec = PodSpec {
            containers: containers.collect(),
            termination_grace_period_seconds: grace,
            ..PodSpec::default()
        };
        let pod = Pod {
            metadata,
            spec: Some(spec),
            status: None,
        };
        let mut machine = Self::new(Arc::new(pod), observed, facts, now);
        machine.present = false;
        machine
    }

    /// The steps that may begin now. They count as in flight until [`Event::StepDone`] or [`Plan::cancel`].
    pub fn plan(&mut self, now: Now) -> Plan {
        self.advance(now);
        let mut wanted = match &self.stage {
            Stage::Syncing { set_up } => self.plan_syncing(*set_up, now),
            Stage::Terminating(ending) => self.plan_terminating(&ending.clone(), now),
            Stage::Terminated {
                ending,
                freed,
                deleted,
            } => {
                let (unmounted, freed, deleted) = (ending.unmounted, *freed, *deleted);
                self.plan_terminated(unmounted, freed, deleted, now)
            }
            Stage::Removing { cleaned } => self.plan_removing(*cleaned),
            Stage::Gone => Vec::new(),
        };
        if self.view.doubt_at().is_some_and(|at| at <= now.instant) {
            wanted.push(Step::Observe);
        }
        let mut plan = Plan {
            cancel: std::mem::take(&mut self.cancel),
            ..Plan::default()
        };
        for step in wanted {
            let key = step.key();
            if !self.in_flight.contains_key(&key) && self.retries.ready(&key, now.instant) {
                self.begin(&step, now);
                self.in_flight.insert(key, now.instant);
                plan.start.push(step);
            }
        }
        plan.release_turn = self.turn_over(now);
        plan
    }

    /// When [`PodMachine::plan`] and [`PodMachine::status`] can differ although nothing has happened; call it after
    /// them. Never in the past.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<Instant> {
        let turn = match self.turn {
            Turn::Held { since } => Some(since + TURN_LIMIT),
            Turn::Idle | Turn::Spent => None,
        };
        let crashes = pod::containers(&self.pod)
            .into_iter()
            .filter_map(|spec| self.crash_due(&spec));
        self.retries
            .deadlines()
            .chain(crashes.map(|due| now.instant_of(due)))
            .chain(self.kills.values().map(|kill| kill.deadline))
            .chain(self.active_deadline().map(|at| now.instant_of(at)))
            .chain(self.view.doubt_at())
            .chain(turn)
            .filter(|at| *at > now.instant)
            .min()
    }

    /// What the API shall show.
    pub fn status(&mut self, now: Now) -> &PodStatus {
        let waiting = self.waiting(now);
        let (ending, terminated) = match &self.stage {
            Stage::Syncing { .. } => (None, false),
            Stage::Terminating(ending) => (Some(ending), false),
            Stage::Terminated { ending, .. } => (Some(ending), true),
            Stage::Removing { .. } | Stage::Gone => return &self.status,
        };
        // A sandbox shows as stopped before its step has ended: what follows says it in the same breath as the phase.
        let stopping = |key: &StepKey| matches!(key, StepKey::StopSandbox(_));
        let stopping = ending.is_some() && self.in_flight.keys().any(stopping);
        let input = status::Input {
            pod: &self.pod,
            old: &self.status,
            observed: self.view.pod(),
            sandbox_good: stopping || self.sandbox().is_ok(),
            verdicts: &self.verdicts,
            waiting: &waiting,
            starting: &self.hooks,
            terminated,
            failure: ending.and_then(|e| e.failure.as_ref()),
            rejected: ending.is_some_and(|e| e.rejected),
            host_ips: &self.facts.host_ips,
            now: now.wall,
        };
        self.status = status::compute(&input);
        &self.status
    }

    /// Events that came up since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Nothing of the pod is left anywhere.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// There is an API object to publish a status to, and it is not about to go.
    #[must_use]
    pub fn publishes(&self) -> bool {
        let going = matches!(self.stage, Stage::Terminated { deleted: true, .. });
        self.present && !going
    }

    /// The API has the object.
    #[must_use]
    pub fn present(&self) -> bool {
        self.present
    }

    /// The status as computed last.
    #[must_use]
    pub fn last_status(&self) -> &PodStatus {
        &self.status
    }

    /// The pod is to be kept running.
    #[must_use]
    pub fn syncing(&self) -> bool {
        matches!(self.stage, Stage::Syncing { .. })
    }

    /// Nothing of the pod runs any more: it uses none of the node's resources.
    #[must_use]
    pub fn finished(&self) -> bool {
        matches!(
            self.stage,
            Stage::Terminated { .. } | Stage::Removing { .. } | Stage::Gone
        )
    }

    /// The API object as last seen.
    #[must_use]
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// What the runtime holds, effects of own steps included.
    #[must_use]
    pub fn observed(&self) -> &ObservedPod {
        self.view.pod()
    }

    /// Containers to probe: the running instances, except those whose postStart hook has not ended.
    pub fn probed(&self) -> impl Iterator<Item = &crate::observed::Container> {
        let active = matches!(self.stage, Stage::Syncing { .. } | Stage::Terminating(_));
        let running = |c: &&crate::observed::Container| matches!(c.state, ContainerState::Running { .. });
        let containers = self.view.pod().containers.iter().filter(move |_| active);
        containers
            .filter(running)
            .filter(|c| !self.hooks.contains_key(&c.id))
    }

    /// The node's addresses, the primary one first.
    #[must_use]
    pub fn host_ips(&self) -> &[IpAddr] {
        &self.facts.host_ips
    }

    /// The API has shown that this container instance has started (`started: true`).
    #[must_use]
    pub fn was_started(&self, container_id: &str) -> bool {
        let lists = [
            &self.status.init_container_statuses,
            &self.status.container_statuses,
        ];
        let id = status::container_id(container_id);
        let mut statuses = lists.into_iter().flatten().flatten();
        statuses.any(|s| s.container_id.as_deref() == Some(&id) && s.started == Some(true))
    }

    fn verdicts(&self, container_id: &str) -> Verdicts {
        self.verdicts.get(container_id).copied().unwrap_or_default()
    }

    fn spec<'a>(&self, pod: &'a Pod, name: &str) -> Option<Spec<'a>> {
        pod::containers(pod).into_iter().find(|spec| spec.name == name)
    }

    fn notice(&mut self, container: Option<&str>, warning: bool, reason: &str, message: String) {
        let container = container.map(str::to_owned);
        self.notices.push(Notice {
            container,
            warning,
            reason: reason.to_owned(),
            message,
        });
    }

    /// Whether the turn is to be given back, after the steps in flight are known.
    fn turn_over(&mut self, now: Now) -> bool {
        let needed = self.in_flight.keys().any(StepKey::makes);
        let (next, release) = match self.turn {
            Turn::Idle => (Turn::Idle, false),
            Turn::Spent if needed => (Turn::Spent, false),
            Turn::Spent => (Turn::Idle, false),
            Turn::Held { .. } if !needed => (Turn::Idle, true),
            Turn::Held { since } if since + TURN_LIMIT <= now.instant => (Turn::Spent, true),
            Turn::Held { since } => (Turn::Held { since }, false),
        };
        self.turn = next;
        release
    }
}

#[cfg(test)]
mod tests;
