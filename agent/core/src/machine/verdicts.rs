//! What the probes of a container instance say.

use crate::probe::{ProbeKind, Verdict};

/// The last verdict of each probe; `None` before the first one of this run of the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Has it started?
    pub startup: Option<Verdict>,
    /// Is it alive?
    pub liveness: Option<Verdict>,
    /// Does it get traffic?
    pub readiness: Option<Verdict>,
}

impl Verdicts {
    pub(super) fn set(&mut self, kind: ProbeKind, verdict: Verdict) {
        match kind {
            ProbeKind::Readiness => self.readiness = Some(verdict),
            ProbeKind::Liveness => self.liveness = Some(verdict),
            ProbeKind::Startup => self.startup = Some(verdict),
        }
    }
}
