//! The policies' tables in the kernel, one for each address family.
//!
//! ```text
//! forward ─ established ─> accept
//!         ├ neighbour discovery (IPv6) ─> accept
//!         ├ own ─> accept                      (a pod reaches itself)
//!         ├ TCP midway, from or to restricted ─> reset
//!         ├ egress  (source)      ─> allow-N ─ what is allowed ─> back, else drop
//!         └ ingress (destination) ─> allow-M ─ what is allowed ─> back, else drop
//! ```
//!
//! Services' destinations are translated before, sources after, so both ends are the real ones. What the host itself sends or gets
//! does not come by: the node reaches its pods, as the documentation of network policies has it.

use gantry_nft::{
    ChainKind, CommitError, Element as Raw, Family, Field, FieldType, Hook, HookPoint, Nft, OpenError,
    QueryError, Rule, Set, SetData, Transaction, Value, Verdict,
};
use gantry_policy_core::{Chain, Changes, Direction, Element, Id, Match, PortTest, SetName, Table};

use crate::table::{octets, successor};

/// The name of both tables.
pub const TABLE: &str = "gantry-policy";

/// Addresses of restricted pods, beside the pairs that [`SetName::Own`] is in the kernel.
const RESTRICTED: &str = "restricted";
const FORWARD: &str = "forward";
/// Connections whose tracking was ended, or that began before there was any, are not taken up again in a direction that happens to be
/// allowed: both ends are told.
const RESET: &str = "reset";
/// The longest comment that nft has.
const MAX_COMMENT_BYTES: usize = 127;

/// The table of one family.
#[derive(Debug)]
pub(super) struct Kernel {
    nft: Nft,
    family: Family,
}

impl Kernel {
    /// Opens the kernel's interface; nothing is read or written.
    pub(super) fn open(family: Family) -> Result<Self, OpenError> {
        let nft = Nft::open()?;
        Ok(Self { nft, family })
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.family == Family::Ipv6
    }

    /// True if there is a table of our name.
    pub(super) fn is_there(&mut self) -> Result<bool, QueryError> {
        Ok(self.nft.table(self.family, TABLE)?.is_some())
    }

    /// True if all chains are there that were written.
    pub(super) fn is_complete(&mut self, written: &Table) -> Result<bool, QueryError> {
        let there = self.nft.chains(self.family, TABLE)?;
        let allowing = written.chains.keys().map(|id| chain_name(*id));
        let mut wanted = allowing.chain([FORWARD, RESET].map(String::from));
        Ok(wanted.all(|name| there.contains(&name)))
    }

