//! Stopping containers: preStop hook, stop signal, SIGKILL after the grace period, sidecars last and in reverse order.
//!
//! The hooks of all containers of a pod that ends run at once; a sidecar gets its stop signal when the regular
//! containers and the sidecars after it have exited (KEP-753, `kuberuntime_termination_order.go`).

use std::time::{Duration, Instant};

use super::{Now, PodMachine, Step, StepKey, view::alive};
use crate::{
    observed::Container,
    pod::{self, Kind, Spec},
};

/// The runtime gives a container at least this long (`minimumGracePeriodInSeconds`).
const MIN_GRACE_SECS: i64 = 2;

/// A container that is being stopped.
#[derive(Debug)]
pub(super) struct Kill {
    name: String,
    /// When it is killed if it still runs.
    pub(super) deadline: Instant,
    /// The preStop hook is still to be run or running.
    pub(super) hook: bool,
    /// It is started again, whatever its exit code.
    pub(super) restart: bool,
}

/// Why a container has to stop, and how.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) id: String,
    /// The text of the event `Killing`.
    pub(super) message: String,
    pub(super) grace: Duration,
    pub(super) restart: bool,
}

impl PodMachine {
    /// Begins to stop a container; nothing new when that has begun.
    pub(super) fn kill(&mut self, spec: &Spec<'_>, reason: Reason, now: Now) {
        if self.kills.contains_key(&reason.id) {
            return;
        }
        self.notice(Some(spec.name), false, "Killing", reason.message);
        let kill = Kill {
            name: spec.name.to_owned(),
            deadline: now.instant + reason.grace,
            hook: spec.has_pre_stop(),
            restart: reason.restart,
        };
        self.kills.insert(reason.id, kill);
    }

    /// Begins to stop everything that runs.
    pub(super) fn kill_all(&mut self, deadline: Instant, now: Now) {
        let pod = self.pod.clone();
        let grace = deadline.saturating_duration_since(now.instant);
        for container in self.view.pod().containers.clone() {
            if !alive(&container.state) {
                continue;
            }
            let message = format!("Stopping container {}", container.name);
            let reason = Reason {
                id: container.id,
                message,
                grace,
                restart: false,
            };
            match self.spec(&pod, &container.name) {
                Some(spec) => self.kill(&spec, reason, now),
                None => self.kill(&stray(&container.name), reason, now),
            }
        }
    }

    /// The grace period has become shorter: what is in flight with the old one is dropped and planned again.
    pub(super) fn hurry_kills(&mut self, deadline: Instant) {
        for (id, kill) in &mut self.kills {
            if kill.deadline <= deadline {
                continue;
            }
            kill.deadline = deadline;
            for key in [StepKey::PreStop(id.clone()), StepKey::Stop(id.clone())] {
                if self.in_flight.remove(&key).is_some() {
                    self.cancel.push(key);
                }
            }
        }
    }

    pub(super) fn kill_steps(&self, now: Now) -> Vec<Step> {
        self.kills
            .iter()
            .filter_map(|(id, kill)| self.kill_step(id, kill, now))
            .collect()
    }

    fn kill_step(&self, id: &str, kill: &Kill, now: Now) -> Option<Step> {
        let (container, id) = (kill.name.clone(), id.to_owned());
        let left = kill.deadline.saturating_duration_since(now.instant);
        if kill.hook && (!left.is_zero() || self.in_flight.contains_key(&StepKey::PreStop(id.clone()))) {
            return Some(Step::PreStop {
                container,
                id,
                budget: left,
            });
        }
        if self.view.stopped(&id) || !(left.is_zero() || self.turn_to_stop(&container)) {
            return None;
        }
        let whole_secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        let grace_secs = i64::try_from(whole_secs).unwrap_or(i64::MAX).max(MIN_GRACE_SECS);
        Some(Step::StopContainer {
            container,
            id,
            grace_secs,
        })
    }

    /// Only sidecars of a pod that ends have to wait.
    fn turn_to_stop(&self, name: &str) -> bool {
        if self.syncing() {
            return true;
        }
        let specs = pod::containers(&self.pod);
        let Some(position) = specs
            .iter()
            .position(|s| s.name == name && s.kind == Kind::Sidecar)
        else {
            return true;
        };
        let running = |spec: &Spec<'_>| {
            let waits_for = matches!(spec.kind, Kind::Sidecar | Kind::Regular | Kind::Init);
            waits_for
                && self
                    .view
                    .pod()
                    .container(spec.name)
                    .is_some_and(|c| alive(&c.state))
        };
        !specs.iter().skip(position + 1).any(running)
    }

    /// Forgets kills of containers that have exited, and remembers which of them start again.
    pub(super) fn settle_kills(&mut self) {
        let view = self.view.pod();
        let instance = |id: &str| view.containers.iter().find(|c| c.id == id);
        let is_alive = |id: &str| instance(id).is_some_and(|c: &Container| alive(&c.state));
        let (kills, again) = (&mut self.kills, &mut self.again);
        kills.retain(|id, kill| {
            let keep = is_alive(id);
            if !keep && kill.restart {
                again.insert(id.clone());
            }
            keep
        });
        again.retain(|id| instance(id).is_some());
        self.told.retain(|id| instance(id).is_some());
        self.verdicts.retain(|id, _| is_alive(id));
        self.hooks
            .retain(|id, _| is_alive(id) || self.in_flight.contains_key(&StepKey::PostStart(id.clone())));
    }
}

/// A container that runs but is not in the spec.
fn stray(name: &str) -> Spec<'_> {
    Spec {
        name,
        kind: Kind::Regular,
        image: "",
        restart_policy: None,
        restart_rules: &[],
        startup_probe: None,
        liveness_probe: None,
        readiness_probe: None,
        lifecycle: None,
        resources: None,
        volume_mounts: &[],
    }
}
