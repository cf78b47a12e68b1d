//! Pods reach the outside with the node's address: one nftables table for each network and family, made once.
//!
//! ```text
//! table ip gantry-cni-<network>            comment: digest of what follows
//!   chain postrouting (nat, srcnat)
//!     ip daddr 224.0.0.0/4 return          multicast keeps its source
//!     ip daddr <each near network> return  the network itself and the cluster
//!     ip saddr <each pod subnet> masquerade
//! ```
//!
//! Nothing here depends on a pod: ADD only compares the comment, DEL has nothing to remove. A changed configuration
//! replaces the table in one transaction.

use gantry_nft::{
    ChainKind, CommitError, Family, Field, Hook, HookPoint, Nft, OpenError, QueryError, Rule, Transaction,
    Verdict,
};
use ipnetwork::IpNetwork;

use crate::owner::Owner;

/// Raised when the rules change, so that an upgrade replaces them.
const LAYOUT: u32 = 1;
const CHAIN: &str = "postrouting";
/// srcnat, as nft names it.
const PRIORITY: i32 = 100;

/// The desired table of one network and family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Masquerade {
    /// IPv4 or IPv6.
    pub(crate) ipv4: bool,
    /// The network's name.
    pub(crate) network: String,
    /// Where pods are.
    pub(crate) pods: Vec<IpNetwork>,
    /// Destinations that see the pod's own address, without multicast.
    pub(crate) near: Vec<IpNetwork>,
}

/// Why the table could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MasqueradeError {
    /// No netfilter socket.
    #[error("cannot set up masquerading for the network: does the kernel have nftables?")]
    Open(#[source] OpenError),
    /// The check failed.
    #[error("cannot check the masquerade table {table}")]
    Query {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: QueryError,
    },
    /// The change failed.
    #[error("cannot make the masquerade table {table}")]
    Commit {
        /// The table.
        table: String,
        /// Why.
        #[source]
        source: CommitError,
    },
}

impl Masquerade {
    /// The tables of a network: `pods` and `near` may mix families.
    pub(crate) fn tables(network: &str, pods: &[IpNetwork], near: &[IpNetwork]) -> Vec<Self> {
        let of = |ipv4: bool, list: &[IpNetwork]| -> Vec<_> {
            list.iter()
                .copied()
                .filter(|network| network.is_ipv4() == ipv4)
                .collect()
        };
        let table = |ipv4| Self {
            ipv4,
            network: network.to_owned(),
            pods: of(ipv4, pods),
            near: [of(ipv4, pods), of(ipv4, near)].concat(),
        };
        [table(true), table(false)]
            .into_iter()
            .filter(|table| !table.pods.is_empty())
            .collect()
    }

    /// Whether all these tables are there as they should be.
    pub(crate) fn are_in_place(tables: &[Self]) -> Result<bool, MasqueradeError> {
        if tables.is_empty() {
            return Ok(true);
        }
        let mut nft = Nft::open().map_err(MasqueradeError::Open)?;
        for table in tables {
            if !table.is_in_place(&mut nft)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the table unless it is there as it should be.
    pub(crate) fn ensure(&self) -> Result<(), MasqueradeError> {
        let mut nft = Nft::open().map_err(MasqueradeError::Open)?;
        if self.is_in_place(&mut nft)? {
            return Ok(());
        }
        nft.commit(self.transaction())
            .map_err(|source| MasqueradeError::Commit {
                table: self.table(),
                source,
            })
    }

    /// Whether the table is there as it should be.
    pub(crate) fn is_in_place(&self, nft: &mut Nft) -> Result<bool, MasqueradeError> {
        let found = nft.table(self.family(), &self.table());
        let found = found.map_err(|source| MasqueradeError::Query {
            table: self.table(),
            source,
        })?;
        Ok(found.is_some_and(|table| table.comment == self.digest()))
    }

    fn transaction(&self) -> Transaction {
        let mut tx = Transaction::new(self.family(), &self.table());
        tx.delete_table();
        tx.add_table(&self.digest());
        let hook = Hook {
            kind: ChainKind::Nat,
            point: HookPoint::Postrouting,
            priority: PRIORITY,
        };
        tx.add_chain(CHAIN, Some(hook));
        let multicast = if self.ipv4 { "224.0.0.0/4" } else { "ff00::/8" };
        for network in multicast.parse().iter().chain(&self.near) {
            let (address, mask) = bytes(network);
            let rule = Rule::new(self.family()).inside(Field::Daddr, &address, &mask);
            tx.add_rule(CHAIN, &rule.verdict(Verdict::Return));
        }
        for network in &self.pods {
            let (address, mask) = bytes(network);
            tx.add_rule(
                CHAIN,
                &Rule::new(self.family())
                    .inside(Field::Saddr, &address, &mask)
                    .masquerade(),
            );
        }
        tx
    }

    fn family(&self) -> Family {
        if self.ipv4 { Family::Ipv4 } else { Family::Ipv6 }
    }

    fn table(&self) -> String {
        format!("gantry-cni-{}", self.network)
    }

    /// What the table was made from, as its comment.
    fn digest(&self) -> String {
        let text = format!("{:?} {:?}", self.pods, self.near);
        format!("layout {LAYOUT}, made from {:032x}", Owner::new(&text, "").0)
    }
}

fn bytes(network: &IpNetwork) -> (Vec<u8>, Vec<u8>) {
    match network {
        IpNetwork::V4(v4) => (v4.network().octets().to_vec(), v4.mask().octets().to_vec()),
        IpNetwork::V6(v6) => (v6.network().octets().to_vec(), v6.mask().octets().to_vec()),
    }
}
