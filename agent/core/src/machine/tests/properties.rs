//! Random histories: whatever the order of events, failures and delays, the invariants hold and the pod comes to
//! rest.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::probe::{ProbeKind, Verdict};

/// One thing that happens in a history.
#[derive(Debug, Clone)]
enum Op {
    Succeed(usize),
    Fail(usize),
    Observe,
    /// An observation from some time ago.
    ObserveStale(usize),
    Exit(usize, i32),
    LoseSandbox,
    Liveness(usize),
    Pass(u64),
    ChangeImage,
    Delete(i64),
    Remove,
    RestartAgent,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..4_usize).prop_map(Op::Succeed),
        2 => (0..4_usize).prop_map(Op::Fail),
        6 => Just(Op::Observe),
        2 => (0..6_usize).prop_map(Op::ObserveStale),
        2 => (0..4_usize, 0..2_i32).prop_map(|(i, code)| Op::Exit(i, code)),
        1 => Just(Op::LoseSandbox),
        1 => (0..4_usize).prop_map(Op::Liveness),
        5 => (1..40_u64).prop_map(Op::Pass),
        1 => Just(Op::ChangeImage),
        1 => (0..40_i64).prop_map(Op::Delete),
        1 => Just(Op::Remove),
        1 => Just(Op::RestartAgent),
    ]
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(policy, init, sidecar, hooks)| {
        let hook = json!({"exec": {"command": ["x"]}});
        let lifecycle = if hooks {
            json!({"preStop": hook, "postStart": hook})
        } else {
            json!({})
        };
        let mut before = Vec::new();
        if init {
            before.push(json!({"name": "i", "image": "i"}));
        }
        if sidecar {
            before.push(json!({"name": "s", "image": "i", "restartPolicy": "Always"}));
        }
        pod(json!({
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": 20,
            "initContainers": before,
            "containers": [{"name": "a", "image": "i", "lifecycle": lifecycle}, {"name": "b", "image": "i"}],
        }))
    })
}

fn pick(i: usize, len: usize) -> Option<usize> {
    (len > 0).then(|| i % len)
}

/// The history so far, and what must never happen.
struct World {
    d: Driver,
    past: Vec<ObservedPod>,
    /// The newest of the past that the machine has seen: the shell's cache never goes back behind it.
    seen: usize,
    /// Not Syncing any more.
    ending: bool,
    phase: String,
    restarts: BTreeMap<String, i32>,
}

impl World {
    fn new(pod: Pod) -> Self {
        let d = Driver::new(pod);
        let (phase, restarts) = (String::new(), BTreeMap::new());
        Self {
            d,
            past: vec![ObservedPod::default()],
            seen: 0,
            ending: false,
            phase,
            restarts,
        }
    }

    /// The runtime's state becomes history; the machine may have seen it.
    fn remember(&mut self, seen: bool) {
        self.past.push(self.d.runtime.pod.clone());
        if seen {
            self.seen = self.past.len() - 1;
        }
    }

    fn apply(mut self, op: Op) -> Self {
        match op {
            Op::Succeed(i) => self.succeed(i),
            Op::Fail(i) => {
                if let Some(i) = pick(i, self.d.pending.len()) {
                    self.d.fail(i, "ErrImagePull", Retry::Backoff);
                }
            }
            Op::Observe => {
                self.d.observe();
                self.remember(true);
            }
            Op::ObserveStale(back) => {
                self.seen = self.past.len().saturating_sub(1 + back).max(self.seen);
                let observed = Arc::new(self.past[self.seen].clone());
                self.d.event(Event::Observed(observed));
            }
            Op::Exit(i, code) => self.exit(i, code),
            Op::LoseSandbox => self.lose_sandbox(),
            Op::Liveness(i) => self.fail_liveness(i),
            Op::Pass(secs) => self.d.pass(Duration::from_secs(secs)),
            // An object that is gone does not change any more.
            Op::ChangeImage | Op::Delete(_) if !self.d.machine.present => {}
            Op::ChangeImage => self.change_image(),
            Op::Delete(grace) => {
                let pod = deleted(&self.d.machine.pod().clone(), grace);
                self.d.desire(pod);
            }
            Op::Remove => self.d.event(Event::Removed),
            // An agent that was killed has no steps in flight; the object may be gone by then.
            Op::RestartAgent if !self.d.machine.present || self.d.machine.gone() => {}
            Op::RestartAgent => {
                self.d = self.d.restart_agent();
                self.remember(true);
            }
        }
        let begun = self.d.begun.len();
        self.d.plan();
        self.check(begun);
        self
    }

