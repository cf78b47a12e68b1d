//! A model of a runtime and of an API server that run the machine's steps and check them.

use std::time::Duration;

use super::*;
use crate::{
    hash,
    observed::{Container, ContainerState, Exit, Sandbox},
};

/// What a step did that it must never do.
type Violation = String;

/// The runtime: what it holds, and the rules that a caller must keep.
#[derive(Debug, Default)]
pub(super) struct Runtime {
    pub(super) pod: ObservedPod,
    made: u32,
    pub(super) violations: Vec<Violation>,
}

/// A machine with its world around it.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) machine: PodMachine,
    pub(super) runtime: Runtime,
    pub(super) now: Now,
    /// Begun and not ended.
    pub(super) pending: Vec<Step>,
    /// All that were ever begun.
    pub(super) begun: Vec<Step>,
    pub(super) notices: Vec<Notice>,
    /// What the API server was last sent.
    pub(super) final_status: Option<PodStatus>,
}

impl Runtime {
    fn container(&mut self, id: &str) -> Option<&mut Container> {
        self.pod.containers.iter_mut().find(|c| c.id == id)
    }

    pub(super) fn running(&self) -> Vec<&str> {
        let running = |c: &&Container| matches!(c.state, ContainerState::Running { .. });
        let mut names: Vec<&str> = self
            .pod
            .containers
            .iter()
            .filter(running)
            .map(|c| c.name.as_str())
            .collect();
        names.sort_unstable();
        names
    }

    /// The container's process ends.
    pub(super) fn exit(&mut self, name: &str, code: i32, now: Timestamp) {
        let running =
            |c: &&mut Container| c.name == name && matches!(c.state, ContainerState::Running { .. });
        let Some(container) = self.pod.containers.iter_mut().find(running) else {
            return;
        };
        container.state = exited(code, now);
    }

    fn apply(&mut self, step: &Step, pod: &Pod, now: Now) -> Result<Outcome, StepError> {
        if let Step::StartContainer(start) = step
            && !self
                .pod
                .sandboxes
                .iter()
                .any(|s| s.ready && s.id == start.sandbox.id)
        {
            // It died while the step was on its way.
            let (reason, message) = ("CreateContainerError".into(), "sandbox is not running".into());
            return Err(StepError {
                reason,
                message,
                retry: Retry::Backoff,
            });
        }
        Ok(match step {
            Step::RunSandbox { attempt } => Outcome::Sandbox(Box::new(self.run_sandbox(*attempt, pod, now))),
            Step::EnsureImage { .. } => Outcome::Image(Image {
                reference: "sha".into(),
                user: ImageUser::Uid(0),
            }),
            Step::StartContainer(start) => Outcome::Container(Box::new(self.start(start, pod, now))),
            Step::StopContainer { id, .. } => self.stop(id, now),
            Step::StopSandbox { id } => self.stop_sandbox(id),
            Step::RemoveSandbox { id } => {
                self.pod.sandboxes.retain(|s| s.id != *id);
                self.pod.containers.retain(|c| c.sandbox_id != *id);
                Outcome::Done
            }
            Step::RemoveContainer { id } => self.remove(id),
            Step::Observe => Outcome::Observed(Arc::new(self.pod.clone())),
            Step::TakeTurn
            | Step::SetUp
            | Step::RefreshVolumes
            | Step::PostStart { .. }
            | Step::PreStop { .. }
            | Step::Unmount
            | Step::RemoveCgroup
            | Step::Delete { .. }
            | Step::CleanUp => Outcome::Done,
        })
    }

    fn stop(&mut self, id: &str, now: Now) -> Outcome {
        if let Some(container) = self.container(id)
            && matches!(container.state, ContainerState::Running { .. })
        {
            container.state = exited(137, now.wall);
        }
        Outcome::Done
    }

    fn stop_sandbox(&mut self, id: &str) -> Outcome {
        if !self.running().is_empty() {
            self.violations
                .push("sandbox stopped under running containers".into());
        }
        self.pod
            .sandboxes
            .iter_mut()
            .filter(|s| s.id == id)
            .for_each(|s| s.ready = false);
        Outcome::Done
    }

