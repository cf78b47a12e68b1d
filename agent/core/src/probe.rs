//! When a container is probed, and what a series of answers means.
//!
//! One [`ProbeMachine`] per probe of a running container instance. It never sleeps: it names its next deadline, the
//! shell runs the probe and feeds the outcome back. A new container instance gets a new machine.
//!
//! ```text
//!            gate opens            deadline               outcome
//!  Gated ───────────────> Waiting ──────────> Running ──────────────> Waiting
//!                                                │ startup decided, liveness failed, pod terminating
//!                                                └──────────────────> Done
//! ```
//!
//! Reference: `pkg/kubelet/prober/worker.go` (kubelet-surface.md, section 13). One difference: the initial delay ends
//! exactly `initialDelaySeconds` after the start of the container, not at the next multiple of the period.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Probe;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Decides whether the container gets traffic.
    Readiness,
    /// Decides whether the container is restarted.
    Liveness,
    /// Holds the other two back until the container has started; restarts it when it does not.
    Startup,
}

/// What is known about a container by one of its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Ready, alive or started.
    Success,
    /// Not ready, or to be restarted.
    Failure,
    /// Not known yet: a startup probe before its first decision.
    Unknown,
}

/// The answer of one run of a probe. Errors of the prober itself (the runtime does not answer, a port name that does
/// not exist) are no outcome: the shell drops them with [`ProbeMachine::abandon`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The check passed.
    Success,
    /// The check failed or timed out.
    Failure,
}

/// The numbers of a probe, with the API's defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSettings {
    /// From the start of the container to the first run.
    pub initial_delay: Duration,
    /// From the begin of a run to the begin of the next; at least a second.
    pub period: Duration,
    /// How long a run may take; at least a second.
    pub timeout: Duration,
    /// Successes in a row that make a success.
    pub success_threshold: u32,
    /// Failures in a row that make a failure.
    pub failure_threshold: u32,
}

/// What the shell knows about the container instance when it begins to probe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// When the container was started.
    pub started: Instant,
    /// It has a startup probe that has not succeeded yet (ignored by the startup probe itself).
    pub gated: bool,
    /// It ran before the agent did: the first run waits this long (a random part of the period, so that not all
    /// containers are probed at once), and the last known verdict stays until the first result.
    pub adopted: Option<Duration>,
}

/// The state machine of one probe of one container instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeMachine {
    kind: ProbeKind,
    settings: ProbeSettings,
    phase: Phase,
    /// The last outcome and how often it came in a row.
    run: Option<(Outcome, u32)>,
    /// The last verdict that was published; `None` for an adopted container before its first.
    published: Option<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The startup probe has not succeeded. Left by [`ProbeMachine::open_gate`].
    Gated {
        /// The end of the initial delay.
        earliest: Instant,
    },
    /// Left by [`ProbeMachine::begin`] at `due`.
    Waiting {
        /// When to run next.
        due: Instant,
    },
    /// A run is in flight; left by [`ProbeMachine::finish`] or [`ProbeMachine::abandon`].
    Running {
        /// When the run began.
        begun: Instant,
    },
    /// This instance is not probed any more. Final.
    Done,
}

impl ProbeKind {
    /// The verdict of a container instance that has not been probed yet.
    #[must_use]
    pub fn initial(self) -> Verdict {
        match self {
            Self::Readiness => Verdict::Failure,
            Self::Liveness => Verdict::Success,
            Self::Startup => Verdict::Unknown,
        }
    }

    /// The word for it in events.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
            Self::Startup => "Startup",
        }
    }
}

impl ProbeSettings {
    /// From the API object; absent and impossible values become the API's defaults.
    #[must_use]
    pub fn from_api(probe: &Probe) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(u64::from(positive(value, default)));
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: positive(probe.success_threshold, 1),
            failure_threshold: positive(probe.failure_threshold, 3),
        }
    }
}

