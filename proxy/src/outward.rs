//! Pods reach the outside with the node's address: a table for each address family, with one rule.
//!
//! ```text
//! table ip gantry-pods
//!   set own, set near (intervals)
//!   chain postrouting (nat, srcnat): ip saddr @own ip daddr != @near masquerade
//! ```
//!
//! A node that comes or goes is a change of elements. The table stays when the program ends: connections to the outside go on, and new
//! ones are made as before.

use gantry_nft::{
    ChainKind, CommitError, Element, Family, Field, FieldType, Hook, HookPoint, Nft, OpenError, QueryError,
    Rule, Set, Transaction, Value,
};
use gantry_proxy_core::{Families, Family as OfAddress, Outward};
use ipnetwork::IpNetwork;
use tracing::{info, warn};

use crate::table::{kernels, octets, successor};

/// The name of both tables.
pub const TABLE: &str = "gantry-pods";
const OWN: &str = "own";
const NEAR: &str = "near";
const CHAIN: &str = "postrouting";
/// srcnat, as nft names it: behind the services' own translation.
const PRIORITY: i32 = 100;

/// Why the tables are not as they should be. Retry after a pause.
#[derive(Debug, thiserror::Error)]
pub enum OutwardError {
    /// A transaction was refused.
    #[error("pods may not reach the outside: table {TABLE} cannot be written")]
    Commit(#[from] CommitError),
    /// The kernel does not say what there is.
    #[error("cannot ask for table {TABLE}")]
    Query(#[from] QueryError),
    /// There is no way to the kernel.
    #[error("nf_tables cannot be used")]
    Open(#[from] OpenError),
}

/// The tables of all families that run.
#[derive(Debug)]
pub struct Tables {
    nft: Nft,
    families: Families,
    /// What they hold, if that is known.
    written: Option<Outward>,
}

impl Tables {
    /// Opens the kernel's interface; nothing is read or written.
    ///
    /// # Errors
    /// When there is no nf_tables, or no right to use them.
    pub fn open(families: Families) -> Result<Self, OpenError> {
        Ok(Self {
            nft: Nft::open()?,
            families,
            written: None,
        })
    }

    /// Brings the tables to `wanted`: whole when what they hold is not known, else by their differences.
    ///
    /// # Errors
    /// When the kernel refuses it: the next call writes them whole.
    pub fn set(&mut self, wanted: &Outward) -> Result<(), OutwardError> {
        let before = self.written.take();
        if before.as_ref() != Some(wanted) {
            for family in self.families.all() {
                let tx = transaction(*family, before.as_ref(), wanted);
                if !tx.is_empty() {
                    self.nft.commit(tx)?;
                }
            }
            info!(own = ?wanted.own, near = wanted.near.len(), "pods reach the outside by this node's address");
        }
        self.written = Some(wanted.clone());
        Ok(())
    }

    /// The next [`Tables::set`] writes everything: somebody else may have changed the tables.
    pub fn forget(&mut self) {
        self.written = None;
    }

    /// Looks whether the tables are still there, and forgets them if not.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn check(&mut self) -> Result<(), OutwardError> {
        if self.written.is_none() {
            return Ok(());
        }
        for family in self.families.all() {
            let chains = self.nft.chains(kernels(*family), TABLE)?;
            if !chains.iter().any(|name| name == CHAIN) {
                warn!("another program removed table {TABLE}; making it again");
                self.written = None;
                return Ok(());
            }
        }
        Ok(())
    }
}

fn transaction(family: OfAddress, before: Option<&Outward>, wanted: &Outward) -> Transaction {
    let wanted = wanted.of(family);
    let mut tx = Transaction::new(kernels(family), TABLE);
    if let Some(before) = before {
        let steps = wanted.since(&before.of(family));
        for (set, ranges) in [(OWN, &steps.remove.own), (NEAR, &steps.remove.near)] {
            each(ranges, |elements| tx.delete_elements(set, elements));
        }
        for (set, ranges) in [(OWN, &steps.add.own), (NEAR, &steps.add.near)] {
            each(ranges, |elements| tx.add_elements(set, elements));
        }
        return tx;
    }
    tx.delete_table();
    tx.add_table("gantry-proxy: pods on their way out");
    for (set, ranges) in [(OWN, &wanted.own), (NEAR, &wanted.near)] {
        tx.add_set(&Set::intervals(set, &[FieldType::Address]));
        each(ranges, |elements| tx.add_elements(set, elements));
    }
    let hook = Hook {
        kind: ChainKind::Nat,
        point: HookPoint::Postrouting,
        priority: PRIORITY,
    };
    tx.add_chain(CHAIN, Some(hook));
    let from_pod = Rule::new(kernels(family)).on(&[Field::Saddr]).in_set(OWN);
    let outward = from_pod.on(&[Field::Daddr]).not_in_set(NEAR);
    tx.add_rule(CHAIN, &outward.masquerade());
    tx
}

/// A range is two elements: its first address, and the first one behind it unless that is the end of all.
fn each<'a>(ranges: impl IntoIterator<Item = &'a IpNetwork>, mut give: impl FnMut(Vec<Element<'_>>)) {
    let mut keys = Vec::new();
    for range in ranges {
        keys.push((octets(range.network()), Value::Member));
        if let Some(end) = successor(range.broadcast()) {
            keys.push((octets(end), Value::IntervalEnd));
        }
    }
    if keys.is_empty() {
        return;
    }
    give(
        keys.iter()
            .map(|(key, value)| Element { key, value: *value })
            .collect(),
    );
}

/// Deletes the tables whose names `is_ours` accepts, of both families.
///
/// # Errors
/// When the kernel refuses it.
pub fn remove(is_ours: impl Fn(&str) -> bool) -> Result<(), OutwardError> {
    let mut nft = Nft::open()?;
    for family in [Family::Ipv4, Family::Ipv6] {
        for name in nft.tables(family)?.into_iter().filter(|name| is_ours(name)) {
            let mut tx = Transaction::new(family, &name);
            tx.delete_table();
            nft.commit(tx)?;
            info!(table = name, "removed");
        }
    }
    Ok(())
}
