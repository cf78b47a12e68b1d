//! Brings the kernel's table to the present state, and puts it right after a failure.
//!
//! ```text
//! Unseen ── find ─┬─ nothing ──> load ────┐
//!                 ├─ foreign ──> replace ─┼─> Right ── plan, apply ──> Right
//!                 └─ ours ─────> adopt ───┘     ├── refused ────────────────> Unseen
//!                                               ├── notifications lost ─────> Unseen
//!                                               └── changed by somebody ────> Wrong ── replace ──> Right
//! ```
//!
//! The kernel tells of changes to the table that are not ours ([`Monitor`]): nothing is asked for or listed as long as there are none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use gantry_nft::{CommitError, Conntrack, Monitor, OpenError, QueryError, Seen};
use gantry_proxy_core::{Changes, Conflict, Event, Flows, NodeFacts, Planner};
use tracing::{debug, info, warn};

use crate::affinity::Affinity;
use crate::flows;
use crate::table::{FindError, Found, Layout, Table};

/// What is known of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing, or nothing that can be relied upon: left by the next [`Programmer::sync`] that succeeds, which lists it once.
    Unseen,
    /// It is what the planner believes: left when the kernel refuses a change or tells of somebody else's.
    Right,
    /// It is not, perhaps in its rules, which are never listed: left by a full replacement.
    Wrong,
}

/// For more changes than this the notifications of them are not waited for.
const BULK: usize = 2000;

/// What a sync did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Elements written or deleted; for a full load all of them.
    pub elements: usize,
    /// True if the table was made or looked at as a whole.
    pub full: bool,
    /// How long the decisions took.
    pub planning: Duration,
    /// How long the kernel took.
    pub writing: Duration,
    /// How long it took to end stale flows.
    pub ending: Duration,
    /// How many were ended.
    pub ended: usize,
}

