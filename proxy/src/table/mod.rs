//! The proxy's table in the kernel. The only place that writes nftables.
//!
//! [`Table::find`] says what is there, [`Table::load`] makes all of it, [`Table::apply`] makes differences. The fixed part is in
//! [`layout`], the meaning of elements in [`encode`].

mod affinity;
mod encode;
mod layout;

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_nft::{CommitError, Family, Monitor, Nft, OpenError, QueryError, Seen, Transaction};
use gantry_proxy_core::{Changes, Element, Op, Part, Ruleset};
use rustix::thread::{MembarrierCommand, membarrier};

pub(crate) use encode::{octets, successor};
pub use layout::{InterfaceName, Layout, Masquerading, NodePorts, Pods, TABLE};

/// Elements in one transaction of a first load: the kernel holds its lock for some 20 ms.
const CHUNK: usize = 10_000;

/// A packet's way through the table is a thousand times shorter.
const PASSAGE: Duration = Duration::from_millis(20);

/// What the kernel has under our name.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A table of another layout or of another program, or half of one: it is replaced at once and as a whole.
    Foreign,
    /// Our table, complete, from before.
    Ours {
        /// All elements.
        elements: BTreeSet<Element>,
        /// What was made when first needed.
        parts: BTreeSet<Part>,
    },
}