impl ProbeMachine {
    /// A machine for a container instance that runs.
    #[must_use]
    pub fn new(kind: ProbeKind, settings: ProbeSettings, birth: Birth, now: Instant) -> Self {
        let after_delay = birth.started + settings.initial_delay;
        let earliest = after_delay.max(now + birth.adopted.unwrap_or_default());
        let phase = match kind {
            ProbeKind::Readiness | ProbeKind::Liveness if birth.gated => Phase::Gated { earliest },
            ProbeKind::Readiness | ProbeKind::Liveness | ProbeKind::Startup => {
                Phase::Waiting { due: earliest }
            }
        };
        let published = birth.adopted.is_none().then(|| kind.initial());
        Self {
            kind,
            settings,
            phase,
            run: None,
            published,
        }
    }

    /// What the probe is for.
    #[must_use]
    pub fn kind(&self) -> ProbeKind {
        self.kind
    }

    /// How long a run may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// When to call [`Self::begin`]; `None` while a run is in flight, while gated and when done.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { due } => Some(due),
            Phase::Gated { .. } | Phase::Running { .. } | Phase::Done => None,
        }
    }

    /// Nothing is left to find out about this instance.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The startup probe has succeeded (or there is none): a held back probe runs at once.
    pub fn open_gate(&mut self, now: Instant) {
        match self.phase {
            Phase::Gated { earliest } => {
                self.phase = Phase::Waiting {
                    due: earliest.max(now),
                }
            }
            Phase::Waiting { .. } | Phase::Running { .. } | Phase::Done => {}
        }
    }

    /// The pod is terminating: readiness goes on, the other two end without a word.
    pub fn terminate(&mut self) {
        match self.kind {
            ProbeKind::Readiness => {}
            ProbeKind::Liveness | ProbeKind::Startup => self.phase = Phase::Done,
        }
    }

    /// Starts a run when one is due. `true`: the shell runs the probe now and answers with [`Self::finish`] or
    /// [`Self::abandon`]; a probe never overlaps with itself.
    pub fn begin(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Waiting { due } if due <= now => {
                self.phase = Phase::Running { begun: now };
                true
            }
            Phase::Waiting { .. } | Phase::Gated { .. } | Phase::Running { .. } | Phase::Done => false,
        }
    }

    /// Ends a run. Answers the verdict when it is another one than before.
    pub fn finish(&mut self, outcome: Outcome, now: Instant) -> Option<Verdict> {
        let Phase::Running { begun } = self.phase else {
            return None;
        };
        self.phase = Phase::Waiting {
            due: self.next_run(begun, now),
        };
        let in_a_row = match self.run {
            Some((last, count)) if last == outcome => count.saturating_add(1),
            Some(_) | None => 1,
        };
        self.run = Some((outcome, in_a_row));
        let (threshold, verdict) = match outcome {
            Outcome::Success => (self.settings.success_threshold, Verdict::Success),
            Outcome::Failure => (self.settings.failure_threshold, Verdict::Failure),
        };
        if in_a_row < threshold {
            return None;
        }
        let decided = match self.kind {
            ProbeKind::Startup => true,
            ProbeKind::Liveness => verdict == Verdict::Failure,
            ProbeKind::Readiness => false,
        };
        if decided {
            self.phase = Phase::Done;
        }
        (self.published.replace(verdict) != Some(verdict)).then_some(verdict)
    }

    /// Ends a run that found out nothing; it does not count.
    pub fn abandon(&mut self, now: Instant) {
        if let Phase::Running { begun } = self.phase {
            self.phase = Phase::Waiting {
                due: self.next_run(begun, now),
            };
        }
    }

    /// The next multiple of the period after `begun` that has not passed: a run that overran skips what it missed.
    fn next_run(&self, begun: Instant, now: Instant) -> Instant {
        let period = self.settings.period;
        let due = begun + period;
        if due >= now { due } else { now }
    }
}

#[cfg(test)]
mod tests;
