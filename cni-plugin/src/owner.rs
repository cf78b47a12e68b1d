//! Names derived from an attachment, so that DEL and GC find everything that ADD made without any record of it.
//!
//! A container's interface has one [`Owner`]. The names and hardware addresses of the host's end of its veth pair and of its
//! ifb, and the owner field of its leases all come from it.

use std::fmt;
use std::net::IpAddr;

/// A 128-bit digest (FNV-1a) of container identifier and interface name.
///
/// Not a cryptographic digest: the runtime, which chooses identifiers, is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner(pub(crate) u128);

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Owner {
    /// The owner of this container's interface.
    pub(crate) fn new(container: &str, ifname: &str) -> Self {
        Self(digest(&[container.as_bytes(), b"/", ifname.as_bytes()]))
    }

    /// The name of the host's end of the veth pair: `veth` and 44 bits, 15 characters, the most that the kernel takes.
    pub(crate) fn host_ifname(self) -> String {
        format!("veth{:011x}", self.bits())
    }

    /// The name of the ifb that what the pod sends is queued in: the same bits as in the host's end.
    pub(crate) fn ifb_name(self) -> String {
        format!("ifb{:011x}", self.bits())
    }

    /// The hardware address of the ifb.
    pub(crate) fn ifb_mac(self) -> Mac {
        let Mac([_, rest @ ..]) = self.host_mac();
        let [a, b, c, d, e] = rest;
        Mac([0x1e, a, b, c, d, e])
    }

    /// All devices of the host that may belong to the attachment.
    pub(crate) fn devices(self) -> [String; 2] {
        [self.host_ifname(), self.ifb_name()]
    }

    /// 44 bits of it.
    fn bits(self) -> u128 {
        (self.0 ^ (self.0 >> 44) ^ (self.0 >> 88)) & 0xfff_ffff_ffff
    }

    /// The hardware address of the host's end.
    pub(crate) fn host_mac(self) -> Mac {
        let [a, b, c, d, e, ..] = self.0.to_be_bytes();
        Mac([0x0e, a, b, c, d, e])
    }
}

impl Mac {
    /// The address of an interface with this IP. As it follows from the IP, an address that is used again never meets a
    /// stale neighbour entry, and two pods can never share one.
    pub(crate) fn for_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                Self([0x0a, 0x58, a, b, c, d])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, ..] = digest(&[&ip.octets()]).to_be_bytes();
                Self([0x0a, a, b, c, d, e])
            }
        }
    }

    /// Reads `aa:bb:cc:dd:ee:ff`; a group address is none that an interface can have.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        (parts.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// FNV-1a, 128 bit.
pub(crate) fn digest(parts: &[&[u8]]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_differ_by_container_and_interface() {
        let owner = Owner::new("abc", "eth0");
        assert_eq!(owner, Owner::new("abc", "eth0"));
        assert_ne!(owner.host_ifname(), Owner::new("abc", "eth1").host_ifname());
        assert_ne!(owner.host_ifname(), Owner::new("abd", "eth0").host_ifname());
        assert_eq!(owner.host_ifname().len(), 15);
    }

    #[test]
    fn digest_is_fnv_1a() {
        assert_eq!(digest(&[b"a"]), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn mac_reads_what_it_writes() {
        let mac = Mac::for_ip([10, 1, 2, 3].into());
        assert_eq!(mac.to_string(), "0a:58:0a:01:02:03");
        assert_eq!(Mac::parse(&mac.to_string()), Some(mac));
        for bad in [
            "",
            "0a:58:0a:01:02",
            "0a:58:0a:01:02:03:04",
            "01:00:5e:00:00:01",
            "zz:58:0a:01:02:03",
            "é:58:0a:01:02:03",
        ] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_mac_or_not(text in "([0-9a-fA-F]{1,3}[:-]?){0,7}|.{0,20}") {
            if let Some(mac) = Mac::parse(&text) {
                proptest::prop_assert_eq!(mac.to_string(), text.replace('-', ":").to_lowercase());
            }
        }
    }
}
