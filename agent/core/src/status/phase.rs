//! The phase of a pod (`getPhase` in the kubelet's `kubelet_pods.go`).

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PodStatus};

use super::Input;
use crate::{
    observed::ContainerState as Observed,
    pod::{self, Kind, Spec},
};

/// How the containers of one kind stand.
#[derive(Debug, Default)]
struct Count {
    pending_init: u32,
    pending_sidecars: u32,
    init_failed: bool,
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    /// Of the stopped ones.
    final_: u32,
    /// Of the stopped ones.
    succeeded: u32,
}

/// What a container status says, as far as the phase goes.
enum Seen {
    Running,
    /// With this exit code, now or before it was put to wait.
    Ended(i32),
    NeverRan,
    Unknown,
}

/// The phase, before the rules on terminal phases.
pub(super) fn phase(input: &Input<'_>, status: &PodStatus) -> &'static str {
    let policy = pod::restart_policy(input.pod);
    let mut count = Count::default();
    for spec in pod::containers(input.pod) {
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let found = lists
            .into_iter()
            .flatten()
            .flatten()
            .find(|s| s.name == spec.name);
        match spec.kind {
            Kind::Init => count.init(&spec, found, policy),
            Kind::Sidecar => count.sidecar(found),
            Kind::Regular => count.regular(&spec, found, policy),
            Kind::Ephemeral => {}
        }
    }
    count.phase(initialized(input), input.terminated)
}

/// A regular container has started in the current sandbox: sidecars that restart do not make the pod pending again.
fn initialized(input: &Input<'_>) -> bool {
    let Some(sandbox) = input.observed.sandbox() else {
        return false;
    };
    let specs = pod::containers(input.pod);
    let regular = |name: &str| specs.iter().any(|s| s.kind == Kind::Regular && s.name == name);
    let started = |state: &Observed| !matches!(state, Observed::Created);
    input
        .observed
        .containers
        .iter()
        .any(|c| c.sandbox_id == sandbox.id && regular(&c.name) && started(&c.state))
}

impl Seen {
    fn of(status: Option<&ContainerStatus>) -> Self {
        let terminated =
            |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|t| t.exit_code);
        let Some(status) = status else {
            return Self::Unknown;
        };
        let Some(state) = &status.state else {
            return Self::Unknown;
        };
        if state.running.is_some() {
            return Self::Running;
        }
        if let Some(code) = terminated(&status.state) {
            return Self::Ended(code);
        }
        match (state.waiting.is_some(), terminated(&status.last_state)) {
            (true, Some(code)) => Self::Ended(code),
            (true, None) => Self::NeverRan,
            (false, _) => Self::Unknown,
        }
    }
}

impl Count {
    fn init(&mut self, spec: &Spec<'_>, status: Option<&ContainerStatus>, policy: &str) {
        match Seen::of(status) {
            Seen::Ended(0) => {}
            Seen::Ended(code) => self.init_failed |= !spec.restarts_after(policy, code),
            Seen::Running | Seen::NeverRan | Seen::Unknown => self.pending_init += 1,
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        match Seen::of(status) {
            Seen::Running => {
                self.running += 1;
                self.pending_sidecars += u32::from(status.is_none_or(|s| s.started != Some(true)));
            }
            Seen::Ended(_) => {}
            Seen::NeverRan => {
                self.pending_sidecars += 1;
                self.waiting += 1;
            }
            Seen::Unknown => self.unknown += 1,
        }
    }

    fn regular(&mut self, spec: &Spec<'_>, status: Option<&ContainerStatus>, policy: &str) {
        match Seen::of(status) {
            Seen::Running => self.running += 1,
            Seen::Ended(code) => {
                self.stopped += 1;
                self.final_ += u32::from(!spec.restarts_after(policy, code));
                self.succeeded += u32::from(code == 0);
            }
            Seen::NeverRan => self.waiting += 1,
            Seen::Unknown => self.unknown += 1,
        }
    }

    fn phase(&self, initialized: bool, terminated: bool) -> &'static str {
        let all_stopped = self.running == 0 && self.stopped > 0 && self.unknown == 0;
        let result = if self.stopped == self.succeeded {
            "Succeeded"
        } else {
            "Failed"
        };
        if self.init_failed {
            "Failed"
        } else if self.pending_init > 0 || (self.pending_sidecars > 0 && !initialized) || self.waiting > 0 {
            "Pending"
        } else if self.running > 0 && self.unknown == 0 {
            "Running"
        } else if all_stopped && (terminated || self.stopped == self.final_) {
            result
        } else if all_stopped {
            "Running"
        } else {
            "Pending"
        }
    }
}
