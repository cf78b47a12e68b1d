//! Rules, written as the kernel's expressions while they are built.
//!
//! [`Rule`] reads like nft text: `Rule::new(family).on(&[Field::Daddr]).in_set("pod-cidrs").jump("near")`. Matched fields are loaded
//! into consecutive 4-byte registers, which is also how the kernel lays out a concatenation.

use std::time::Duration;

use crate::Family;
use crate::element::{Verdict, write_verdict};
use crate::uapi::{data, expr};
use crate::wire::Writer;

mod field;
mod map;

pub use field::Field;

/// Which address a route look-up is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibKey {
    /// The source address.
    Saddr,
    /// The destination address.
    Daddr,
}

/// Interfaces, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface<'a> {
    /// The one of this name.
    Named(&'a str),
    /// Those whose name starts like this.
    Prefix(&'a str),
}

impl Interface<'_> {
    /// What a name is compared with, as far as it goes: at most 16 bytes, of which the last is zero.
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Named(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(16, 0);
                bytes
            }
            Self::Prefix(prefix) => prefix.as_bytes().iter().copied().take(15).collect(),
        }
    }
}

/// A rule under construction.
#[derive(Debug)]
pub struct Rule {
    family: Family,
    pub(crate) expressions: Writer,
    pub(crate) comment: Option<String>,
}

// Attribute numbers of the expressions (`nf_tables.h`), in the order of the kernel's enums.
const META_DREG: u16 = 1;
const META_KEY: u16 = 2;
const META_SREG: u16 = 3;
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const CT_DREG: u16 = 1;
const CT_KEY: u16 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// Packets of connections that are known, and those that belong to them (`NF_CT_STATE_BIT`).
const STATE_ESTABLISHED_OR_RELATED: u32 = 1 << 1 | 1 << 2;
/// `IPS_DST_NAT`: the connection's destination is translated.
const STATUS_DNAT: u32 = 1 << 5;
/// `RTN_LOCAL`: an address of this host.
const ADDRESS_LOCAL: u32 = 2;
const DYNSET_SET_NAME: u16 = 1;
const DYNSET_OP: u16 = 3;
const DYNSET_SREG_KEY: u16 = 4;
const DYNSET_SREG_DATA: u16 = 5;
const DYNSET_TIMEOUT: u16 = 6;
const DYNSET_UPDATE: u32 = 1;
const CMP_EQ: u32 = 0;
const CMP_NE: u32 = 1;
const CMP_LTE: u32 = 3;
const CMP_GTE: u32 = 5;
/// The types of neighbour discovery's messages (RFC 4861), router solicitation to redirect.
const NEIGHBOUR_DISCOVERY: [u8; 2] = [133, 137];
const ICMPV6: u8 = 58;
const TCP: u8 = 6;
const TCP_SYN: u8 = 1 << 1;
const TCP_ACK: u8 = 1 << 4;

impl Rule {
    /// An empty rule; it matches everything.
    #[must_use]
    pub fn new(family: Family) -> Self {
        Self {
            family,
            expressions: Writer::default(),
            comment: None,
        }
    }

