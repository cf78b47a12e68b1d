//! What rules look at: loading it into registers.

use super::{CT_DREG, CT_KEY, META_DREG, META_KEY, Rule};
use crate::Family;
use crate::uapi::{data, expr};

const META_L4PROTO: u32 = 16;
const PAYLOAD: [u16; 4] = [1, 2, 3, 4];
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const CT_DIRECTION: u16 = 3;
const CT_PROTO_DST: u32 = 12;
const CT_DST_IP: u32 = 20;
const CT_DST_IP6: u32 = 22;

/// Something a rule can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Source address of the packet.
    Saddr,
    /// Source address of the packet, cut to so many bits.
    SaddrPrefix(u8),
    /// Destination address of the packet.
    Daddr,
    /// Transport protocol number, one byte.
    L4Proto,
    /// Destination port (TCP, UDP, SCTP), two bytes.
    Dport,
    /// Type of an ICMPv6 message, one byte.
    Icmpv6Type,
    /// Flags of a TCP packet, one byte.
    TcpFlags,
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
            Self::Saddr | Self::SaddrPrefix(_) | Self::Daddr | Self::OriginalDaddr => family.address_len(),
            Self::L4Proto | Self::Icmpv6Type | Self::TcpFlags => 1,
            Self::Dport | Self::OriginalDport => 2,
            Self::Random { .. } => 4,
        }
    }
}

impl Rule {
    pub(super) fn mask(&mut self, mask: &[u8]) {
        self.mask_register(expr::REG32_00, mask);
    }

    fn mask_register(&mut self, register: u32, mask: &[u8]) {
        self.bitwise(register, mask, &vec![0; mask.len()]);
    }

    /// `(register & mask) ^ xor`.
    pub(super) fn bitwise(&mut self, register: u32, mask: &[u8], xor: &[u8]) {
        let len = u32::try_from(mask.len()).expect("an address is short");
        self.expr("bitwise", |w| {
            w.be32(1, register);
            w.be32(2, register);
            w.be32(3, len);
            w.nest(4, |w| w.bytes(data::VALUE, mask));
            w.nest(5, |w| w.bytes(data::VALUE, xor));
        });
    }

    pub(super) fn load(&mut self, fields: &[Field]) {
        self.load_from(expr::REG32_00, fields);
    }

    /// Loads fields into registers from one on, and says which is the next free one.
    pub(super) fn load_from(&mut self, mut register: u32, fields: &[Field]) -> u32 {
        for field in fields {
            self.load_one(*field, register);
            register += field.len(self.family).div_ceil(4);
        }
        register
    }

    fn load_one(&mut self, field: Field, register: u32) {
        let (family, address) = (self.family, self.family.address_len());
        let (saddr_at, daddr_at, ct_daddr) = match family {
            Family::Ipv4 => (12, 16, CT_DST_IP),
            Family::Ipv6 => (8, 24, CT_DST_IP6),
        };
        match field {
            Field::Saddr => self.payload(PAYLOAD_NETWORK, saddr_at, address, register),
            Field::SaddrPrefix(bits) => {
                self.payload(PAYLOAD_NETWORK, saddr_at, address, register);
                if u32::from(bits) < 8 * address {
                    self.mask_register(register, &prefix_mask(bits, address));
                }
            }
            Field::Daddr => self.payload(PAYLOAD_NETWORK, daddr_at, address, register),
            Field::Dport => self.payload(PAYLOAD_TRANSPORT, 2, 2, register),
            Field::Icmpv6Type => self.payload(PAYLOAD_TRANSPORT, 0, 1, register),
            Field::TcpFlags => self.payload(PAYLOAD_TRANSPORT, 13, 1, register),
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
}

/// The first `bits` bits of an address.
fn prefix_mask(bits: u8, address_len: u32) -> Vec<u8> {
    let byte = |at: u32| {
        let ones = u32::from(bits).saturating_sub(8 * at).min(8);
        u8::MAX.checked_shl(8 - ones).unwrap_or(0)
    };
    (0..address_len).map(byte).collect()
}