    fn succeed(&mut self, i: usize) {
        let Some(i) = pick(i, self.d.pending.len()) else {
            return;
        };
        let asked = self.d.pending[i] == Step::Observe;
        self.d.succeed(i);
        self.remember(asked);
    }

    fn exit(&mut self, i: usize, code: i32) {
        let running: Vec<String> = self.d.runtime.running().iter().map(ToString::to_string).collect();
        let Some(i) = pick(i, running.len()) else { return };
        self.d.runtime.exit(&running[i], code, self.d.now.wall);
        self.remember(false);
    }

    fn lose_sandbox(&mut self) {
        for name in ["a", "b", "i", "s"] {
            self.d.runtime.exit(name, 137, self.d.now.wall);
        }
        self.d
            .runtime
            .pod
            .sandboxes
            .iter_mut()
            .for_each(|s| s.ready = false);
        self.d.observe();
        self.remember(true);
    }

    fn fail_liveness(&mut self, i: usize) {
        let containers = &self.d.runtime.pod.containers;
        let Some(i) = pick(i, containers.len()) else {
            return;
        };
        let (container_id, kind) = (containers[i].id.clone(), ProbeKind::Liveness);
        self.d.event(Event::Probe {
            container_id,
            kind,
            verdict: Verdict::Failure,
        });
    }

    fn change_image(&mut self) {
        let mut pod = Pod::clone(self.d.machine.pod());
        if let Some(container) = pod.spec.as_mut().and_then(|s| s.containers.first_mut()) {
            container.image = container.image.as_ref().map(|i| format!("{i}x"));
        }
        self.d.desire(pod);
    }

    fn check(&mut self, begun: usize) {
        assert_eq!(self.d.runtime.violations, Vec::<String>::new());
        let makes = |s: &&Step| matches!(s, Step::RunSandbox { .. } | Step::StartContainer(_) | Step::SetUp);
        let made: Vec<&Step> = self.d.begun[begun.min(self.d.begun.len())..]
            .iter()
            .filter(makes)
            .collect();
        self.ending |= !self.d.machine.syncing();
        assert!(!self.ending || made.is_empty(), "started while ending: {made:?}");
        let phase = self.d.phase();
        assert!(
            !pod::is_terminal(&self.phase) || phase == self.phase,
            "{} -> {phase}",
            self.phase
        );
        self.phase = phase;
        for name in ["a", "b", "i", "s"] {
            let (now, before) = (
                self.d.restarts(name),
                self.restarts.get(name).copied().unwrap_or(0),
            );
            assert!(now >= before, "restarts of {name}: {before} -> {now}");
            self.restarts.insert(name.to_owned(), now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants_and_comes_to_rest(
        pod in any_pod(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut world = ops.into_iter().fold(World::new(pod), World::apply);
        world.d.observe();
        world.d.settle_for(Duration::from_secs(400));
        world.check(usize::MAX);
        prop_assert!(world.d.machine.plan(world.d.now).start.is_empty());
        world.d.event(Event::Removed);
        world.d.settle_for(Duration::from_secs(400));
        prop_assert!(world.d.machine.gone());
        prop_assert_eq!(world.d.runtime.running(), Vec::<&str>::new());
    }
}