/// Why the table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read table {TABLE}")]
pub struct FindError(#[from] QueryError);

/// The table of one address family.
#[derive(Debug)]
pub struct Table {
    nft: Nft,
    layout: Layout,
}

impl Table {
    /// Opens the kernel's interface; nothing is read or written.
    ///
    /// # Errors
    /// When there is no nf_tables or no right to use it.
    pub fn open(layout: Layout) -> Result<Self, OpenError> {
        Ok(Self {
            nft: Nft::open()?,
            layout,
        })
    }

    /// True if our table is there with all its fixed chains: cheap, elements are not read.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_there(&mut self) -> Result<bool, FindError> {
        let family = self.layout.family;
        let Some(info) = self.nft.table(family, TABLE)? else {
            return Ok(false);
        };
        Ok(info.comment == self.layout.comment() && is_complete(&self.nft.chains(family, TABLE)?))
    }

    /// What others did to it, as far as the kernel told it.
    ///
    /// # Errors
    /// When the notifications cannot be read.
    pub fn look(&self, monitor: &mut Monitor) -> std::io::Result<Seen> {
        monitor.look(self.layout.family, TABLE, self.nft.port())
    }

    /// True if it is the table of IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.layout.family == Family::Ipv6
    }

    /// Looks at what is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find(&mut self) -> Result<Found, FindError> {
        let family = self.layout.family;
        let Some(info) = self.nft.table(family, TABLE)? else {
            return Ok(Found::Nothing);
        };
        let names = self.nft.chains(family, TABLE)?;
        let complete = layout::FIXED_CHAINS
            .iter()
            .all(|fixed| names.iter().any(|name| name == fixed));
        if info.comment != self.layout.comment() || !complete {
            return Ok(Found::Foreign);
        }
        let sets = self.nft.sets(family, TABLE)?;
        let parts = names.iter().chain(&sets);
        let parts = parts.filter_map(|name| name.parse().ok()).collect();
        let mut elements = BTreeSet::new();
        for set in sets.iter().filter(|set| !layout::is_learnt(set)) {
            let listing = self.nft.elements(family, TABLE, set)?;
            let Some(mut decoded) = encode::decode(family, set, listing.iter()) else {
                return Ok(Found::Foreign);
            };
            elements.append(&mut decoded);
        }
        Ok(Found::Ours { elements, parts })
    }

    /// Makes the table where there is none: in several transactions, visible to packets with the last one.
    ///
    /// # Errors
    /// When the kernel refuses something; what was made so far is then replaced by the next attempt.
    pub fn load(&mut self, parts: &BTreeSet<Part>, ruleset: &Ruleset) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        self.layout.add_skeleton(&mut tx);
        self.add_parts(&mut tx, parts);
        self.nft.commit(tx)?;
        let mut elements = ruleset.elements().peekable();
        while elements.peek().is_some() {
            let chunk: Vec<Element> = elements.by_ref().take(CHUNK).collect();
            let mut tx = self.transaction();
            encode::add(&mut tx, &chunk);
            self.nft.commit(tx)?;
        }
        let mut tx = self.transaction();
        self.layout.add_hooks(&mut tx);
        self.nft.commit(tx)
    }

    /// Replaces whatever has our name by the full table, in one transaction: packets see the old table or the new one.
    ///
    /// # Errors
    /// When the kernel refuses something; the old table then stays.
    pub fn replace(&mut self, parts: &BTreeSet<Part>, ruleset: &Ruleset) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        tx.delete_table();
        self.layout.add_skeleton(&mut tx);
        self.add_parts(&mut tx, parts);
        let elements: Vec<Element> = ruleset.elements().collect();
        encode::add(&mut tx, &elements);
        self.layout.add_hooks(&mut tx);
        self.nft.commit(tx)
    }

    /// Applies changes, new chains and sets in a transaction of their own before, and what they no longer need after.
    ///
    /// # Errors
    /// When the kernel refuses them: its table is not what we believed, and has to be replaced.
    pub fn apply(&mut self, changes: &Changes) -> Result<(), CommitError> {
        if !changes.parts.is_empty() {
            let mut tx = self.transaction();
            self.add_parts(&mut tx, &changes.parts);
            self.nft.commit(tx)?;
        }
        self.apply_ops(&changes.ops)?;
        if changes.late.is_empty() {
            return Ok(());
        }
        let_packets_pass();
        self.apply_ops(&changes.late)
    }

    fn apply_ops(&mut self, ops: &[Op]) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        let same =
            |a: &Op, b: &Op| matches!((a, b), (Op::Add(_), Op::Add(_)) | (Op::Delete(_), Op::Delete(_)));
        for run in ops.chunk_by(same) {
            let elements: Vec<Element> = run.iter().map(Op::element).collect();
            match run.first() {
                Some(Op::Delete(_)) => encode::delete(&mut tx, &elements),
                Some(Op::Add(_)) => encode::add(&mut tx, &elements),
                None => {}
            }
        }
        self.nft.commit(tx)
    }

    /// Deletes parts that nothing needs.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn delete_parts(&mut self, parts: &BTreeSet<Part>) -> Result<(), CommitError> {
        let_packets_pass();
        let mut tx = self.transaction();
        for part in parts {
            Layout::delete_part(&mut tx, *part);
        }
        self.nft.commit(tx)
    }

    /// Deletes the table if it exists, whoever made it.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn remove(&mut self) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        tx.delete_table();
        self.nft.commit(tx)
    }

    fn transaction(&self) -> Transaction {
        Transaction::new(self.layout.family, TABLE)
    }

    fn add_parts(&self, tx: &mut Transaction, parts: &BTreeSet<Part>) {
        for part in parts {
            self.layout.add_part(tx, *part);
        }
    }
}

/// Waits until the packets that were under way have left the table. One that was stopped between its verdict and its slot, because
/// the processor did something else, may outlive more than one transaction.
fn let_packets_pass() {
    // The kernel's grace period, which packets hold up: some milliseconds.
    if membarrier(MembarrierCommand::Global).is_err() {
        // Not with `nohz_full`, nor where it is forbidden.
        std::thread::sleep(PASSAGE);
    }
}

/// A family by the name that the kernel's interface has for it.
#[must_use]
pub fn kernels(family: gantry_proxy_core::Family) -> Family {
    match family {
        gantry_proxy_core::Family::Ipv4 => Family::Ipv4,
        gantry_proxy_core::Family::Ipv6 => Family::Ipv6,
    }
}

/// True if all chains of the layout are there.
fn is_complete(chains: &[String]) -> bool {
    layout::FIXED_CHAINS
        .iter()
        .all(|fixed| chains.iter().any(|name| name == fixed))
}
