//! From one stage to the next, and the steps of the stages in which a pod ends.

use jiff::{SignedDuration, Timestamp};

use super::{Ending, Failure, Now, PodMachine, Stage, Step, StepKey, view::alive};
use crate::pod;

impl PodMachine {
    /// Moves to the stage that fits what is known now.
    pub(super) fn advance(&mut self, now: Now) {
        loop {
            let next = match &self.stage {
                Stage::Syncing { .. } => self.reason_to_end(now).map(|ending| self.terminating(ending)),
                Stage::Terminating(ending) => self.stopped().then(|| Stage::Terminated {
                    ending: ending.clone(),
                    freed: false,
                    deleted: false,
                }),
                Stage::Terminated { ending, freed, .. } => (!self.present && ending.unmounted && *freed)
                    .then_some(Stage::Removing { cleaned: false }),
                Stage::Removing { cleaned } => {
                    let held = self.view.pod();
                    (*cleaned && held.sandboxes.is_empty() && held.containers.is_empty())
                        .then_some(Stage::Gone)
                }
                Stage::Gone => None,
            };
            match next {
                Some(stage) => self.stage = stage,
                None => break,
            }
        }
        self.shorten_grace(now);
    }

    /// The pod has to end; in a stage in which it ends already only the grace period can become shorter.
    pub(super) fn end(&mut self, ending: Ending, now: Now) {
        match &mut self.stage {
            Stage::Syncing { .. } => self.stage = self.terminating(ending),
            Stage::Terminating(current) => {
                current.failure = current.failure.take().or(ending.failure);
                let deadline = current.deadline.min(ending.deadline).max(now.instant);
                current.deadline = deadline;
                self.hurry_kills(deadline);
            }
            Stage::Terminated { .. } | Stage::Removing { .. } | Stage::Gone => {}
        }
    }

    /// What was begun for a pod that shall run is dropped where that leaves nothing behind.
    fn terminating(&mut self, ending: Ending) -> Stage {
        let dropped: Vec<StepKey> = self
            .in_flight
            .keys()
            .filter(|key| key.droppable())
            .cloned()
            .collect();
        for key in dropped {
            self.in_flight.remove(&key);
            self.cancel.push(key);
        }
        self.hooks.clear();
        self.images.clear();
        self.retries
            .retain(|key| matches!(key, StepKey::Stop(_) | StepKey::StopSandbox(_) | StepKey::Observe));
        self.hurry_kills(ending.deadline);
        Stage::Terminating(ending)
    }

    fn reason_to_end(&self, now: Now) -> Option<Ending> {
        let grace = pod::grace(&self.pod);
        if pod::deleting(&self.pod) || !self.present || pod::terminal_in_api(&self.pod) {
            return Some(Ending::by(now.instant + grace, None));
        }
        if self.active_deadline().is_some_and(|at| at <= now.wall) {
            let failure = Failure {
                reason: "DeadlineExceeded".to_owned(),
                message: "Pod was active on the node longer than the specified deadline".to_owned(),
            };
            return Some(Ending::by(now.instant + grace, Some(failure)));
        }
        let done = self.in_flight.keys().all(|key| !key.makes()) && self.wants(&self.pod).finished;
        done.then(|| Ending::by(now.instant + grace, None))
    }

    /// When `activeDeadlineSeconds` are over, counted from `status.startTime`.
    pub(super) fn active_deadline(&self) -> Option<Timestamp> {
        let secs = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let start = self.status.start_time.as_ref()?.0;
        self.syncing().then(|| {
            start
                .saturating_add(SignedDuration::from_secs(secs))
                .unwrap_or(Timestamp::MAX)
        })
    }

    /// A second delete with a shorter grace period; a longer one changes nothing.
    fn shorten_grace(&mut self, now: Now) {
        let deadline = now.instant + pod::grace(&self.pod);
        let Stage::Terminating(ending) = &mut self.stage else {
            return;
        };
        if (pod::deleting(&self.pod) || !self.present) && deadline < ending.deadline {
            ending.deadline = deadline;
            self.hurry_kills(deadline);
        }
    }

    /// Nothing of the pod runs, nothing is about to, and its network is gone: a sandbox shows as stopped before that,
    /// so the step has to end as well.
    fn stopped(&self) -> bool {
        let held = self.view.pod();
        let busy = |key: &StepKey| key.makes() || matches!(key, StepKey::StopSandbox(_));
        !self.in_flight.keys().any(busy)
            && !held.containers.iter().any(|c| alive(&c.state))
            && !held.sandboxes.iter().any(|s| s.ready)
    }

    pub(super) fn plan_terminating(&mut self, ending: &Ending, now: Now) -> Vec<Step> {
        self.kill_all(ending.deadline, now);
        let mut steps = self.kill_steps(now);
        let held = self.view.pod();
        let making = self.in_flight.keys().any(StepKey::makes);
        if making || held.containers.iter().any(|c| alive(&c.state)) {
            return steps;
        }
        let ready = held.sandboxes.iter().filter(|s| s.ready);
        steps.extend(ready.map(|s| Step::StopSandbox { id: s.id.clone() }));
        if !ending.unmounted {
            steps.push(Step::Unmount);
        }
        steps
    }

    pub(super) fn plan_terminated(
        &mut self,
        unmounted: bool,
        freed: bool,
        deleted: bool,
        now: Now,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        if !unmounted {
            steps.push(Step::Unmount);
        }
        if !freed {
            steps.push(Step::RemoveCgroup);
        }
        if unmounted && !deleted && self.present && pod::deleting(&self.pod) {
            steps.push(Step::Delete {
                status: Box::new(self.status(now).clone()),
            });
        }
        steps
    }

    pub(super) fn plan_removing(&self, cleaned: bool) -> Vec<Step> {
        let held = self.view.pod();
        let sandboxes = held
            .sandboxes
            .iter()
            .map(|s| Step::RemoveSandbox { id: s.id.clone() });
        let mut steps: Vec<Step> = sandboxes.collect();
        if steps.is_empty() {
            steps.extend(
                held.containers
                    .iter()
                    .map(|c| Step::RemoveContainer { id: c.id.clone() }),
            );
        }
        if steps.is_empty() && !cleaned {
            steps.push(Step::CleanUp);
        }
        steps
    }
}
