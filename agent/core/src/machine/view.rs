//! What the runtime holds, as far as the machine knows: the last observation and what its own steps have done since.
//!
//! An observation can be older than a step that has just ended (events take their time). Without this overlay the
//! machine would make a second sandbox because it does not see the first one yet. An effect that no observation
//! confirms within [`PATIENCE`] is doubted: the machine has the runtime asked again and believes the answer.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::observed::{Container, ContainerState, ObservedPod, Sandbox};

/// How long an effect may stay unconfirmed before the runtime is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last observation with the effects of later steps on top.
#[derive(Debug, Clone)]
pub(super) struct View {
    observed: Arc<ObservedPod>,
    /// What steps have made, by the runtime's identifier.
    made: BTreeMap<String, (Instant, Made)>,
    /// What steps have stopped or removed, by the runtime's identifier.
    ended: BTreeMap<String, (Instant, Ended)>,
    merged: ObservedPod,
}

/// What a step has made.
#[derive(Debug, Clone)]
pub(super) enum Made {
    Sandbox(Box<Sandbox>),
    Container(Box<Container>),
}

/// What a step has done to a container or a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stopped,
    Removed,
}

impl View {
    pub(super) fn new(observed: Arc<ObservedPod>) -> Self {
        let merged = ObservedPod::clone(&observed);
        Self {
            observed,
            made: BTreeMap::new(),
            ended: BTreeMap::new(),
            merged,
        }
    }

    /// What to decide on.
    pub(super) fn pod(&self) -> &ObservedPod {
        &self.merged
    }

    /// A new observation, which may be older than the effects.
    pub(super) fn observe(&mut self, observed: Arc<ObservedPod>) {
        self.observed = observed;
        self.settle();
    }

    /// An answer of the runtime to a question asked at `asked`: older effects that it does not show did not last.
    pub(super) fn believe(&mut self, observed: Arc<ObservedPod>, asked: Instant) {
        self.made.retain(|_, (since, _)| *since > asked);
        self.ended.retain(|_, (since, _)| *since > asked);
        self.observe(observed);
    }

    pub(super) fn record_made(&mut self, id: String, made: Made, now: Instant) {
        self.made.insert(id, (now, made));
        self.settle();
    }

    pub(super) fn record_ended(&mut self, id: String, ended: Ended, now: Instant) {
        self.ended.insert(id, (now, ended));
        self.settle();
    }

    /// When the oldest unconfirmed effect is to be doubted.
    pub(super) fn doubt_at(&self) -> Option<Instant> {
        let made = self.made.values().map(|(since, _)| *since);
        let ended = self.ended.values().map(|(since, _)| *since);
        made.chain(ended).min().map(|since| since + PATIENCE)
    }

    /// The container was stopped by us, whatever the observation says.
    pub(super) fn stopped(&self, id: &str) -> bool {
        self.ended.contains_key(id)
    }

    /// Forgets the effects that the observation shows, and puts the others on top of it.
    fn settle(&mut self) {
        let observed = &self.observed;
        self.made.retain(|id, (_, made)| !made.shown(id, observed));
        let made = &self.made;
        self.ended
            .retain(|id, (_, ended)| made.contains_key(id) || !ended.shown(id, observed));
        let mut pod = ObservedPod::clone(observed);
        for (id, (_, made)) in &self.made {
            match made {
                Made::Sandbox(sandbox) => pod.sandboxes.push(Sandbox::clone(sandbox)),
                Made::Container(container) => {
                    pod.containers.retain(|c| c.id != *id);
                    pod.containers.push(Container::clone(container));
                }
            }
        }
        for (id, (_, ended)) in &self.ended {
            match ended {
                Ended::Stopped => pod
                    .sandboxes
                    .iter_mut()
                    .filter(|s| s.id == *id)
                    .for_each(|s| s.ready = false),
                Ended::Removed => {
                    pod.sandboxes.retain(|s| s.id != *id);
                    pod.containers.retain(|c| c.id != *id && c.sandbox_id != *id);
                }
            }
        }
        pod.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.attempt));
        pod.containers.sort_by_key(|c| std::cmp::Reverse(c.attempt));
        self.merged = pod;
    }
}

impl Made {
    fn shown(&self, id: &str, pod: &ObservedPod) -> bool {
        match self {
            Self::Sandbox(_) => pod.sandboxes.iter().any(|s| s.id == id),
            Self::Container(made) => pod.containers.iter().any(|seen| {
                seen.id == id
                    && (seen.state != ContainerState::Created || made.state == ContainerState::Created)
            }),
        }
    }
}

impl Ended {
    fn shown(self, id: &str, pod: &ObservedPod) -> bool {
        let sandbox = pod.sandboxes.iter().find(|s| s.id == id);
        let container = pod.containers.iter().find(|c| c.id == id);
        match self {
            Self::Stopped => sandbox.is_none_or(|s| !s.ready) && container.is_none_or(|c| !alive(&c.state)),
            Self::Removed => sandbox.is_none() && container.is_none(),
        }
    }
}

/// It runs, or may run.
pub(super) fn alive(state: &ContainerState) -> bool {
    match state {
        ContainerState::Running { .. } | ContainerState::Unknown => true,
        ContainerState::Created | ContainerState::Exited(_) => false,
    }
}
