//! nftables and conntrack over netlink, synchronous and without the `nft` program.
//!
//! ```text
//! Transaction (messages about one table) -> Nft::commit -> one sendmsg -> acks -> Ok | CommitError { which message, errno }
//! Nft::{generation, table, chains, sets, elements, has_element}   questions, dumps repeated when they raced with a change
//! Conntrack::delete_flows                                          exactly the flows of a filter
//! Monitor::look                                                    did somebody else change a table?
//! ```
//!
//! Everything is encoded here, byte for byte: no other crate's message types reach a user of this one. Nothing is cached; the
//! caller knows its table. One socket per [`Nft`], in the network namespace of the thread that opened it.

mod conntrack;
mod element;
mod error;
mod monitor;
mod query;
mod rule;
mod socket;
mod transaction;
mod uapi;
mod wire;

pub use conntrack::{Conntrack, Flow, FlowFilter};
pub use element::{Element, Labelled, Value, Verdict};
pub use error::{CommitError, OpenError, QueryError};
pub use monitor::{Monitor, Seen};
pub use query::{Listing, TableInfo};
pub use rule::{FibKey, Field, Interface, Rule};
pub use transaction::Transaction;

use socket::Socket;

/// Address family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `ip`.
    Ipv4,
    /// `ip6`.
    Ipv6,
}

impl Family {
    /// `NFPROTO_*`, which is also `AF_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    /// Length of an address in bytes.
    pub(crate) fn address_len(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
        }
    }
}

/// Where in a packet's way a chain sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// All that arrives, before routing.
    Prerouting,
    /// What is for this host.
    Input,
    /// What passes through.
    Forward,
    /// What this host sends, before routing.
    Output,
    /// All that leaves.
    Postrouting,
}

impl HookPoint {
    fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop; sees every packet.
    Filter,
    /// Translate addresses; sees the first packet of a connection.
    Nat,
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// Makes a chain a base chain; its policy is "accept".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What it may do.
    pub kind: ChainKind,
    /// Where it sits.
    pub point: HookPoint,
    /// Its place among the chains of the same hook, low numbers first (dstnat is -100, srcnat 100).
    pub priority: i32,
}

/// Type of one field of a key or of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// An address of the table's family.
    Address,
    /// A transport protocol number (padded to 4 bytes in a concatenation).
    Protocol,
    /// A port, big endian (padded to 4 bytes in a concatenation).
    Port,
    /// A host-endian 32-bit number; nft shows it as a `mark`.
    Number,
}

/// What the elements of a set carry beside their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetData<'a> {
    /// Nothing: a plain set.
    None,
    /// A verdict each.
    Verdict,
    /// These fields each.
    Fields(&'a [FieldType]),
}

/// A named set or map to be created.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// Its name in the table.
    pub name: &'a str,
    /// Fields of the key.
    pub key: &'a [FieldType],
    /// What belongs to a key.
    pub data: SetData<'a>,
    /// Holds intervals: each start element is followed by its exclusive end ([`Value::IntervalEnd`]).
    pub interval: bool,
    /// Holds ranges in each field of the key, both ends included ([`Labelled::last`]).
    pub ranges: bool,
    /// Rules add elements, with timeouts.
    pub dynamic: bool,
    /// Limit for dynamic sets.
    pub max_elements: Option<u32>,
}

impl<'a> Set<'a> {
    /// A hash set of keys.
    #[must_use]
    pub fn new(name: &'a str, key: &'a [FieldType]) -> Self {
        Self {
            name,
            key,
            data: SetData::None,
            interval: false,
            ranges: false,
            dynamic: false,
            max_elements: None,
        }
    }

    /// A hash map.
    #[must_use]
    pub fn map(name: &'a str, key: &'a [FieldType], data: SetData<'a>) -> Self {
        Self {
            data,
            ..Self::new(name, key)
        }
    }

    /// A map whose elements rules add, at most `max_elements`.
    #[must_use]
    pub fn learnt(name: &'a str, key: &'a [FieldType], data: SetData<'a>, max_elements: u32) -> Self {
        Self {
            dynamic: true,
            max_elements: Some(max_elements),
            ..Self::map(name, key, data)
        }
    }

    /// A set whose elements are a range in each field of the key, which has at least two.
    #[must_use]
    pub fn ranges(name: &'a str, key: &'a [FieldType]) -> Self {
        Self {
            ranges: true,
            ..Self::new(name, key)
        }
    }

    /// A set of intervals.
    #[must_use]
    pub fn intervals(name: &'a str, key: &'a [FieldType]) -> Self {
        Self {
            interval: true,
            ..Self::new(name, key)
        }
    }
}

/// A connection to the kernel's nf_tables.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel lacks netfilter netlink or the process may not use it.
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self {
            socket: Socket::open()?,
        })
    }

    /// Applies a transaction: all of it or nothing.
    ///
    /// # Errors
    /// See [`CommitError`]: the first message that the kernel refused, or why there is no answer.
    pub fn commit(&mut self, mut tx: Transaction) -> Result<(), CommitError> {
        if tx.is_empty() {
            return Ok(());
        }
        let (bytes, last_seq) = tx.finish();
        let len = bytes.len();
        self.socket
            .send(bytes)
            .map_err(|source| CommitError::Send { bytes: len, source })?;
        let acks = self.socket.queued_acks().map_err(CommitError::NoAnswer)?;
        if let Some(refused) = acks.iter().find(|ack| ack.errno != 0) {
            let detail = if refused.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", refused.detail)
            };
            return Err(CommitError::Refused {
                action: tx.describe(refused.seq),
                detail,
                source: std::io::Error::from_raw_os_error(refused.errno),
            });
        }
        if acks.iter().any(|ack| ack.seq == last_seq) {
            Ok(())
        } else {
            Err(CommitError::NoAnswer(std::io::ErrorKind::UnexpectedEof.into()))
        }
    }
}