    /// A comment that `nft list` shows; at most 127 bytes are kept.
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        let end = (0..=text.len().min(127))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        self.comment = Some(text[..end].to_owned());
        self
    }

    /// Loads fields side by side, for one of the look-ups below.
    #[must_use]
    pub fn on(mut self, fields: &[Field]) -> Self {
        self.load(fields);
        self
    }

    /// Matches if what was loaded is in a set.
    #[must_use]
    pub fn in_set(self, set: &str) -> Self {
        self.lookup(set, None, false)
    }

    /// Matches if what was loaded is not in a set.
    #[must_use]
    pub fn not_in_set(self, set: &str) -> Self {
        self.lookup(set, None, true)
    }

    /// Looks up a verdict for what was loaded; without an entry the next rule follows.
    #[must_use]
    pub fn vmap(self, map: &str) -> Self {
        self.lookup(map, Some(expr::REG_VERDICT), false)
    }

    /// Translates the destination to the address and port that a map has for what was loaded.
    #[must_use]
    pub fn dnat_map(self, map: &str) -> Self {
        let port = expr::REG32_00 + self.family.address_len() / 4;
        let family = u32::from(self.family.number());
        let mut rule = self.lookup(map, Some(expr::REG32_00), false);
        rule.expr("nat", |w| {
            w.be32(1, expr::NAT_DNAT);
            w.be32(2, family);
            w.be32(3, expr::REG32_00);
            w.be32(5, port);
            w.be32(7, expr::RANGE_MAP_IPS | expr::RANGE_PROTO_SPECIFIED);
        });
        rule
    }

    /// Remembers `data` for `key` in a map until `timeout` has passed; an entry that is there keeps its data and gets the time anew.
    #[must_use]
    pub fn update_map(mut self, map: &str, key: &[Field], data: &[Field], timeout: Duration) -> Self {
        let values = self.load_from(expr::REG32_00, key);
        self.load_from(values, data);
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.expr("dynset", |w| {
            w.string(DYNSET_SET_NAME, map);
            w.be32(DYNSET_OP, DYNSET_UPDATE);
            w.be32(DYNSET_SREG_KEY, expr::REG32_00);
            w.be32(DYNSET_SREG_DATA, values);
            w.bytes(DYNSET_TIMEOUT, &milliseconds.to_be_bytes());
        });
        self
    }

    /// Matches packets of one transport protocol.
    #[must_use]
    pub fn l4proto(mut self, number: u8) -> Self {
        self.load(&[Field::L4Proto]);
        self.compare(CMP_EQ, &[number])
    }

    /// Matches if a field, cut to a prefix, differs from `network`.
    #[must_use]
    pub fn outside(mut self, field: Field, network: &[u8], mask: &[u8]) -> Self {
        self.load(&[field]);
        self.mask(mask);
        self.compare(CMP_NE, network)
    }

    /// Matches if a field, cut to a prefix, equals `network`.
    #[must_use]
    pub fn inside(mut self, field: Field, network: &[u8], mask: &[u8]) -> Self {
        self.load(&[field]);
        self.mask(mask);
        self.compare(CMP_EQ, network)
    }

    /// Matches if an address belongs to this host.
    #[must_use]
    pub fn local_address(mut self, key: FibKey) -> Self {
        let flags = match key {
            FibKey::Saddr => expr::FIB_SADDR,
            FibKey::Daddr => expr::FIB_DADDR,
        };
        self.expr("fib", |w| {
            w.be32(1, expr::REG32_00);
            w.be32(2, expr::FIB_ADDRTYPE);
            w.be32(3, flags);
        });
        self.compare(CMP_EQ, &ADDRESS_LOCAL.to_ne_bytes())
    }

    /// Matches connections whose destination is translated.
    #[must_use]
    pub fn translated(self) -> Self {
        self.connection(CT_STATUS, STATUS_DNAT)
    }

    /// Matches packets that belong to a tracked connection, or that are about one.
    #[must_use]
    pub fn established(self) -> Self {
        self.connection(CT_STATE, STATE_ESTABLISHED_OR_RELATED)
    }

    /// Matches if one of these bits is set.
    fn connection(mut self, key: u32, bits: u32) -> Self {
        self.expr("ct", |w| {
            w.be32(CT_DREG, expr::REG32_00);
            w.be32(CT_KEY, key);
        });
        self.mask(&bits.to_ne_bytes());
        self.compare(CMP_NE, &[0; 4])
    }

    /// Matches packets of a transport protocol to a range of ports, both ends included.
    #[must_use]
    pub fn to_ports(self, protocol: u8, first: u16, last: u16) -> Self {
        let mut rule = self.l4proto(protocol);
        rule.load(&[Field::Dport]);
        let (first, last) = (first.to_be_bytes(), last.to_be_bytes());
        if first == last {
            return rule.compare(CMP_EQ, &first);
        }
        rule.compare(CMP_GTE, &first).compare(CMP_LTE, &last)
    }

    /// Matches IPv6's search for neighbours and routers, without which nothing else passes.
    #[must_use]
    pub fn neighbour_discovery(self) -> Self {
        let mut rule = self.l4proto(ICMPV6);
        rule.load(&[Field::Icmpv6Type]);
        let [first, last] = NEIGHBOUR_DISCOVERY;
        rule.compare(CMP_GTE, &[first]).compare(CMP_LTE, &[last])
    }

    /// Matches TCP packets that do not open a connection.
    #[must_use]
    pub fn tcp_midway(self) -> Self {
        let mut rule = self.l4proto(TCP);
        rule.load(&[Field::TcpFlags]);
        rule.mask(&[TCP_SYN | TCP_ACK]);
        rule.compare(CMP_NE, &[TCP_SYN])
    }

    /// Matches packets that leave through an interface of another name.
    #[must_use]
    pub fn not_out(self, interface: &str) -> Self {
        self.meta(META_OIFNAME)
            .compare(CMP_NE, &Interface::Named(interface).bytes())
    }

    /// Matches packets that came in through an interface.
    #[must_use]
    pub fn came_in(self, interface: Interface<'_>) -> Self {
        self.meta(META_IIFNAME).compare(CMP_EQ, &interface.bytes())
    }

    /// Matches packets that came in elsewhere, or that this host sends.
    #[must_use]
    pub fn came_in_elsewhere(self, interface: Interface<'_>) -> Self {
        self.meta(META_IIFNAME).compare(CMP_NE, &interface.bytes())
    }

    /// Matches packets with a bit of their mark set.
    #[must_use]
    pub fn marked(self, bit: u32) -> Self {
        let mut rule = self.meta(META_MARK);
        rule.mask(&bit.to_ne_bytes());
        rule.compare(CMP_NE, &[0; 4])
    }

    /// Sets a bit of the packet's mark, or clears it, and leaves the others.
    #[must_use]
    pub fn mark(self, bit: u32, set: bool) -> Self {
        let mut rule = self.meta(META_MARK);
        let xor = if set { bit } else { 0 };
        rule.bitwise(expr::REG32_00, &(!bit).to_ne_bytes(), &xor.to_ne_bytes());
        rule.expr("meta", |w| {
            w.be32(META_KEY, META_MARK);
            w.be32(META_SREG, expr::REG32_00);
        });
        rule
    }

    fn meta(mut self, key: u32) -> Self {
        self.expr("meta", |w| {
            w.be32(META_DREG, expr::REG32_00);
            w.be32(META_KEY, key);
        });
        self
    }

    /// Rewrites the source to the address of the outgoing interface, with a random port.
    #[must_use]
    pub fn masquerade(mut self) -> Self {
        self.expr("masq", |w| w.be32(1, expr::RANGE_PROTO_RANDOM_FULLY));
        self
    }

    /// Answers with a TCP reset.
    #[must_use]
    pub fn reject_tcp_reset(mut self) -> Self {
        self.expr("reject", |w| {
            w.be32(1, expr::REJECT_TCP_RESET);
            w.bytes(2, &[0]);
        });
        self
    }

    /// Answers with ICMP or ICMPv6 "port unreachable".
    #[must_use]
    pub fn reject_port_unreachable(mut self) -> Self {
        let code = match self.family {
            Family::Ipv4 => 3,
            Family::Ipv6 => 4,
        };
        self.expr("reject", |w| {
            w.be32(1, expr::REJECT_ICMP);
            w.bytes(2, &[code]);
        });
        self
    }

    /// Counts the packets that have matched so far.
    #[must_use]
    pub fn counter(mut self) -> Self {
        self.expr("counter", |_| ());
        self
    }

    /// Ends the rule with a verdict.
    #[must_use]
    pub fn verdict(mut self, verdict: Verdict<'_>) -> Self {
        self.expr("immediate", |w| {
            w.be32(1, expr::REG_VERDICT);
            w.nest(2, |w| write_verdict(w, verdict));
        });
        self
    }

    /// Goes through another chain and comes back.
    #[must_use]
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(Verdict::Jump(chain))
    }

    /// Goes on in another chain.
    #[must_use]
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto(chain))
    }

    fn lookup(mut self, set: &str, to: Option<u32>, invert: bool) -> Self {
        self.expr("lookup", |w| {
            w.string(1, set);
            w.be32(2, expr::REG32_00);
            if let Some(register) = to {
                w.be32(3, register);
            }
            if invert {
                w.be32(5, expr::LOOKUP_INVERT);
            }
        });
        self
    }

    fn compare(mut self, op: u32, value: &[u8]) -> Self {
        self.expr("cmp", |w| {
            w.be32(1, expr::REG32_00);
            w.be32(2, op);
            w.nest(3, |w| w.bytes(data::VALUE, value));
        });
        self
    }

    fn expr(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        self.expressions.nest(expr::LIST_ELEM, |w| {
            w.string(expr::NAME, name);
            w.nest(expr::DATA, fill);
        });
    }
}
