//! The steps that bring a pod to what its spec says: volumes, sandbox, images, containers, one start at a time in
//! the order of the spec; and what begins with a step.

use k8s_openapi::api::core::v1::Pod;

use super::{
    Now, PodMachine, Start, Step, StepKey, Turn,
    kills::Reason,
    view::alive,
    wants::{NoSandbox, Wants},
};
use crate::{
    backoff, hash,
    observed::{Container, Sandbox},
    pod::{self, Spec},
    status::Waiting,
};

/// Instances of a container to keep: the newest, and the one before it for `kubectl logs --previous`.
const KEPT_INSTANCES: usize = 2;

impl PodMachine {
    pub(super) fn plan_syncing(&mut self, set_up: bool, now: Now) -> Vec<Step> {
        let pod = self.pod.clone();
        let Wants {
            start,
            stop,
            finished: _,
        } = self.wants(&pod);
        for (spec, reason) in stop {
            self.kill(&spec, reason, now);
        }
        let mut steps = match self.sandbox().cloned() {
            Ok(sandbox) => {
                let mut steps = if set_up {
                    self.start_steps(&start, Some(&sandbox), now)
                } else {
                    vec![Step::SetUp]
                };
                steps.extend(self.old_instances(&pod));
                steps
            }
            Err(NoSandbox { attempt }) => self.new_sandbox(attempt, set_up, &start, now),
        };
        if set_up && self.stale_files {
            steps.push(Step::RefreshVolumes);
        }
        steps.extend(self.kill_steps(now));
        let hooks = self.hooks.iter().map(|(id, name)| Step::PostStart {
            container: name.clone(),
            id: id.clone(),
        });
        steps.extend(hooks);
        steps
    }