/// Why the table is not right. Retry after a pause.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// It could not be read.
    #[error("cannot look at the table")]
    Find(#[from] FindError),
    /// A transaction failed.
    #[error("cannot write the table")]
    Commit(#[from] CommitError),
    /// The kernel's notifications cannot be read.
    #[error("cannot watch the table")]
    Watch(#[from] io::Error),
    /// Chains without use could not be deleted.
    #[error("cannot delete chains that nothing goes to")]
    Tidy(#[source] CommitError),
}

/// Owner of the table of one family.
#[derive(Debug)]
pub struct Programmer {
    planner: Planner,
    table: Table,
    monitor: Monitor,
    conntrack: Conntrack,
    affinity: Affinity,
    flows: Flows,
    phase: Phase,
}

impl Programmer {
    /// Opens the kernel's interfaces; nothing is read or written.
    ///
    /// # Errors
    /// When there is no nf_tables or no right to use it.
    pub fn open(layout: Layout) -> Result<Self, OpenError> {
        Ok(Self {
            planner: Planner::default(),
            table: Table::open(layout)?,
            monitor: Monitor::open()?,
            conntrack: Conntrack::open()?,
            affinity: Affinity::default(),
            flows: Flows::default(),
            phase: Phase::Unseen,
        })
    }

    /// Takes a change of objects in.
    pub fn apply(&mut self, event: Event) {
        self.planner.apply(event);
    }

    /// Sets the addresses.
    pub fn set_facts(&mut self, facts: NodeFacts) {
        self.planner.set_facts(facts);
    }

    /// The state and the ruleset.
    #[must_use]
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// True if there is something to do.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.phase != Phase::Right || self.planner.has_changes()
    }

    /// Becomes readable when there is something for [`Programmer::look`].
    #[must_use]
    pub fn notifications(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }

    /// Reads the kernel's notifications: true if somebody else changed the table, which the next [`Programmer::sync`] puts right.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn look(&mut self) -> Result<bool, SyncError> {
        let seen = self.table.look(&mut self.monitor)?;
        if self.phase != Phase::Right {
            return Ok(false);
        }
        match seen {
            Seen::Nothing => return Ok(false),
            Seen::Change { program } => {
                warn!(
                    program,
                    "another program changed the table of services; making it again"
                );
                self.phase = Phase::Wrong;
            }
            Seen::Lost => {
                debug!("too many changes to hear of; looking at the table");
                self.phase = Phase::Unseen;
            }
        }
        Ok(true)
    }

    /// Brings the table to the present state.
    ///
    /// # Errors
    /// When that failed also as a full replacement: call it again after a pause.
    pub fn sync(&mut self) -> Result<Done, SyncError> {
        let done = self.bring_up_to_date();
        for Conflict { front, owner, loser } in self.planner.take_conflicts() {
            warn!(%owner, %loser, ?front, "two services claim one address or node port; the first in order of names has it");
        }
        done
    }

    fn bring_up_to_date(&mut self) -> Result<Done, SyncError> {
        self.look()?;
        match self.phase {
            Phase::Unseen => self.take_over(),
            Phase::Wrong => self.replace(),
            Phase::Right => {
                let start = Instant::now();
                let changes = self.planner.plan();
                let planning = start.elapsed();
                match self.write(&changes) {
                    Ok(()) => Ok(Done {
                        elements: changes.len(),
                        planning,
                        writing: start.elapsed() - planning,
                        ..self.end_stale(&changes)
                    }),
                    Err(error) => {
                        warn!(
                            error = with_cause(&error),
                            "the table is not as expected; putting it right"
                        );
                        self.phase = Phase::Unseen;
                        self.take_over().or_else(|_| self.replace())
                    }
                }
            }
        }
    }

    /// Writes differences; of many the kernel need not tell us.
    fn write(&mut self, changes: &Changes) -> Result<(), SyncError> {
        let bulk = changes.len() > BULK;
        if bulk {
            self.monitor.pause()?;
        }
        self.table.apply(changes)?;
        if bulk { self.watch() } else { Ok(()) }
    }

    /// From here on changes of others are told. One that came just before has removed the table or it is found by the next list.
    fn watch(&mut self) -> Result<(), SyncError> {
        self.monitor.listen()?;
        if !self.table.is_there()? {
            self.phase = Phase::Wrong;
        }
        Ok(())
    }

    /// Looks after a table that nothing changed lately: chains without use are deleted, a table that vanished is made again.
    ///
    /// # Errors
    /// As [`Programmer::sync`].
    pub fn tidy(&mut self) -> Result<(), SyncError> {
        if self.phase != Phase::Right {
            return Ok(());
        }
        if !self.table.is_there()? {
            warn!("the table was removed or changed by another program; making it again");
            self.phase = Phase::Wrong;
            return self.replace().map(drop);
        }
        let unused = self.planner.take_unused_parts();
        if !unused.is_empty() {
            debug!(count = unused.len(), "deleting chains that nothing goes to");
            if let Err(error) = self.table.delete_parts(&unused) {
                self.phase = Phase::Wrong;
                return Err(SyncError::Tidy(error));
            }
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<Done, SyncError> {
        let start = Instant::now();
        self.monitor.pause()?;
        let found = self.table.find()?;
        let (how, changes, chains) = match found {
            Found::Ours { elements, parts } => {
                let changes = self.planner.adopt(elements, parts);
                ("took over the table that was there", Some(changes), None)
            }
            Found::Nothing => ("made the table", None, Some((self.planner.rebuild(), false))),
            Found::Foreign => (
                "replaced another table",
                None,
                Some((self.planner.rebuild(), true)),
            ),
        };
        // Whatever fails from here on: the table is then made anew.
        self.phase = Phase::Wrong;
        let planning = start.elapsed();
        let mut elements = 0;
        if let Some(changes) = &changes {
            self.table.apply(changes)?;
            elements = changes.len();
        }
        if let Some((chains, replace)) = chains {
            let ruleset = self.planner.ruleset();
            elements = ruleset.elements().count();
            if replace {
                self.table.replace(&chains, ruleset)?;
            } else {
                self.table.load(&chains, ruleset)?;
            }
        }
        self.phase = Phase::Right;
        self.watch()?;
        let writing = start.elapsed() - planning;
        let fronts = self.planner.ruleset().fronts.len();
        info!(fronts, elements, ?planning, ?writing, "{how}");
        if let Some(changes) = &changes {
            self.affinity
                .follow(changes, self.planner.ruleset(), &mut self.table);
        }
        Ok(Done {
            elements,
            full: true,
            planning,
            writing,
            ..self.end_all_stale()
        })
    }

    fn replace(&mut self) -> Result<Done, SyncError> {
        let start = Instant::now();
        let chains = self.planner.rebuild();
        let planning = start.elapsed();
        self.monitor.pause()?;
        self.table.replace(&chains, self.planner.ruleset())?;
        self.phase = Phase::Right;
        self.watch()?;
        let elements = self.planner.ruleset().elements().count();
        let writing = start.elapsed() - planning;
        info!(elements, ?planning, ?writing, "replaced the table");
        Ok(Done {
            elements,
            full: true,
            planning,
            writing,
            ..self.end_all_stale()
        })
    }

    /// When [`Programmer::look_again`] is to be called, if it is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.affinity.due()
    }

    /// The second look at clients that are remembered, some time after a change.
    pub fn look_again(&mut self) {
        self.affinity.look_again(self.planner.ruleset(), &mut self.table);
    }

    /// Ends the UDP flows whose backend the changes removed, and has clients forgotten that it was chosen for.
    fn end_stale(&mut self, changes: &Changes) -> Done {
        let start = Instant::now();
        self.affinity
            .follow(changes, self.planner.ruleset(), &mut self.table);
        let stale = self.flows.stale(changes, &self.planner);
        if stale.is_empty() {
            return Done::default();
        }
        ended(start, flows::delete(&mut self.conntrack, &stale))
    }

    /// Ends all UDP flows that the table, made or found as a whole, would not let begin.
    fn end_all_stale(&mut self) -> Done {
        let start = Instant::now();
        self.flows.forget();
        let ipv6 = self.table.is_ipv6();
        ended(start, flows::reconcile(&mut self.conntrack, &self.planner, ipv6))
    }
}

/// A failure is logged: the table is right, and such flows end by their time-out.
fn ended(start: Instant, result: Result<usize, QueryError>) -> Done {
    let ended = result.unwrap_or_else(|error| {
        warn!(error = with_cause(&error), "cannot delete stale UDP flows");
        0
    });
    if ended > 0 {
        debug!(ended, "stale UDP flows deleted");
    }
    Done {
        ended,
        ending: start.elapsed(),
        ..Done::default()
    }
}

/// An error with its causes.
pub fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
