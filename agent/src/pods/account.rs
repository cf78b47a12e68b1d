//! What the series are told of one pod: the worker calls, nothing is decided here.
//!
//! A pass of the worker lasts from an event to the moment when no step is in flight any more: that is what kubelet's
//! `pod_worker_duration` measures, whose passes wait for everything that they begin.

use std::time::{Duration, Instant};

use gantry_agent_core::{machine::PodMachine, pod, start};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::metrics::{ContainerKind, Pass, Place, PodMetrics, SliStart, Standing, StartMetrics};

/// The groups of series that a worker counts in.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodCounters {
    pub(crate) pods: PodMetrics,
    pub(crate) starts: StartMetrics,
}

/// See the module's documentation. Dropping it takes the pod out of the gauges.
#[derive(Debug)]
pub(super) struct Account {
    counters: PodCounters,
    seen: Instant,
    /// The API server had it when the worker began.
    known: bool,
    /// As counted in the gauges.
    standing: Option<Standing>,
    /// The pass under way.
    pass: Option<(Pass, Instant)>,
    start: Start,
    images: Images,
}

/// How far the pod's start is.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// It had no status when the worker began: measured.
    New,
    /// The agent has computed that it runs.
    Runs,
    /// Measured, or not to be measured: the pod was there before the agent, or has ended.
    Over,
}

/// The time in which at least one image was awaited.
#[derive(Debug, Default)]
struct Images {
    awaited: usize,
    since: Option<Instant>,
    total: Duration,
}

impl Images {
    fn begin(&mut self) {
        self.awaited += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    fn end(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
        if self.awaited == 0
            && let Some(since) = self.since.take()
        {
            self.total += since.elapsed();
        }
    }
}

impl Account {
    pub(super) fn new(counters: PodCounters, pod: &Pod, known: bool, seen: Instant) -> Self {
        let started = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        Self {
            counters,
            seen,
            known,
            standing: None,
            pass: None,
            start: if known && !started {
                Start::New
            } else {
                Start::Over
            },
            images: Images::default(),
        }
    }

    /// The worker's task runs.
    pub(super) fn begins(&mut self, pod: &Pod) {
        self.pass = Some((Pass::Create, Instant::now()));
        if self.known {
            let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
            self.counters.pods.worker_started(containers, self.seen.elapsed());
        }
    }

    /// The worker woke up.
    pub(super) fn wakes(&mut self, kind: Pass) {
        self.pass.get_or_insert_with(|| (kind, Instant::now()));
    }

    /// An image is awaited, or not any more.
    pub(super) fn awaits_image(&mut self, begins: bool) {
        if begins {
            self.images.begin();
        } else {
            self.images.end();
        }
    }

    /// The worker has acted; `busy`: steps are in flight.
    pub(super) fn acted(&mut self, machine: &PodMachine, busy: bool) {
        self.stand(machine);
        if busy {
            return;
        }
        if let Some((kind, since)) = self.pass.take() {
            let kind = if machine.gone() {
                Pass::Terminated
            } else if machine.syncing() || kind == Pass::Create {
                kind
            } else {
                Pass::Kill
            };
            self.counters.pods.synced(kind, since.elapsed());
        }
    }

    /// The gauges follow.
    fn stand(&mut self, machine: &PodMachine) {
        let place = match (machine.syncing(), machine.finished()) {
            (true, _) => Place::Syncing,
            (false, false) => Place::Terminating,
            (false, true) => Place::Terminated,
        };
        let now = (!machine.gone()).then(|| Standing {
            place,
            desired: machine.present(),
            known: self.known,
            is_static: pod::is_static(machine.pod()),
            ephemeral: pod::ephemeral_count(machine.pod()),
        });
        self.replace(now);
    }

    fn replace(&mut self, now: Option<Standing>) {
        if self.standing == now {
            return;
        }
        if let Some(old) = std::mem::replace(&mut self.standing, now) {
            self.counters.pods.stands(old, -1);
        }
        if let Some(new) = self.standing {
            self.counters.pods.stands(new, 1);
        }
    }

    /// The status is another one now.
    pub(super) fn status(&mut self, old: &PodStatus, new: &PodStatus) {
        let lists = [
            (
                ContainerKind::Init,
                &old.init_container_statuses,
                &new.init_container_statuses,
            ),
            (
                ContainerKind::Regular,
                &old.container_statuses,
                &new.container_statuses,
            ),
            (
                ContainerKind::Ephemeral,
                &old.ephemeral_container_statuses,
                &new.ephemeral_container_statuses,
            ),
        ];
        for (kind, old, new) in lists {
            self.ends(kind, old.as_deref(), new.as_deref());
        }
        if self.start == Start::New {
            let phase = |status: &PodStatus| status.phase.clone().unwrap_or_default();
            let (before, now) = (phase(old), phase(new));
            if pod::is_terminal(&now) {
                self.start = Start::Over;
            } else if now == "Running" && before != now {
                self.counters.starts.runs(self.seen.elapsed());
                self.start = Start::Runs;
            }
        }
    }

    /// Each exit counts once: when the status first shows it.
    fn ends(&self, kind: ContainerKind, old: Option<&[ContainerStatus]>, new: Option<&[ContainerStatus]>) {
        for status in new.unwrap_or_default() {
            let before = old.unwrap_or_default().iter().find(|s| s.name == status.name);
            let exit = |s: &ContainerStatus| s.state.as_ref().and_then(|state| state.terminated.clone());
            if let (Some(exit), None) = (exit(status), before.and_then(exit)) {
                let reason = exit.reason.unwrap_or_default();
                self.counters.pods.container_ended(kind, exit.exit_code, &reason);
            }
        }
    }

    /// The API server shows this of the pod.
    pub(super) fn shown(&mut self, pod: &Pod) {
        if self.start != Start::Runs || !start::all_running(pod) {
            return;
        }
        self.start = Start::Over;
        let Some(created) = &pod.metadata.creation_timestamp else {
            return;
        };
        let age = Duration::try_from(Timestamp::now().duration_since(created.0)).unwrap_or_default();
        let start = SliStart {
            stateful: start::is_stateful(pod),
            own_network: !pod::host_network(pod),
        };
        let without = self.images.total + start::init_time(pod);
        self.counters.starts.seen_running(age, without, start);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.replace(None);
    }
}

#[cfg(test)]
mod tests;