    /// What is left in old sandboxes is stopped first. Volumes come before the sandbox: a pod whose volumes cannot be
    /// mounted has no address.
    fn new_sandbox(&mut self, attempt: u32, set_up: bool, start: &[Spec<'_>], now: Now) -> Vec<Step> {
        let held = self.view.pod();
        if held.containers.iter().any(|c| alive(&c.state)) {
            self.kill_old(now);
            return Vec::new();
        }
        let ready = held.sandboxes.iter().filter(|s| s.ready);
        let mut steps: Vec<Step> = ready.map(|s| Step::StopSandbox { id: s.id.clone() }).collect();
        if !steps.is_empty() {
            return steps;
        }
        if set_up {
            steps.extend(self.start_steps(start, None, now));
        }
        let next = if set_up {
            Step::RunSandbox { attempt }
        } else {
            Step::SetUp
        };
        if self.retries.ready(&next.key(), now.instant) {
            steps.extend(self.in_turn(next));
        }
        steps
    }

    fn kill_old(&mut self, now: Now) {
        let pod = self.pod.clone();
        let running = self.view.pod().containers.iter().filter(|c| alive(&c.state));
        let running: Vec<(String, String)> = running.map(|c| (c.name.clone(), c.id.clone())).collect();
        for (name, id) in running {
            let message = format!("Stopping container {name}");
            if let Some(spec) = self.spec(&pod, &name) {
                self.kill(
                    &spec,
                    Reason {
                        id,
                        message,
                        grace: pod::grace(&pod),
                        restart: true,
                    },
                    now,
                );
            }
        }
    }

    /// Images are fetched side by side; containers start one after the other: one that cannot start now is passed
    /// over, one that is about to start holds back those after it.
    fn start_steps(&mut self, start: &[Spec<'_>], sandbox: Option<&Sandbox>, now: Now) -> Vec<Step> {
        let starting = |key: &StepKey| matches!(key, StepKey::Start(_));
        let mut blocked = self.in_flight.keys().any(starting) || !self.hooks.is_empty();
        let mut steps = Vec::new();
        for spec in start {
            let key = StepKey::Start(spec.name.to_owned());
            let instance = self.view.pod().container(spec.name);
            let busy = self.in_flight.contains_key(&key) || instance.is_some_and(|c| alive(&c.state));
            if busy || self.waits(spec, now) {
                continue;
            }
            let Some(image) = self.images.get(spec.name) else {
                steps.push(Step::EnsureImage {
                    container: spec.name.to_owned(),
                });
                blocked = true;
                continue;
            };
            if let (Some(sandbox), false) = (sandbox, blocked) {
                let (container, image) = (spec.name.to_owned(), image.clone());
                let attempt = self.next_attempt(spec.name);
                let step = Step::StartContainer(Start {
                    container,
                    sandbox: sandbox.clone(),
                    attempt,
                    image,
                });
                steps.extend(self.in_turn(step));
            }
            blocked = true;
        }
        steps
    }

    /// The step when it is this pod's turn, else waiting for it.
    fn in_turn(&self, step: Step) -> Option<Step> {
        match self.turn {
            Turn::Idle => Some(Step::TakeTurn),
            Turn::Held { .. } | Turn::Spent => Some(step),
        }
    }

    /// The container's next start is not due yet.
    fn waits(&mut self, spec: &Spec<'_>, now: Now) -> bool {
        let image_key = StepKey::EnsureImage(spec.name.to_owned());
        let pulls = !self.retries.ready(&image_key, now.instant);
        if pulls {
            self.tell_image_back_off(spec, &image_key, now);
        }
        let failed = !self
            .retries
            .ready(&StepKey::Start(spec.name.to_owned()), now.instant);
        let crashed = self.crash_due(spec).is_some_and(|due| due > now.wall);
        if crashed {
            self.tell_crash_back_off(spec);
        }
        pulls || failed || crashed
    }

    fn tell_image_back_off(&mut self, spec: &Spec<'_>, key: &StepKey, now: Now) {
        let Some(failed) = self.retries.get_mut(key) else {
            return;
        };
        if failed.told || failed.fresh(now.instant) || !is_pull_error(&failed.error.reason) {
            return;
        }
        failed.told = true;
        self.notice(
            Some(spec.name),
            false,
            "BackOff",
            format!("Back-off pulling image \"{}\"", spec.image),
        );
        self.notice(
            Some(spec.name),
            true,
            "Failed",
            "Error: ImagePullBackOff".to_owned(),
        );
    }

    fn tell_crash_back_off(&mut self, spec: &Spec<'_>) {
        let Some(id) = self.view.pod().container(spec.name).map(|c| c.id.clone()) else {
            return;
        };
        if self.told.insert(id) {
            let pod = pod::full_name(&self.pod);
            let text = format!("Back-off restarting failed container {} in pod {pod}", spec.name);
            self.notice(Some(spec.name), true, "BackOff", text);
        }
    }

    /// The exit that the container's crash back-off counts from. Of a container that the agent itself stopped it is
    /// the one before: being stopped is no crash.
    fn crash_exit(&self, name: &str) -> Option<jiff::Timestamp> {
        let (instance, exit) = self.exited(name)?;
        if !self.again.contains(&instance.id) {
            return Some(exit.finished_at);
        }
        let before = self
            .view
            .pod()
            .containers
            .iter()
            .filter(|c| c.name == name)
            .nth(1)?;
        match &before.state {
            crate::observed::ContainerState::Exited(exit) => Some(exit.finished_at),
            crate::observed::ContainerState::Created
            | crate::observed::ContainerState::Running { .. }
            | crate::observed::ContainerState::Unknown => None,
        }
    }

    /// When the exited container may start again.
    pub(super) fn crash_due(&self, spec: &Spec<'_>) -> Option<jiff::Timestamp> {
        let finished = self.crash_exit(spec.name)?;
        self.crashes
            .due(spec.name, &hash::container_hash(spec.name, spec.image), finished)
    }

    fn next_attempt(&self, name: &str) -> u32 {
        if let Some(instance) = self.view.pod().container(name) {
            return instance.attempt + 1;
        }
        let of = |list: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
            list.iter()
                .flatten()
                .find(|s| s.name == name)
                .map(|s| (s.restart_count, s.container_id.is_some()))
        };
        let last = of(&self.status.container_statuses).or_else(|| of(&self.status.init_container_statuses));
        // The runtime has lost it (the node was wiped): counting goes on where the API stands.
        match last {
            Some((count, true)) => u32::try_from(count).unwrap_or(0) + 1,
            Some((_, false)) | None => 0,
        }
    }

    /// Dead instances that nobody asks for any more.
    fn old_instances(&self, pod: &Pod) -> Vec<Step> {
        let containers = &self.view.pod().containers;
        let old = |spec: Spec<'_>| -> Vec<Step> {
            let instances = containers
                .iter()
                .filter(|c| c.name == spec.name)
                .skip(KEPT_INSTANCES);
            let dead = instances.filter(|c: &&Container| !alive(&c.state));
            dead.map(|c| Step::RemoveContainer { id: c.id.clone() }).collect()
        };
        pod::containers(pod).into_iter().flat_map(old).collect()
    }

