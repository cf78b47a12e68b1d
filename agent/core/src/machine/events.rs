//! Taking in what happened: one exhaustive match per event and per end of a step.

use std::{sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::Pod;

use super::{
    Ending, Event, Failure, Now, Outcome, PodMachine, Retry, Stage, StepError, StepKey, Turn,
    kills::Reason,
    view::{Ended, Made, alive},
};
use crate::{
    observed::{Container, ContainerState},
    pod,
};

impl PodMachine {
    /// Takes in one event. Follow with [`PodMachine::plan`] and [`PodMachine::status`].
    pub fn on_event(&mut self, event: Event, now: Now) {
        match event {
            Event::Desired(pod) => self.desired(pod, now),
            Event::Removed => self.present = false,
            Event::Observed(observed) => {
                self.view.observe(observed);
                self.settle_kills();
            }
            Event::InputsChanged => self.retries.hurry(now.instant),
            Event::Probe {
                container_id,
                kind,
                verdict,
            } => {
                let current = self.view.pod().containers.iter().find(|c| c.id == container_id);
                if current.is_some_and(|c| alive(&c.state)) {
                    self.verdicts.entry(container_id).or_default().set(kind, verdict);
                }
            }
            Event::StepDone { step, result } => {
                // A dropped step has nothing to say any more.
                let Some(begun) = self.in_flight.remove(&step) else {
                    return;
                };
                match result {
                    Ok(outcome) => self.step_succeeded(step, outcome, begun, now),
                    Err(error) => self.step_failed(&step, error, now),
                }
            }
            Event::Reject(failure) => {
                self.notice(None, true, &failure.reason.clone(), failure.message.clone());
                let message = format!("Pod was rejected: {}", failure.message);
                self.end(
                    Ending::at_once(Some(Failure { message, ..failure }), now).rejected(),
                    now,
                );
            }
            Event::Evict { failure, grace } => {
                let deadline = now.instant + grace.unwrap_or_else(|| pod::grace(&self.pod));
                self.end(Ending::by(deadline, Some(failure)), now);
            }
        }
    }

    fn desired(&mut self, pod: Arc<Pod>, now: Now) {
        let changed = |a: &Pod, b: &Pod| {
            a.spec != b.spec
                || a.metadata.labels != b.metadata.labels
                || a.metadata.annotations != b.metadata.annotations
        };
        if changed(&self.pod, &pod) {
            self.retries.hurry(now.instant);
            self.stale_files = true;
            let stale: Vec<String> = pod::containers(&self.pod)
                .into_iter()
                .filter(|old| self.spec(&pod, old.name).is_none_or(|new| new.image != old.image))
                .map(|old| old.name.to_owned())
                .collect();
            for name in stale {
                self.forget_image(name);
            }
        }
        self.present = true;
        self.pod = pod;
    }

    /// The container's image is another one now: what is known or under way for the old one does not count.
    fn forget_image(&mut self, name: String) {
        self.images.remove(&name);
        let key = StepKey::EnsureImage(name);
        self.retries.succeeded(&key);
        if self.in_flight.remove(&key).is_some() {
            self.cancel.push(key);
        }
    }

    fn step_succeeded(&mut self, step: StepKey, outcome: Outcome, begun: Instant, now: Now) {
        self.retries.succeeded(&step);
        match step {
            StepKey::TakeTurn => self.turn = Turn::Held { since: now.instant },
            StepKey::SetUp => {
                if let Stage::Syncing { set_up } = &mut self.stage {
                    *set_up = true;
                }
            }
            StepKey::RefreshVolumes => {}
            StepKey::RunSandbox => {
                if let Outcome::Sandbox(sandbox) = outcome {
                    self.view
                        .record_made(sandbox.id.clone(), Made::Sandbox(sandbox), now.instant);
                }
            }
            StepKey::EnsureImage(name) => {
                if let Outcome::Image(image) = outcome {
                    self.images.insert(name, image);
                }
            }
            StepKey::Start(name) => {
                if let Outcome::Container(container) = outcome {
                    self.started(&name, container, now);
                }
            }
            StepKey::PostStart(id) => {
                self.hooks.remove(&id);
            }
            StepKey::PreStop(id) => self.hook_ended(&id),
            StepKey::Stop(id) | StepKey::StopSandbox(id) => {
                self.view.record_ended(id, Ended::Stopped, now.instant);
                self.settle_kills();
            }
            StepKey::RemoveContainer(id) | StepKey::RemoveSandbox(id) => {
                self.view.record_ended(id, Ended::Removed, now.instant);
            }
            StepKey::Unmount => self.unmounted(),
            StepKey::RemoveCgroup => {
                if let Stage::Terminated { freed, .. } = &mut self.stage {
                    *freed = true;
                }
            }
            StepKey::Delete => {
                if let Stage::Terminated { deleted, .. } = &mut self.stage {
                    *deleted = true;
                }
            }
            StepKey::CleanUp => {
                if let Stage::Removing { cleaned } = &mut self.stage {
                    *cleaned = true;
                }
            }
            StepKey::Observe => {
                if let Outcome::Observed(observed) = outcome {
                    self.view.believe(observed, begun);
                    self.settle_kills();
                }
            }
        }
    }

    fn started(&mut self, name: &str, container: Box<Container>, now: Now) {
        let pod = self.pod.clone();
        self.notice(Some(name), false, "Created", "Container created".to_owned());
        self.notice(Some(name), false, "Started", "Container started".to_owned());
        if self.spec(&pod, name).is_some_and(|spec| spec.has_post_start()) {
            self.hooks.insert(container.id.clone(), name.to_owned());
        }
        self.view
            .record_made(container.id.clone(), Made::Container(container), now.instant);
    }

    fn step_failed(&mut self, step: &StepKey, error: StepError, now: Now) {
        let text = error.message.clone();
        match step {
            StepKey::SetUp => self.notice(None, true, &error.reason.clone(), text),
            StepKey::RunSandbox => self.sandbox_failed(&error),
            StepKey::Start(name) => self.notice(Some(name), true, "Failed", format!("Error: {text}")),
            StepKey::PostStart(id) => self.post_start_failed(id, error.clone(), now),
            StepKey::PreStop(id) => {
                let name = self.container_name(id);
                self.notice(
                    name.as_deref(),
                    true,
                    "FailedPreStopHook",
                    "PreStopHook failed".to_owned(),
                );
                self.hook_ended(id);
            }
            StepKey::Stop(_) | StepKey::StopSandbox(_) => {
                self.notice(None, true, "FailedKillPod", format!("error killing pod: {text}"));
            }
            StepKey::RefreshVolumes => self.stale_files = true,
            // The puller has told its events itself.
            StepKey::EnsureImage(_)
            | StepKey::TakeTurn
            | StepKey::RemoveContainer(_)
            | StepKey::Unmount
            | StepKey::RemoveCgroup
            | StepKey::Delete
            | StepKey::RemoveSandbox(_)
            | StepKey::CleanUp
            | StepKey::Observe => {}
        }
        self.retries.failed(step, error, now.instant);
    }

    fn sandbox_failed(&mut self, error: &StepError) {
        let first = self.retries.get(&StepKey::RunSandbox).is_none();
        match error.retry {
            // Tried every second: said once.
            Retry::Soon if !first => {}
            Retry::Soon => self.notice(None, true, &error.reason, error.message.clone()),
            Retry::Backoff => {
                let text = format!("Failed to create pod sandbox: {}", error.message);
                self.notice(None, true, "FailedCreatePodSandBox", text);
            }
        }
    }

    /// The container counts as not started: it is killed, and its next start waits like any failed one.
    fn post_start_failed(&mut self, id: &str, error: StepError, now: Now) {
        let Some(name) = self.hooks.remove(id) else { return };
        self.notice(
            Some(&name),
            true,
            "FailedPostStartHook",
            "PostStartHook failed".to_owned(),
        );
        let pod = self.pod.clone();
        if let Some(spec) = self.spec(&pod, &name) {
            let message = "FailedPostStartHook".to_owned();
            let reason = Reason {
                id: id.to_owned(),
                message,
                grace: pod::grace(&pod),
                restart: false,
            };
            self.kill(&spec, reason, now);
        }
        self.retries.failed(&StepKey::Start(name), error, now.instant);
    }

    fn hook_ended(&mut self, id: &str) {
        if let Some(kill) = self.kills.get_mut(id) {
            kill.hook = false;
        }
    }

    fn unmounted(&mut self) {
        match &mut self.stage {
            Stage::Terminating(ending) | Stage::Terminated { ending, .. } => ending.unmounted = true,
            Stage::Syncing { .. } | Stage::Removing { .. } | Stage::Gone => {}
        }
    }

    fn container_name(&self, id: &str) -> Option<String> {
        self.view
            .pod()
            .containers
            .iter()
            .find(|c| c.id == id)
            .map(|c| c.name.clone())
    }

    /// The newest instance of the container, if it has exited.
    pub(super) fn exited(&self, name: &str) -> Option<(&Container, &crate::observed::Exit)> {
        let instance = self.view.pod().container(name)?;
        match &instance.state {
            ContainerState::Exited(exit) => Some((instance, exit)),
            ContainerState::Created | ContainerState::Running { .. } | ContainerState::Unknown => None,
        }
    }
}
