//! Rules, written as the kernel's expressions while they are built.
//!
//! [`Rule`] reads like nft text: `Rule::new(family).on(&[Field::Daddr]).in_set("pod-cidrs").jump("near")`. Matched fields are loaded
//! into consecutive 4-byte registers, which is also how the kernel lays out a concatenation.

use crate::Family;
use crate::element::{Verdict, write_verdict};
use crate::uapi::{data, expr};
use crate::wire::Writer;

/// Something a rule can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Source address of the packet.
    Saddr,
    /// Destination address of the packet.
    Daddr,
    /// Transport protocol number, one byte.
    L4Proto,
    /// Destination port (TCP, UDP, SCTP), two bytes.
    Dport,
    /// Destination address of the connection's first packet, before translation.
    OriginalDaddr,
    /// Destination port of the connection's first packet, before translation.
    OriginalDport,
    /// A random number in `offset .. offset + modulus`, host endian, four bytes.
    Random {
        /// How many values there are; at least 1.
        modulus: u32,
        /// The smallest value.
        offset: u32,
    },
}

impl Field {
    /// Size in bytes, without padding.
    fn len(self, family: Family) -> u32 {
        match self {
            Self::Saddr | Self::Daddr | Self::OriginalDaddr => family.address_len(),
            Self::L4Proto => 1,
            Self::Dport | Self::OriginalDport => 2,
            Self::Random { .. } => 4,
        }
    }
}

/// Which address a route look-up is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibKey {
    /// The source address.
    Saddr,
    /// The destination address.
    Daddr,
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
const META_L4PROTO: u32 = 16;
const META_OIFNAME: u32 = 7;
const PAYLOAD: [u16; 4] = [1, 2, 3, 4];
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const CT_DREG: u16 = 1;
const CT_KEY: u16 = 2;
const CT_DIRECTION: u16 = 3;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
const CT_DST_IP: u32 = 20;
const CT_DST_IP6: u32 = 22;
/// `IPS_DST_NAT`: the connection's destination is translated.
const STATUS_DNAT: u32 = 1 << 5;
/// `RTN_LOCAL`: an address of this host.
const ADDRESS_LOCAL: u32 = 2;
const CMP_EQ: u32 = 0;
const CMP_NE: u32 = 1;

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
    pub fn translated(mut self) -> Self {
        self.expr("ct", |w| {
            w.be32(CT_DREG, expr::REG32_00);
            w.be32(CT_KEY, CT_STATUS);
        });
        self.mask(&STATUS_DNAT.to_ne_bytes());
        self.compare(CMP_NE, &[0; 4])
    }

    /// Matches packets that leave through an interface of another name.
    #[must_use]
    pub fn not_out(mut self, interface: &str) -> Self {
        self.expr("meta", |w| {
            w.be32(META_DREG, expr::REG32_00);
            w.be32(META_KEY, META_OIFNAME);
        });
        let mut name = interface.as_bytes().to_vec();
        name.resize(16, 0);
        self.compare(CMP_NE, &name)
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

    fn mask(&mut self, mask: &[u8]) {
        let len = u32::try_from(mask.len()).expect("an address is short");
        self.expr("bitwise", |w| {
            w.be32(1, expr::REG32_00);
            w.be32(2, expr::REG32_00);
            w.be32(3, len);
            w.nest(4, |w| w.bytes(data::VALUE, mask));
            w.nest(5, |w| w.bytes(data::VALUE, &vec![0; mask.len()]));
        });
    }

    fn load(&mut self, fields: &[Field]) {
        let mut register = expr::REG32_00;
        for field in fields {
            self.load_one(*field, register);
            register += field.len(self.family).div_ceil(4);
        }
    }

    fn load_one(&mut self, field: Field, register: u32) {
        let (family, address) = (self.family, self.family.address_len());
        let (saddr_at, daddr_at, ct_daddr) = match family {
            Family::Ipv4 => (12, 16, CT_DST_IP),
            Family::Ipv6 => (8, 24, CT_DST_IP6),
        };
        match field {
            Field::Saddr => self.payload(PAYLOAD_NETWORK, saddr_at, address, register),
            Field::Daddr => self.payload(PAYLOAD_NETWORK, daddr_at, address, register),
            Field::Dport => self.payload(PAYLOAD_TRANSPORT, 2, 2, register),
            Field::OriginalDaddr => self.original(ct_daddr, register),
            Field::OriginalDport => self.original(CT_PROTO_DST, register),
            Field::L4Proto => self.expr("meta", |w| {
                w.be32(META_DREG, register);
                w.be32(META_KEY, META_L4PROTO);
            }),
            Field::Random { modulus, offset } => self.expr("numgen", |w| {
                w.be32(1, register);
                w.be32(2, modulus);
                w.be32(3, expr::NG_RANDOM);
                w.be32(4, offset);
            }),
        }
    }

    fn payload(&mut self, base: u32, offset: u32, len: u32, register: u32) {
        self.expr("payload", |w| {
            for (attribute, value) in PAYLOAD.into_iter().zip([register, base, offset, len]) {
                w.be32(attribute, value);
            }
        });
    }

    fn original(&mut self, key: u32, register: u32) {
        self.expr("ct", |w| {
            w.be32(CT_DREG, register);
            w.be32(CT_KEY, key);
            w.bytes(CT_DIRECTION, &[0]);
        });
    }

    fn expr(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        self.expressions.nest(expr::LIST_ELEM, |w| {
            w.string(expr::NAME, name);
            w.nest(expr::DATA, fill);
        });
    }
}