    /// What the machine remembers when a step begins.
    pub(super) fn begin(&mut self, step: &Step, now: Now) {
        match step {
            Step::SetUp | Step::RefreshVolumes => self.stale_files = false,
            Step::StartContainer(start) => {
                self.images.remove(&start.container);
                if let Some(finished) = self.crash_exit(&start.container) {
                    let pod = self.pod.clone();
                    let image = self.spec(&pod, &start.container).map_or("", |s| s.image);
                    let hash = hash::container_hash(&start.container, image);
                    self.crashes
                        .restarted(&start.container, &hash, finished, now.wall);
                }
            }
            Step::RunSandbox { attempt } if *attempt > 0 && self.retries.get(&step.key()).is_none() => {
                let text = "Pod sandbox changed, it will be killed and re-created.";
                self.notice(None, false, "SandboxChanged", text.to_owned());
            }
            Step::TakeTurn
            | Step::RunSandbox { .. }
            | Step::EnsureImage { .. }
            | Step::PostStart { .. }
            | Step::PreStop { .. }
            | Step::StopContainer { .. }
            | Step::RemoveContainer { .. }
            | Step::StopSandbox { .. }
            | Step::Unmount
            | Step::RemoveCgroup
            | Step::Delete { .. }
            | Step::RemoveSandbox { .. }
            | Step::CleanUp
            | Step::Observe => {}
        }
    }

    /// Why containers that should run do not, as their status shows it: by name.
    pub(super) fn waiting(&self, now: Now) -> std::collections::BTreeMap<String, Waiting> {
        if !self.syncing() {
            return std::collections::BTreeMap::new();
        }
        let specs = pod::containers(&self.pod).into_iter();
        specs
            .filter_map(|spec| Some((spec.name.to_owned(), self.waiting_reason(&spec, now)?)))
            .collect()
    }

    fn waiting_reason(&self, spec: &Spec<'_>, now: Now) -> Option<Waiting> {
        if self
            .view
            .pod()
            .container(spec.name)
            .is_some_and(|c| alive(&c.state))
        {
            return None;
        }
        if let Some(failed) = self.retries.get(&StepKey::EnsureImage(spec.name.to_owned())) {
            let error = &failed.error;
            if failed.fresh(now.instant) || !is_pull_error(&error.reason) {
                return Some(Waiting {
                    reason: error.reason.clone(),
                    message: error.message.clone(),
                });
            }
            let message = format!(
                "Back-off pulling image \"{}\": {}: {}",
                spec.image, error.reason, error.message
            );
            return Some(Waiting {
                reason: "ImagePullBackOff".to_owned(),
                message,
            });
        }
        let crash = self.crash_due(spec);
        if let Some(failed) = self.retries.get(&StepKey::Start(spec.name.to_owned()))
            && (failed.due > now.instant || crash.is_none())
        {
            let error = &failed.error;
            return Some(Waiting {
                reason: error.reason.clone(),
                message: error.message.clone(),
            });
        }
        let (instance, exit) = self.exited(spec.name)?;
        let restarts = self.again.contains(&instance.id)
            || spec.restarts_after(pod::restart_policy(&self.pod), exit.code);
        crash.filter(|_| restarts).map(|_| self.crash_waiting(spec))
    }

    fn crash_waiting(&self, spec: &Spec<'_>) -> Waiting {
        let hash = hash::container_hash(spec.name, spec.image);
        let finished = self.crash_exit(spec.name);
        let delay = finished
            .and_then(|at| self.crashes.delay(spec.name, &hash, at))
            .unwrap_or_default();
        let (delay, pod) = (backoff::go_seconds(delay), pod::full_name(&self.pod));
        let message = format!(
            "back-off {delay} restarting failed container={} pod={pod}",
            spec.name
        );
        Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message,
        }
    }
}

/// Failed pulls go over to `ImagePullBackOff`; an image that must not be pulled, cannot be looked at or has no valid
/// name does not.
fn is_pull_error(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed"
    )
}
