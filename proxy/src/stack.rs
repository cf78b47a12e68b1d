//! What one address family has of its own: its table, its health checks of services, its series.
//!
//! The families go on independently: what fails in one does not hold the other up.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use gantry_chassis::ready;
use gantry_nft::OpenError;
use gantry_proxy_core::{Event, Family, NodeFacts, health_checks};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::events::Events;
use crate::health::Health;
use crate::metrics::{FamilyMetrics, Metrics};
use crate::node_checks::NodeChecks;
use crate::programmer::{Programmer, SyncError, with_cause};
use crate::table::Layout;

/// A program that keeps changing the table is not answered more often than this.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

/// A family's part of the proxy.
#[derive(Debug)]
pub struct Stack {
    family: Family,
    programmer: Programmer,
    checks: NodeChecks,
    health: Health,
    metrics: FamilyMetrics,
    /// Readable when the kernel tells of changes to tables.
    table: AsyncFd<OwnedFd>,
    /// Times of endpoint changes that are not in the table yet.
    triggers: Vec<SystemTime>,
    /// When a change of somebody else was last put right.
    repaired: Option<Instant>,
}

/// Why a family cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// There is no nf_tables, or no right to use it.
    #[error("nf_tables cannot be used for {0}")]
    Open(Family, #[source] OpenError),
    /// The kernel cannot be listened to.
    #[error("cannot listen to the kernel")]
    Listen(#[from] io::Error),
}

/// What is to be done after somebody else changed a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    None,
    /// To put it right, now.
    Now,
    /// To put it right, then: it was just done.
    At(Instant),
}

/// What both families tell of themselves to.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// What `/healthz` says.
    pub health: &'a Health,
    /// What `/metrics` says.
    pub metrics: &'a Metrics,
    /// What users are told.
    pub events: &'a Events,
}

impl Stack {
    /// Opens the kernel's interfaces for a family; nothing is read or written. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(family: Family, layout: Layout, shared: &Shared<'_>) -> Result<Self, StackError> {
        let programmer = Programmer::open(layout).map_err(|error| StackError::Open(family, error))?;
        Ok(Self {
            family,
            checks: NodeChecks::new(shared.health.clone(), shared.events.clone()),
            health: shared.health.clone(),
            metrics: shared.metrics.of(family),
            table: ready::readable(programmer.notifications().try_clone_to_owned()?)?,
            programmer,
            triggers: Vec::new(),
            repaired: None,
        })
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Takes a change of objects in.
    pub fn apply(&mut self, event: Event) {
        self.programmer.apply(event);
    }

    /// An endpoint change that is under way happened at this time.
    pub fn triggered(&mut self, time: SystemTime) {
        self.triggers.push(time);
    }

    /// Sets the addresses.
    pub fn set_facts(&mut self, facts: NodeFacts) {
        self.programmer.set_facts(facts);
    }

    /// True if there is something to write.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.programmer.is_behind()
    }

    /// True if the cluster has services of this family.
    #[must_use]
    pub fn has_services(&self) -> bool {
        self.programmer.planner().state().service_count() > 0
    }

    /// Returns when the kernel has told of changes: [`Stack::look`] then. Cancel safe: what is not returned stays.
    pub(crate) async fn touched(&self) -> io::Result<()> {
        self.table.readable().await?.clear_ready();
        Ok(())
    }

    /// Did somebody change the table?
    pub fn look(&mut self) -> Repair {
        match self.programmer.look() {
            Ok(false) => Repair::None,
            Ok(true) => {
                self.metrics.repairs.inc();
                let now = Instant::now();
                match self.repaired.map(|at| at + REPAIR_PAUSE) {
                    Some(at) if at > now => Repair::At(at),
                    Some(_) | None => {
                        self.repaired = Some(now);
                        Repair::Now
                    }
                }
            }
            Err(error) => {
                warn!(
                    family = %self.family,
                    error = with_cause(&error),
                    "changes of others are not noticed now"
                );
                Repair::None
            }
        }
    }

    /// When [`Stack::look_again`] is to be called, if it is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.programmer.due().map(Instant::from_std)
    }

    /// The second look at clients that are remembered, if it is time for it.
    pub fn look_again(&mut self) {
        if self.due().is_some_and(|at| at <= Instant::now()) {
            self.programmer.look_again();
        }
    }

    /// Writes the table if it is behind; false if that failed.
    pub fn program(&mut self) -> bool {
        if !self.programmer.is_behind() {
            self.triggers.clear();
            return true;
        }
        self.health.queued(self.family);
        self.metrics.queued();
        match self.programmer.sync() {
            Ok(done) => {
                debug!(family = %self.family, elements = done.elements, planning = ?done.planning, writing = ?done.writing, "synced");
                self.metrics.synced(&done);
                for time in self.triggers.drain(..) {
                    self.metrics.programmed(time);
                }
                self.health.updated(self.family);
                if done.full {
                    self.count();
                    crate::memory::trim();
                }
                true
            }
            Err(error) => {
                self.metrics.failures.inc();
                warn!(
                    family = %self.family,
                    error = with_cause(&error),
                    "services are not programmed; trying again"
                );
                false
            }
        }
    }

    /// Opens and closes the health checks of services; false if one could not be opened.
    pub async fn set_checks(&mut self, addresses: &[IpAddr]) -> bool {
        let wanted = health_checks(self.programmer.planner().state());
        self.checks.sync(&wanted, addresses).await
    }

    /// Looks after the table once in a while.
    pub fn tidy(&mut self) {
        self.count();
        if let Err(error) = self.programmer.tidy() {
            match error {
                SyncError::Tidy(_) => self.metrics.cleanup_failures.inc(),
                SyncError::Find(_) | SyncError::Commit(_) | SyncError::Watch(_) => {
                    self.metrics.failures.inc();
                }
            }
            warn!(
                family = %self.family,
                error = with_cause(&error),
                "the table cannot be looked after"
            );
        }
    }

    /// Walks the whole ruleset: once in a while, not at each change.
    fn count(&self) {
        self.metrics.counted(self.programmer.planner().ruleset());
    }
}

/// Returns when the kernel has told of changes to tables, with the stack that is to [`Stack::look`]. Cancel safe, as
/// [`Stack::touched`].
pub(crate) async fn any_touched(stacks: &[Stack]) -> io::Result<usize> {
    let all = stacks.iter().map(|stack| Box::pin(stack.touched()));
    let (told, index, _) = futures::future::select_all(all).await;
    told.map(|()| index)
}