    fn remove(&mut self, id: &str) -> Outcome {
        if self
            .container(id)
            .is_some_and(|c| matches!(c.state, ContainerState::Running { .. }))
        {
            self.violations.push("a running container was removed".into());
        }
        self.pod.containers.retain(|c| c.id != id);
        Outcome::Done
    }

    fn run_sandbox(&mut self, attempt: u32, pod: &Pod, now: Now) -> Sandbox {
        if self.pod.sandboxes.iter().any(|s| s.ready) {
            self.violations.push("a second sandbox".into());
        }
        self.made += 1;
        let sandbox = Sandbox {
            id: format!("s{}", self.made),
            attempt,
            ready: true,
            created_at: now.wall,
            ips: vec!["10.0.0.7".parse().expect("an address")],
            host_network: pod::host_network(pod),
        };
        self.pod.sandboxes.insert(0, sandbox.clone());
        sandbox
    }

    fn start(&mut self, start: &Start, pod: &Pod, now: Now) -> Container {
        if self.running().contains(&start.container.as_str()) {
            self.violations
                .push(format!("a second instance of {}", start.container));
        }
        let attempts = self
            .pod
            .containers
            .iter()
            .filter(|c| c.name == start.container)
            .map(|c| c.attempt);
        if attempts.max().is_some_and(|last| last >= start.attempt) {
            self.violations
                .push(format!("attempt of {} does not grow", start.container));
        }
        self.made += 1;
        let image = pod::containers(pod)
            .iter()
            .find(|s| s.name == start.container)
            .map_or("", |s| s.image);
        let container = Container {
            id: format!("c{}", self.made),
            sandbox_id: start.sandbox.id.clone(),
            name: start.container.clone(),
            attempt: start.attempt,
            hash: hash::container_hash(&start.container, image),
            image: image.to_owned(),
            image_id: "sha".into(),
            state: ContainerState::Running { started_at: now.wall },
            termination_message_path: String::new(),
            termination_message_policy: String::new(),
            grace_secs: None,
        };
        self.pod.containers.insert(0, container.clone());
        container
    }
}

fn exited(code: i32, now: Timestamp) -> ContainerState {
    let reason = if code == 0 { "Completed" } else { "Error" };
    ContainerState::Exited(Exit {
        code,
        reason: reason.into(),
        message: String::new(),
        started_at: Some(now),
        finished_at: now,
    })
}

/// Instants cannot be made otherwise.
#[allow(clippy::disallowed_methods)]
fn epoch() -> Instant {
    Instant::now()
}

impl Driver {
    pub(super) fn new(pod: Pod) -> Self {
        Self::with(pod, Runtime::default())
    }