    /// Replaces whatever has our name, in one transaction: packets see the old table or the new one.
    pub(super) fn replace(&mut self, table: &Table) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        tx.delete_table();
        tx.add_table("gantry-proxy: network policies");
        self.add_skeleton(&mut tx);
        let fixed = |name: &&SetName| SetName::FIXED.contains(name);
        for name in table.sets.keys().filter(|name| !fixed(name)) {
            self.add_set(&mut tx, *name);
        }
        for (id, chain) in &table.chains {
            self.add_chain(&mut tx, *id, chain);
        }
        for (name, elements) in &table.sets {
            let elements: Vec<Element> = elements.iter().copied().collect();
            self.add(&mut tx, *name, &elements);
        }
        let hook = Hook {
            kind: ChainKind::Filter,
            point: HookPoint::Forward,
            priority: 0,
        };
        tx.add_chain(FORWARD, Some(hook));
        self.add_forward_rules(&mut tx);
        self.nft.commit(tx)
    }

    /// Writes differences.
    pub(super) fn apply(&mut self, changes: &Changes) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        for name in &changes.new_sets {
            self.add_set(&mut tx, *name);
        }
        for (name, elements) in &changes.deleted {
            self.delete(&mut tx, *name, elements);
        }
        for (id, chain) in &changes.new_chains {
            self.add_chain(&mut tx, *id, chain);
        }
        for (name, elements) in &changes.added {
            self.add(&mut tx, *name, elements);
        }
        for id in &changes.old_chains {
            let name = chain_name(*id);
            tx.flush_chain(&name);
            tx.delete_chain(&name);
        }
        for name in &changes.old_sets {
            tx.delete_set(&set_name(*name));
        }
        if tx.is_empty() {
            return Ok(());
        }
        self.nft.commit(tx)
    }

    /// Deletes the table if it exists.
    pub(super) fn remove(&mut self) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        tx.delete_table();
        self.nft.commit(tx)
    }

    fn transaction(&self) -> Transaction {
        Transaction::new(self.family, TABLE)
    }

    fn rule(&self) -> Rule {
        Rule::new(self.family)
    }

    fn add_skeleton(&self, tx: &mut Transaction) {
        for name in SetName::FIXED {
            self.add_set(tx, name);
        }
        tx.add_set(&Set::new(RESTRICTED, &[FieldType::Address]));
        tx.add_chain(RESET, None);
        tx.add_rule(RESET, &self.rule().reject_tcp_reset());
    }

    fn add_forward_rules(&self, tx: &mut Transaction) {
        tx.add_rule(FORWARD, &self.rule().established().verdict(Verdict::Accept));
        if self.family == Family::Ipv6 {
            tx.add_rule(
                FORWARD,
                &self.rule().neighbour_discovery().verdict(Verdict::Accept),
            );
        }
        let own = set_name(SetName::Own);
        let itself = self.rule().on(&[Field::Saddr, Field::Daddr]).in_set(&own);
        tx.add_rule(FORWARD, &itself.verdict(Verdict::Accept));
        for end in [Field::Saddr, Field::Daddr] {
            let midway = self.rule().tcp_midway().on(&[end]).in_set(RESTRICTED);
            tx.add_rule(FORWARD, &midway.goto(RESET));
        }
        for (direction, end) in [
            (Direction::Egress, Field::Saddr),
            (Direction::Ingress, Field::Daddr),
        ] {
            let subjects = set_name(SetName::Subjects(direction));
            tx.add_rule(FORWARD, &self.rule().on(&[end]).vmap(&subjects));
        }
    }

    fn add_set(&self, tx: &mut Transaction, name: SetName) {
        let text = set_name(name);
        tx.add_set(&match name {
            SetName::Subjects(_) => Set::map(&text, &[FieldType::Address], SetData::Verdict),
            SetName::Own => Set::new(&text, &[FieldType::Address, FieldType::Address]),
            SetName::Pods(_) => Set::new(&text, &[FieldType::Address]),
            SetName::Blocks(_) => Set::intervals(&text, &[FieldType::Address]),
            SetName::Named(_) => Set::new(&text, &[FieldType::Address, FieldType::Port]),
        });
    }

    fn add_chain(&self, tx: &mut Transaction, id: Id, chain: &Chain) {
        let name = chain_name(id);
        tx.add_commented_chain(&name, &chain.origin(MAX_COMMENT_BYTES));
        let peer = match chain.direction {
            Direction::Ingress => Field::Saddr,
            Direction::Egress => Field::Daddr,
        };
        for one in &chain.allowed {
            tx.add_rule(&name, &self.allowing(peer, one).verdict(Verdict::Return));
        }
        tx.add_rule(&name, &self.rule().counter().verdict(Verdict::Drop));
    }

    fn allowing(&self, peer: Field, one: &Match) -> Rule {
        let mut rule = self.rule();
        if let Some(set) = one.peer {
            rule = rule.on(&[peer]).in_set(&set_name(set));
        }
        match one.port {
            None => rule,
            Some(PortTest::All(protocol)) => rule.l4proto(protocol.number()),
            Some(PortTest::Range(protocol, first, last)) => rule.to_ports(protocol.number(), first, last),
            Some(PortTest::Named(protocol, set)) => rule
                .l4proto(protocol.number())
                .on(&[Field::Daddr, Field::Dport])
                .in_set(&set_name(set)),
        }
    }

    fn add(&self, tx: &mut Transaction, name: SetName, elements: &[Element]) {
        let encoded = self.encode(name, elements);
        tx.add_elements(&set_name(name), encoded.iter().map(Encoded::raw));
        if name == SetName::Own {
            tx.add_elements(RESTRICTED, encoded.iter().map(Encoded::half));
        }
    }

    fn delete(&self, tx: &mut Transaction, name: SetName, elements: &[Element]) {
        let encoded = self.encode(name, elements);
        tx.delete_elements(&set_name(name), encoded.iter().map(Encoded::key_only));
        if name == SetName::Own {
            tx.delete_elements(RESTRICTED, encoded.iter().map(Encoded::half));
        }
    }

    /// Those of this family.
    fn encode(&self, name: SetName, elements: &[Element]) -> Vec<Encoded> {
        let ipv6 = self.family == Family::Ipv6;
        let ours = elements.iter().filter(|element| element.is_ipv6() == ipv6);
        ours.flat_map(|element| encode(name, element)).collect()
    }
}

/// An element in the kernel's bytes.
struct Encoded {
    key: Vec<u8>,
    content: Content,
}

enum Content {
    Member,
    IntervalEnd,
    Jump(String),
}

impl Encoded {
    fn raw(&self) -> Raw<'_> {
        let value = match &self.content {
            Content::Member => Value::Member,
            Content::IntervalEnd => Value::IntervalEnd,
            Content::Jump(chain) => Value::Verdict(Verdict::Jump(chain)),
        };
        Raw {
            key: &self.key,
            value,
        }
    }

    /// Enough to delete it.
    fn key_only(&self) -> Raw<'_> {
        let value = match &self.content {
            Content::IntervalEnd => Value::IntervalEnd,
            Content::Member | Content::Jump(_) => Value::Member,
        };
        Raw {
            key: &self.key,
            value,
        }
    }

    /// One of the two addresses that are its key.
    fn half(&self) -> Raw<'_> {
        Raw {
            key: self.key.split_at(self.key.len() / 2).0,
            value: Value::Member,
        }
    }
}

fn encode(name: SetName, element: &Element) -> Vec<Encoded> {
    let one = |key, content| vec![Encoded { key, content }];
    match element {
        Element::Address(ip) if name == SetName::Own => {
            one([octets(*ip), octets(*ip)].concat(), Content::Member)
        }
        Element::Address(ip) => one(octets(*ip), Content::Member),
        Element::Port(ip, port) => {
            let [high, low] = port.to_be_bytes();
            one([octets(*ip), vec![high, low, 0, 0]].concat(), Content::Member)
        }
        Element::Subject(ip, chain) => one(octets(*ip), Content::Jump(chain_name(*chain))),
        Element::Range(range) => {
            let mut ends = one(octets(range.first), Content::Member);
            ends.extend(successor(range.last).map(|end| Encoded {
                key: octets(end),
                content: Content::IntervalEnd,
            }));
            ends
        }
    }
}

fn chain_name(id: Id) -> String {
    format!("allow-{id}")
}

fn set_name(name: SetName) -> String {
    match name {
        SetName::Subjects(Direction::Ingress) => "ingress".into(),
        SetName::Subjects(Direction::Egress) => "egress".into(),
        SetName::Own => "own".into(),
        SetName::Pods(id) => format!("pods-{id}"),
        SetName::Blocks(id) => format!("blocks-{id}"),
        SetName::Named(id) => format!("ports-{id}"),
    }
}
