//! Whether the host forwards packets.
//!
//! Asked over netlink, which takes no lock. Below /proc/sys the kernel finds a namespace's setting in a list of all namespaces', of
//! which the host's is the last.

use std::convert::Infallible;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
};

use super::{Netlink, NetlinkError};

/// linux/rtnetlink.h.
const GET_NETCONF: u16 = 82;
/// linux/netconf.h: the family, padded, then attributes.
const HEADER_BYTES: usize = 4;
const IFINDEX: u16 = 1;
const ALL_INTERFACES: i32 = -1;
const FORWARDING: u16 = 2;
/// An attribute of four bytes: its length, its kind, its value.
const ATTRIBUTE_BYTES: usize = 8;

/// A question, or its answer, without the general header.
struct Netconf(Vec<u8>);

impl Netlink {
    /// Whether this namespace forwards; false also when the kernel does not say, as when it has not this family.
    pub(crate) fn forwards(&mut self, ipv4: bool) -> Result<bool, NetlinkError> {
        let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
        let operation = || "look whether this host forwards packets".to_owned();
        let asked = self.converse(Netconf::question(family), NLM_F_REQUEST | NLM_F_ACK, &operation);
        match asked {
            Ok(answers) => Ok(answers.iter().any(|answer| answer.value(FORWARDING) == Some(1))),
            Err(error) if error.kernel_reason().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Netconf {
    fn question(family: i32) -> Self {
        let mut bytes = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
        bytes.extend(8u16.to_ne_bytes());
        bytes.extend(IFINDEX.to_ne_bytes());
        bytes.extend(ALL_INTERFACES.to_ne_bytes());
        Self(bytes)
    }

    /// The value of an attribute. All of an answer have four bytes.
    fn value(&self, wanted: u16) -> Option<u32> {
        let attributes = self.0.get(HEADER_BYTES..)?.as_chunks::<ATTRIBUTE_BYTES>().0;
        attributes.iter().find_map(|attribute| {
            let [_, _, kind_low, kind_high, a, b, c, d] = *attribute;
            let is_wanted = u16::from_ne_bytes([kind_low, kind_high]) == wanted;
            is_wanted.then(|| u32::from_ne_bytes([a, b, c, d]))
        })
    }
}

impl NetlinkSerializable for Netconf {
    fn message_type(&self) -> u16 {
        GET_NETCONF
    }

    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

impl NetlinkDeserializable for Netconf {
    type Error = Infallible;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self(payload.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whatever_its_length() {
        let mut answer = Netconf::question(libc::AF_INET);
        assert_eq!(answer.value(IFINDEX), Some(u32::MAX));
        assert_eq!(answer.value(FORWARDING), None);
        answer.0.extend([8, 0]);
        answer.0.extend(FORWARDING.to_ne_bytes());
        answer.0.extend(1u32.to_ne_bytes());
        assert_eq!(answer.value(FORWARDING), Some(1));
        while answer.0.pop().is_some() {
            let _ = answer.value(FORWARDING);
        }
    }
}