    /// The agent comes up with this pod in the API and this in the runtime.
    pub(super) fn with(pod: Pod, runtime: Runtime) -> Self {
        let wall = Timestamp::from_second(1_800_000_000).expect("in range");
        let now = Now {
            instant: epoch(),
            wall,
        };
        let facts = Arc::new(NodeFacts {
            host_ips: vec!["192.0.2.1".parse().expect("an address")],
            max_restart_period: None,
        });
        let machine = PodMachine::new(Arc::new(pod), Arc::new(runtime.pod.clone()), facts, now);
        let (pending, begun, notices) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            machine,
            runtime,
            now,
            pending,
            begun,
            notices,
            final_status: None,
        }
    }

    /// kill -9 and a new start of the agent; the API has the last status.
    pub(super) fn restart_agent(self) -> Self {
        let Self {
            mut machine,
            runtime,
            now,
            ..
        } = self;
        let mut pod = Pod::clone(machine.pod());
        pod.status = Some(machine.status(now).clone());
        let mut next = Self::with(pod, runtime);
        next.now = now;
        next
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall = self.now.wall.saturating_add(time).expect("in range");
    }

    pub(super) fn event(&mut self, event: Event) {
        self.machine.on_event(event, self.now);
    }

    pub(super) fn desire(&mut self, pod: Pod) {
        self.event(Event::Desired(Arc::new(pod)));
    }

    pub(super) fn observe(&mut self) {
        self.event(Event::Observed(Arc::new(self.runtime.pod.clone())));
    }

    pub(super) fn plan(&mut self) {
        let plan = self.machine.plan(self.now);
        self.pending.retain(|step| !plan.cancel.contains(&step.key()));
        self.pending.extend(plan.start.iter().cloned());
        self.begun.extend(plan.start);
        self.notices.extend(self.machine.take_notices());
    }

    /// The pending step of this key succeeds.
    pub(super) fn succeed(&mut self, index: usize) {
        let step = self.pending.remove(index);
        if let Step::Delete { status } = &step {
            self.final_status = Some(PodStatus::clone(status));
        }
        let result = self.runtime.apply(&step, &self.machine.pod().clone(), self.now);
        self.event(Event::StepDone {
            step: step.key(),
            result,
        });
    }

    pub(super) fn fail(&mut self, index: usize, reason: &str, retry: Retry) {
        let step = self.pending.remove(index);
        let error = StepError {
            reason: reason.to_owned(),
            message: "no luck".to_owned(),
            retry,
        };
        self.event(Event::StepDone {
            step: step.key(),
            result: Err(error),
        });
    }

    pub(super) fn find(&self, wanted: impl Fn(&Step) -> bool) -> usize {
        let found = self.pending.iter().position(wanted);
        found.unwrap_or_else(|| panic!("not pending, but {:?}", self.pending))
    }

    /// Everything that begins succeeds and is observed, until nothing more begins at this time.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            self.plan();
            if self.pending.is_empty() {
                assert_eq!(self.runtime.violations, Vec::<Violation>::new());
                return;
            }
            while !self.pending.is_empty() {
                self.succeed(0);
            }
            self.observe();
        }
        panic!("does not come to rest: {:?}", self.pending);
    }

    /// Like [`Driver::settle`], with the clock moving from deadline to deadline for at most `time`.
    pub(super) fn settle_for(&mut self, time: Duration) {
        let end = self.now.instant + time;
        loop {
            self.settle();
            match self.machine.next_deadline(self.now) {
                Some(at) if at <= end => self.pass(at - self.now.instant),
                Some(_) | None => break,
            }
        }
        self.pass(end - self.now.instant);
        self.settle();
    }

    pub(super) fn status(&mut self) -> PodStatus {
        self.machine.status(self.now).clone()
    }

    pub(super) fn phase(&mut self) -> String {
        self.status().phase.unwrap_or_default()
    }

    /// `running`, `exit 1` or the waiting reason.
    pub(super) fn state(&mut self, name: &str) -> String {
        let status = self.status();
        let lists = [status.init_container_statuses, status.container_statuses];
        let found = lists.into_iter().flatten().flatten().find(|s| s.name == name);
        let state = found.and_then(|s| s.state).unwrap_or_default();
        match (state.running, state.terminated, state.waiting) {
            (Some(_), _, _) => "running".into(),
            (_, Some(t), _) => format!("exit {}", t.exit_code),
            (_, _, Some(w)) => w.reason.unwrap_or_default(),
            (None, None, None) => String::new(),
        }
    }

    pub(super) fn restarts(&mut self, name: &str) -> i32 {
        let status = self.status();
        let lists = [status.init_container_statuses, status.container_statuses];
        lists
            .into_iter()
            .flatten()
            .flatten()
            .find(|s| s.name == name)
            .map_or(0, |s| s.restart_count)
    }

    /// Status, reason and message of a condition.
    pub(super) fn condition(&mut self, kind: &str) -> (String, String, String) {
        let conditions = self.status().conditions.unwrap_or_default();
        let found = conditions
            .into_iter()
            .find(|c| c.type_ == kind)
            .expect("a condition");
        (
            found.status,
            found.reason.unwrap_or_default(),
            found.message.unwrap_or_default(),
        )
    }

    pub(super) fn reasons(&self) -> Vec<&str> {
        self.notices.iter().map(|n| n.reason.as_str()).collect()
    }
}
