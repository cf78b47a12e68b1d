//! Keeps the kernel's tables equal to what the policies say, and ends connections that they no longer allow.

use gantry_nft::{CommitError, Conntrack, Family, Flow, OpenError, QueryError};
use gantry_policy_core::{Changes, Event, Packet, Protocol, State};
use gantry_proxy_core::Families;
use tracing::warn;

use super::table::{Kernel, TABLE};
use crate::programmer::with_cause;
use crate::table::kernels;

/// Policies, and the tables of both families.
#[derive(Debug)]
pub struct Enforcer {
    state: State,
    kernels: Vec<Kernel>,
    conntrack: Conntrack,
    phase: Phase,
}

/// What is known of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing, or that they are wrong.
    Unknown,
    /// There are none, because nobody is restricted.
    Absent,
    /// They are as last written.
    Right,
}

/// What was behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing was.
    Nothing,
    /// The tables were; nothing is denied that was allowed.
    Tables,
    /// Something may be denied that was allowed: [`Enforcer::end_denied`] is to be called.
    Narrower,
}

/// Why the kernel's tables are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// A transaction was refused.
    #[error("network policies are not enforced as they are now")]
    Commit(#[from] CommitError),
    /// The kernel does not say what there is.
    #[error("cannot ask for table {TABLE}")]
    Query(#[from] QueryError),
    /// There is no way to the kernel.
    #[error("nf_tables cannot be used")]
    Open(#[from] OpenError),
}

impl Enforcer {
    /// Opens the kernel's interfaces; nothing is read or written.
    ///
    /// # Errors
    /// When there is no nf_tables or conntrack, or no right to use them.
    pub fn open(families: Families) -> Result<Self, OpenError> {
        let kernels = families.all().iter().map(|family| Kernel::open(kernels(*family)));
        Ok(Self {
            state: State::default(),
            kernels: kernels.collect::<Result<_, _>>()?,
            conntrack: Conntrack::open()?,
            phase: Phase::Unknown,
        })
    }

    /// Takes in an event; the kernel hears of it with the next [`Enforcer::sync`].
    pub fn apply(&mut self, event: Event) {
        self.state.apply(event);
    }

    /// What follows from everything taken in.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// To be told of more; the kernel hears of it with the next [`Enforcer::sync`].
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Writes what is behind and ends what is denied now; says how many connections were, or `None` if there was nothing to write.
    ///
    /// # Errors
    /// When the kernel refuses it: the next call writes everything anew.
    pub fn sync(&mut self) -> Result<Option<usize>, EnforceError> {
        Ok(match self.write_changes()? {
            Written::Nothing => None,
            Written::Tables => Some(0),
            Written::Narrower => Some(self.end_denied()),
        })
    }

    /// Writes what is behind.
    ///
    /// # Errors
    /// When the kernel refuses it: the next call writes everything anew.
    pub fn write_changes(&mut self) -> Result<Written, EnforceError> {
        let changes = self.state.changes();
        let written = match self.write(&changes) {
            Ok(written) => written,
            Err(error) => {
                self.phase = Phase::Unknown;
                return Err(error);
            }
        };
        let narrowed = self.state.are_written(changes);
        Ok(match (written, narrowed && self.state.restricts()) {
            (_, true) => Written::Narrower,
            (true, false) => Written::Tables,
            (false, false) => Written::Nothing,
        })
    }

    /// Looks whether the tables are still there: the next [`Enforcer::sync`] makes them anew if not. True if they were gone.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn check(&mut self) -> Result<bool, EnforceError> {
        if self.phase != Phase::Right {
            return Ok(false);
        }
        for kernel in &mut self.kernels {
            if !kernel.is_complete(self.state.written())? {
                warn!("another program changed table {TABLE}; making it again");
                self.phase = Phase::Unknown;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// False if there was nothing to write.
    fn write(&mut self, changes: &Changes) -> Result<bool, EnforceError> {
        match (self.phase, self.state.restricts()) {
            (Phase::Absent, false) => return Ok(false),
            (Phase::Right, true) => {
                if changes.is_empty() {
                    return Ok(false);
                }
                for kernel in &mut self.kernels {
                    kernel.apply(changes)?;
                }
            }
            (Phase::Unknown | Phase::Absent, true) => {
                for kernel in &mut self.kernels {
                    kernel.replace(self.state.table())?;
                }
                self.phase = Phase::Right;
            }
            (Phase::Unknown | Phase::Right, false) => {
                for kernel in &mut self.kernels {
                    if kernel.is_there()? {
                        kernel.remove()?;
                    }
                }
                self.phase = Phase::Absent;
            }
        }
        Ok(true)
    }

    /// Ends the connections that the tables as they are written deny; says how many there were. A failure is logged: new connections are
    /// judged right.
    pub fn end_denied(&mut self) -> usize {
        let table = self.state.written();
        let mut ended = 0;
        for kernel in &self.kernels {
            let ipv6 = kernel.is_ipv6();
            match self
                .conntrack
                .delete_chosen(ipv6, |flow| !table.allows(&first_packet(flow)))
            {
                Ok(count) => ended += count,
                Err(error) => warn!(error = with_cause(&error), "denied connections cannot be ended"),
            }
        }
        ended
    }
}

/// Deletes the tables.
///
/// # Errors
/// When the kernel refuses it.
pub fn remove() -> Result<(), EnforceError> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut kernel = Kernel::open(family)?;
        if kernel.is_there()? {
            kernel.remove()?;
        }
    }
    Ok(())
}

/// Behind destination translation and before source translation, as the table sees it.
fn first_packet(flow: &Flow) -> Packet {
    Packet {
        from: flow.original_src,
        to: flow.reply_src,
        port: Protocol::from_number(flow.protocol).map(|protocol| (protocol, flow.reply_port)),
    }
}
