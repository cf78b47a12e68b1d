//! Workers with hands that act on a small model of a runtime.

use std::sync::{Mutex, PoisonError};

use gantry_agent_core::{
    hash::container_hash,
    machine::{Image, ImageUser, Outcome},
    observed::{Container, Exit, Sandbox},
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::DEADLINE;

/// What the hands did and hold; clones share it.
#[derive(Clone)]
struct Fake {
    held: Arc<watch::Sender<Arc<ObservedPod>>>,
    status: Arc<watch::Sender<PodStatus>>,
    steps: Arc<Mutex<Vec<StepKey>>>,
    /// Pulls never end.
    slow_pull: bool,
}

/// A worker that runs, and its world.
struct World {
    fake: Fake,
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

impl Fake {
    fn new(slow_pull: bool) -> Self {
        Self {
            held: Arc::new(watch::Sender::default()),
            status: Arc::new(watch::Sender::default()),
            steps: Arc::default(),
            slow_pull,
        }
    }

    fn steps(&self) -> Vec<StepKey> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut ObservedPod)) {
        self.held.send_modify(|pod| change(Arc::make_mut(pod)));
    }

    async fn act(self, step: Step) -> StepResult {
        match step {
            Step::RunSandbox { attempt } => {
                let ips = vec!["10.0.0.7".parse().expect("an address")];
                let (id, created_at) = ("s".to_owned(), Timestamp::now());
                let sandbox = Sandbox {
                    id,
                    attempt,
                    ready: true,
                    created_at,
                    ips,
                    host_network: false,
                };
                self.change(|pod| pod.sandboxes.push(sandbox.clone()));
                Ok(Outcome::Sandbox(Box::new(sandbox)))
            }
            Step::EnsureImage { .. } if self.slow_pull => std::future::pending().await,
            Step::EnsureImage { .. } => {
                let (reference, user) = ("sha".to_owned(), ImageUser::Uid(0));
                Ok(Outcome::Image(Image { reference, user }))
            }
            Step::StartContainer(start) => {
                let container = running(&start.container);
                self.change(|pod| pod.containers.push(container.clone()));
                Ok(Outcome::Container(Box::new(container)))
            }
            Step::StopContainer { .. } => {
                self.exit(143);
                Ok(Outcome::Done)
            }
            Step::StopSandbox { .. } => {
                self.change(|pod| pod.sandboxes.iter_mut().for_each(|s| s.ready = false));
                Ok(Outcome::Done)
            }
            Step::RemoveSandbox { .. } => {
                self.change(|pod| *pod = ObservedPod::default());
                Ok(Outcome::Done)
            }
            Step::Observe => Ok(Outcome::Observed(self.held.borrow().clone())),
            Step::TakeTurn
            | Step::SetUp
            | Step::RefreshVolumes
            | Step::PostStart { .. }
            | Step::PreStop { .. }
            | Step::RemoveContainer { .. }
            | Step::Unmount
            | Step::RemoveCgroup
            | Step::Delete { .. }
            | Step::CleanUp => Ok(Outcome::Done),
        }
    }

    fn exit(&self, code: i32) {
        let exit = Exit {
            code,
            reason: "Error".into(),
            message: String::new(),
            started_at: Some(Timestamp::now()),
            finished_at: Timestamp::now(),
        };
        self.change(|pod| {
            pod.containers
                .iter_mut()
                .for_each(|c| c.state = ContainerState::Exited(exit.clone()));
        });
    }
}

fn running(name: &str) -> Container {
    Container {
        id: "c".into(),
        sandbox_id: "s".into(),
        name: name.into(),
        attempt: 0,
        hash: container_hash(name, "i"),
        image: "i".into(),
        image_id: "sha".into(),
        state: ContainerState::Running {
            started_at: Timestamp::now(),
        },
        termination_message_path: String::new(),
        termination_message_policy: String::new(),
        grace_secs: None,
    }
}

impl Hands for Fake {
    fn run(&self, job: Job) -> BoxFuture<'static, StepResult> {
        self.steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(job.step.key());
        Box::pin(self.clone().act(job.step))
    }

    fn publish(&self, _: &Pod, status: PodStatus) {
        self.status.send_replace(status);
    }

    fn notice(&self, _: &Pod, _: Notice) {}

    fn probe(&self, _: Target, _: &mpsc::Sender<ProbeEvent>) -> Option<ProbeSet> {
        None
    }

    fn inputs_changed(&self, _: String) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn forget(&self, _: &str) {}
}

fn pod(deleted: bool) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
    });
    if deleted {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

impl World {
    fn start(fake: Fake, turns: &Turns) -> Self {
        let (wanted, receiver) = watch::channel(Wanted {
            pod: pod(false),
            present: true,
        });
        let beginning = Beginning {
            wanted: receiver,
            observed: fake.held.subscribe(),
            facts: Arc::default(),
            rejected: None,
            finished: Arc::default(),
            counters: PodCounters::default(),
        };
        let task = tokio::spawn(Worker::new(beginning, fake.clone(), turns.clone()).run());
        Self { fake, wanted, task }
    }

    async fn phase(&self, phase: &str) {
        let mut status = self.fake.status.subscribe();
        let reached = status.wait_for(|s| s.phase.as_deref() == Some(phase));
        tokio::time::timeout(DEADLINE, reached)
            .await
            .expect(phase)
            .expect("a status");
    }

    async fn over(self) {
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .expect("an end")
            .expect("no panic");
    }
}

#[tokio::test]
async fn a_pod_runs_is_deleted_and_leaves_nothing() {
    let world = World::start(Fake::new(false), &Turns::default());
    world.phase("Running").await;
    world.wanted.send_replace(Wanted {
        pod: pod(true),
        present: true,
    });
    world.phase("Failed").await;
    world.wanted.send_replace(Wanted {
        pod: pod(true),
        present: false,
    });
    let fake = world.fake.clone();
    world.over().await;
    let steps = fake.steps();
    for step in [
        StepKey::Stop("c".into()),
        StepKey::Unmount,
        StepKey::Delete,
        StepKey::CleanUp,
    ] {
        assert_eq!(
            steps.iter().filter(|s| **s == step).count(),
            1,
            "{step:?} in {steps:?}"
        );
    }
    assert_eq!(**fake.held.borrow(), ObservedPod::default());
}

#[tokio::test]
async fn an_exit_is_acted_on_when_the_runtime_says_so() {
    let world = World::start(Fake::new(false), &Turns::default());
    world.phase("Running").await;
    world.fake.exit(0);
    world.phase("Succeeded").await;
    assert!(
        !world.fake.steps().contains(&StepKey::Delete),
        "nobody has deleted it"
    );
}

#[tokio::test]
async fn slow_pulls_hold_no_turn() {
    let turns = Turns::default();
    let _slow: Vec<World> = (0..20).map(|_| World::start(Fake::new(true), &turns)).collect();
    World::start(Fake::new(false), &turns).phase("Running").await;
}

#[tokio::test]
async fn a_worker_whose_manager_goes_leaves_its_pod_running() {
    let world = World::start(Fake::new(false), &Turns::default());
    world.phase("Running").await;
    let World { fake, wanted, task } = world;
    drop(wanted);
    tokio::time::timeout(DEADLINE, task)
        .await
        .expect("an end")
        .expect("no panic");
    assert!(!fake.steps().contains(&StepKey::Stop("c".into())));
    assert!(fake.held.borrow().sandbox().is_some_and(|s| s.ready));
}
