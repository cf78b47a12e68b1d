//! Which containers should start and which should stop, with a sandbox in place (`computePodActions` and
//! `computeInitContainerActions` in the kubelet's `kuberuntime`). Pure reading: nothing is remembered here.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Probe};

use super::{PodMachine, kills::Reason, view::alive};
use crate::{
    hash,
    observed::{Container, ContainerState, Sandbox},
    pod::{self, Kind, Spec},
    probe::Verdict,
};

/// What should happen to the containers.
#[derive(Debug, Default)]
pub(super) struct Wants<'a> {
    /// In the order in which they are to be started.
    pub(super) start: Vec<Spec<'a>>,
    pub(super) stop: Vec<(Spec<'a>, Reason)>,
    /// Nothing runs that matters and nothing is to be started: the pod is done.
    pub(super) finished: bool,
}

/// How far the init containers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    Pending,
    Done,
    /// One failed that is not restarted.
    Failed,
}

/// Why the pod has to have another sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoSandbox {
    /// The number of the next one.
    pub(super) attempt: u32,
}

impl PodMachine {
    /// The sandbox that containers can be started in (`PodSandboxChanged`).
    pub(super) fn sandbox(&self) -> Result<&Sandbox, NoSandbox> {
        let sandboxes = &self.view.pod().sandboxes;
        let Some(newest) = sandboxes.first() else {
            return Err(NoSandbox { attempt: 0 });
        };
        let host_network = pod::host_network(&self.pod);
        let good = newest.ready
            && sandboxes.iter().filter(|s| s.ready).count() == 1
            && newest.host_network == host_network
            && (host_network || !newest.ips.is_empty());
        if good {
            Ok(newest)
        } else {
            Err(NoSandbox {
                attempt: newest.attempt + 1,
            })
        }
    }

