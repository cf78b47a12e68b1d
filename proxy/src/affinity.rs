//! Makes the kernel forget clients whose backend is gone, right after a change and once more a little later: a packet that was under
//! way may have taught the kernel the old backend after it was asked.

use std::time::{Duration, Instant};

use gantry_proxy_core::{Changes, Ruleset, Suspects};
use tracing::{debug, warn};

use crate::programmer::with_cause;
use crate::table::Table;

/// When to look again: a packet passes the host in far less.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be looked at once more.
#[derive(Debug, Default)]
pub struct Affinity {
    again: Option<(Instant, Suspects)>,
}

impl Affinity {
    /// After `changes`, which led to `after`.
    pub fn follow(&mut self, changes: &Changes, after: &Ruleset, table: &mut Table) {
        let mut suspects = Suspects::of(changes, after);
        if suspects.is_empty() {
            return;
        }
        forget(&suspects, after, table);
        if let Some((_, earlier)) = self.again.take() {
            suspects.extend(earlier);
        }
        self.again = Some((Instant::now() + AGAIN, suspects));
    }

    /// When [`Affinity::look_again`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.again.as_ref().map(|(at, _)| *at)
    }

    /// The second look.
    pub fn look_again(&mut self, now: &Ruleset, table: &mut Table) {
        if let Some((_, suspects)) = self.again.take() {
            forget(&suspects, now, table);
        }
    }
}

/// A failure is logged: clients that are remembered wrongly stay so until they pause for the service's time-out.
fn forget(suspects: &Suspects, now: &Ruleset, table: &mut Table) {
    let stale: Vec<_> = match table.remembered() {
        Ok(all) => all
            .into_iter()
            .filter(|entry| suspects.is_stale(entry, now))
            .collect(),
        Err(error) => {
            warn!(
                error = with_cause(&error),
                "cannot read which clients are remembered"
            );
            return;
        }
    };
    if stale.is_empty() {
        return;
    }
    debug!(
        clients = stale.len(),
        "forgetting clients of endpoints that are gone"
    );
    if let Err(error) = table.forget(&stale) {
        warn!(
            error = with_cause(&error),
            "cannot forget clients of endpoints that are gone"
        );
    }
}