    pub(super) fn wants<'a>(&self, pod: &'a Pod) -> Wants<'a> {
        let specs = pod::containers(pod);
        match self.sandbox() {
            Ok(sandbox) => self.wants_in(&sandbox.id, &specs, pod::restart_policy(pod)),
            Err(NoSandbox { attempt }) => self.wants_anew(attempt, &specs, pod::restart_policy(pod)),
        }
    }

    /// In a sandbox that is still to be made everything starts from the beginning.
    fn wants_anew<'a>(&self, attempt: u32, specs: &[Spec<'a>], policy: &str) -> Wants<'a> {
        let containers = &self.view.pod().containers;
        let done = Wants {
            finished: !containers.iter().any(|c| alive(&c.state)),
            ..Wants::default()
        };
        if policy == "Never" && attempt != 0 && !containers.is_empty() {
            return done;
        }
        let succeeded = |s: &Spec<'_>| self.exited(s.name).is_some_and(|(_, exit)| exit.code == 0);
        let once = |s: &Spec<'_>| s.restart_policy.unwrap_or(policy) == "OnFailure";
        let regular = specs.iter().filter(|s| s.kind == Kind::Regular);
        let start: Vec<Spec<'a>> = regular
            .clone()
            .filter(|s| !(once(s) && succeeded(s)))
            .copied()
            .collect();
        let created = regular
            .clone()
            .any(|s| self.view.pod().container(s.name).is_some());
        if start.is_empty() && created {
            return done;
        }
        match specs.iter().find(|s| s.is_init()) {
            Some(first) => Wants {
                start: vec![*first],
                ..Wants::default()
            },
            None => Wants {
                start,
                ..Wants::default()
            },
        }
    }

    fn wants_in<'a>(&self, sandbox: &str, specs: &[Spec<'a>], policy: &str) -> Wants<'a> {
        let mut wants = Wants::default();
        let never_ran =
            |s: &&Spec<'a>| s.kind == Kind::Ephemeral && self.view.pod().container(s.name).is_none();
        wants.start.extend(specs.iter().filter(never_ran));
        match self.wants_init(sandbox, specs, policy, &mut wants) {
            Init::Pending => {}
            Init::Failed => {
                let live = specs
                    .iter()
                    .filter_map(|s| self.view.pod().container(s.name))
                    .any(|c| alive(&c.state));
                wants.start.clear();
                wants.finished = !live || specs.iter().any(|s| s.kind == Kind::Sidecar);
            }
            Init::Done => {
                let start_before = wants.start.len();
                let mut kept = false;
                for spec in specs.iter().filter(|s| s.kind == Kind::Regular) {
                    kept |= self.wants_regular(spec, policy, &mut wants);
                }
                wants.finished = !kept && wants.start.len() == start_before;
            }
        }
        wants
    }

    /// Whether the container runs.
    fn wants_regular<'a>(&self, spec: &Spec<'a>, policy: &str, wants: &mut Wants<'a>) -> bool {
        let Some(instance) = self.view.pod().container(spec.name) else {
            wants.start.push(*spec);
            return false;
        };
        match &instance.state {
            ContainerState::Running { .. } => {
                if let Some(reason) = self.reason_to_kill(spec, instance, policy, "Container") {
                    wants.stop.push((*spec, reason));
                }
            }
            ContainerState::Unknown => wants.stop.push((*spec, unknown_state(instance, "Container"))),
            ContainerState::Created => wants.start.push(*spec),
            ContainerState::Exited(exit) => {
                if self.again.contains(&instance.id) || spec.restarts_after(policy, exit.code) {
                    wants.start.push(*spec);
                }
            }
        }
        alive(&instance.state)
    }

    /// Walks back from the last init container: those before one that has run are done, whether or not the runtime
    /// still has them.
    fn wants_init<'a>(&self, sandbox: &str, specs: &[Spec<'a>], policy: &str, wants: &mut Wants<'a>) -> Init {
        let init: Vec<Spec<'a>> = specs.iter().filter(|s| s.is_init()).copied().collect();
        if init.is_empty() {
            return Init::Done;
        }
        let active = |c: &Container| alive(&c.state) || c.state == ContainerState::Created;
        let regular = specs.iter().filter(|s| s.kind == Kind::Regular);
        let mut done = regular
            .filter_map(|s| self.view.pod().container(s.name))
            .any(active);
        let mut later_ran = done;
        let mut start = Vec::new();
        for (i, spec) in init.iter().enumerate().rev() {
            let Some(instance) = self.instance_in(sandbox, spec.name) else {
                if later_ran && spec.kind == Kind::Sidecar {
                    start.push(*spec);
                }
                continue;
            };
            if later_ran && spec.kind != Kind::Sidecar {
                continue;
            }
            match self.init_state(spec, instance, policy, wants) {
                InitState::Failed => return Init::Failed,
                InitState::Start => start.push(*spec),
                InitState::Wait => {}
                InitState::Passed if later_ran => {}
                InitState::Passed => match init.get(i + 1) {
                    Some(next) => start.push(*next),
                    None => done = true,
                },
            }
            later_ran = true;
        }
        if !later_ran {
            start.extend(init.first());
        }
        start.reverse();
        wants.start.extend(start);
        if done { Init::Done } else { Init::Pending }
    }

    fn init_state<'a>(
        &self,
        spec: &Spec<'a>,
        instance: &Container,
        policy: &str,
        wants: &mut Wants<'a>,
    ) -> InitState {
        match &instance.state {
            ContainerState::Created => InitState::Start,
            ContainerState::Running { .. } if spec.kind != Kind::Sidecar => InitState::Wait,
            ContainerState::Running { .. } => {
                if let Some(reason) = self.reason_to_kill(spec, instance, "Always", "Init container") {
                    wants.stop.push((*spec, reason));
                    return InitState::Wait;
                }
                let started = spec.startup_probe.is_none() || self.has_started(&instance.id);
                if started && !self.hooks.contains_key(&instance.id) {
                    InitState::Passed
                } else {
                    InitState::Wait
                }
            }
            ContainerState::Unknown => {
                wants
                    .stop
                    .push((*spec, unknown_state(instance, "Init container")));
                InitState::Wait
            }
            ContainerState::Exited(_) if spec.kind == Kind::Sidecar => InitState::Start,
            ContainerState::Exited(exit) if exit.code == 0 => InitState::Passed,
            ContainerState::Exited(exit) if spec.restarts_after(policy, exit.code) => InitState::Start,
            ContainerState::Exited(_) => InitState::Failed,
        }
    }

    fn has_started(&self, id: &str) -> bool {
        // Not probed since the agent came up: what the API said last.
        let verdict = self.verdicts(id).startup;
        verdict.map_or_else(|| self.was_started(id), |verdict| verdict == Verdict::Success)
    }

    /// An init container that ran in an earlier sandbox has to run again.
    fn instance_in(&self, sandbox: &str, name: &str) -> Option<&Container> {
        self.view
            .pod()
            .containers
            .iter()
            .find(|c| c.name == name && c.sandbox_id == sandbox)
    }

    fn reason_to_kill(
        &self,
        spec: &Spec<'_>,
        instance: &Container,
        policy: &str,
        noun: &str,
    ) -> Option<Reason> {
        let verdicts = self.verdicts(&instance.id);
        let failed = |verdict: Option<Verdict>| verdict == Some(Verdict::Failure);
        let (what, probe, restart) = if hash::container_hash(spec.name, spec.image) != instance.hash {
            ("definition changed", None, true)
        } else if failed(verdicts.liveness) {
            (
                "failed liveness probe",
                spec.liveness_probe,
                spec.restarts_when_stopped(policy),
            )
        } else if failed(verdicts.startup) {
            (
                "failed startup probe",
                spec.startup_probe,
                spec.restarts_when_stopped(policy),
            )
        } else {
            return None;
        };
        let suffix = if restart { ", will be restarted" } else { "" };
        let message = format!("{noun} {} {what}{suffix}", spec.name);
        Some(Reason {
            id: instance.id.clone(),
            message,
            grace: self.grace_of(probe),
            restart,
        })
    }

    fn grace_of(&self, probe: Option<&Probe>) -> Duration {
        let own = probe
            .and_then(|p| p.termination_grace_period_seconds)
            .and_then(|s| u64::try_from(s).ok());
        own.map_or_else(|| pod::grace(&self.pod), Duration::from_secs)
    }
}

/// What an init container means for those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InitState {
    /// It has to be started (again).
    Start,
    /// It is not done yet.
    Wait,
    /// The next one may start.
    Passed,
    /// It failed and is not restarted.
    Failed,
}

fn unknown_state(instance: &Container, noun: &str) -> Reason {
    let message = format!("{noun} is in \"unknown\" state, try killing it before restart");
    Reason {
        id: instance.id.clone(),
        message,
        grace: Duration::from_secs(30),
        restart: true,
    }
}
