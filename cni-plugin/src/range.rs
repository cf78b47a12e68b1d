//! Ranges of addresses, with the defaults and rules of the `host-local` plugin: a network is given by range sets, each
//! container gets one address of each set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// The most addresses of a subnet that can be leased: the size of a lease table. Larger subnets use their first ones.
pub(crate) const MAX_ADDRESSES: u32 = 1 << 16;

/// Addresses that can be leased, all in one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// The subnet, its host bits zero.
    pub(crate) subnet: IpNetwork,
    /// The offset of the first address from the subnet's own.
    pub(crate) first: u32,
    /// The offset of the last address, inclusive; below [`MAX_ADDRESSES`].
    pub(crate) last: u32,
    /// The gateway inside the subnet.
    pub(crate) gateway: IpAddr,
}

/// Ranges of one address family; a container gets one address out of them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeSet(pub(crate) Vec<Range>);

/// A range as it is written in a configuration.
#[derive(Debug, Clone)]
pub(crate) struct RangeText<'a> {
    pub(crate) subnet: &'a str,
    pub(crate) start: Option<&'a str>,
    pub(crate) end: Option<&'a str>,
    pub(crate) gateway: Option<&'a str>,
}

/// Why a range is not usable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum RangeError {
    /// Not an address range at all.
    #[error("{0:?} is not a subnet: write it as 10.1.2.0/24")]
    NotASubnet(String),
    /// Host bits are set.
    #[error("{given} has host bits set: write {network}")]
    HostBits {
        /// As written.
        given: IpNetwork,
        /// As it should be.
        network: IpNetwork,
    },
    /// Fewer than two host addresses.
    #[error("{0} is too small: a prefix of /30 (IPv6: /126) or shorter is needed")]
    TooSmall(IpNetwork),
    /// Not an address.
    #[error("{0:?} is not an IP address")]
    NotAnAddress(String),
    /// An address of the range is not one of the subnet.
    #[error("{address} is not an address in {subnet}")]
    Outside {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// Too far from the beginning of a large subnet.
    #[error(
        "{address} is beyond the first {MAX_ADDRESSES} addresses of {subnet}: start the range earlier or use a smaller subnet"
    )]
    BeyondTable {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// No address is left.
    #[error("the range in {subnet} ends before it starts")]
    Empty {
        /// The subnet.
        subnet: IpNetwork,
    },
}

impl Range {
    /// Validates a range and fills in what is not given: from the first address to the last (in IPv4 the last but the
    /// broadcast address), the gateway being the first address of the subnet.
    pub(crate) fn parse(text: &RangeText<'_>) -> Result<Self, RangeError> {
        let given: IpNetwork = text
            .subnet
            .parse()
            .map_err(|_| RangeError::NotASubnet(text.subnet.to_owned()))?;
        if !text.subnet.contains('/') {
            return Err(RangeError::NotASubnet(text.subnet.to_owned()));
        }
        let subnet = network_of(given);
        if subnet != given {
            return Err(RangeError::HostBits {
                given,
                network: subnet,
            });
        }
        let host_bits = bits(subnet) - subnet.prefix();
        if host_bits < 2 {
            return Err(RangeError::TooSmall(subnet));
        }
        let table_end = MAX_ADDRESSES - 1;
        let subnet_end = 1u32
            .checked_shl(host_bits.into())
            .map_or(u32::MAX, |size| size - 1);
        let usable_end = if subnet.is_ipv4() {
            subnet_end - 1
        } else {
            subnet_end
        };
        let place = |address: Option<&str>| match address {
            None => Ok(None),
            Some(address) => offset_in(subnet, parse_address(address)?).map(Some),
        };
        let first = place(text.start)?.unwrap_or(1);
        let last = place(text.end)?.unwrap_or(usable_end.min(table_end));
        if last < first {
            return Err(RangeError::Empty { subnet });
        }
        let gateway = text
            .gateway
            .map_or_else(|| Ok(address_at(subnet, 1)), parse_address)?;
        if gateway.is_ipv4() != subnet.is_ipv4() {
            return Err(RangeError::Outside {
                address: gateway,
                subnet,
            });
        }
        Ok(Self {
            subnet,
            first,
            last,
            gateway,
        })
    }

    /// The address at an offset of the subnet.
    pub(crate) fn address(&self, offset: u32) -> IpAddr {
        address_at(self.subnet, offset)
    }

    /// The offset of an address that this range can lease.
    pub(crate) fn offset(&self, address: IpAddr) -> Option<u32> {
        let offset = offset_in(self.subnet, address).ok()?;
        ((self.first..=self.last).contains(&offset) && address != self.gateway).then_some(offset)
    }

    /// Whether two ranges share an address.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let ends = |range: &Self| (range.address(range.first), range.address(range.last));
        let ((a, b), (c, d)) = (ends(self), ends(other));
        a.is_ipv4() == c.is_ipv4() && a <= d && c <= b
    }
}

impl RangeSet {
    /// The range that can lease this address.
    pub(crate) fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.offset(address).is_some())
    }
}

impl std::fmt::Display for RangeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(
                f,
                "{separator}{}-{}",
                range.address(range.first),
                range.address(range.last)
            )?;
        }
        Ok(())
    }
}

/// The subnet that an address with prefix is in.
pub(crate) fn network_of(address: IpNetwork) -> IpNetwork {
    // The prefix length comes from a valid network, so `new` cannot fail; the fallback only avoids a panic path.
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(address)
}

/// Reads an address; an IPv4 address mapped into IPv6 is IPv4.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, RangeError> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| RangeError::NotAnAddress(text.to_owned()))?;
    Ok(address.to_canonical())
}

fn bits(subnet: IpNetwork) -> u8 {
    if subnet.is_ipv4() { 32 } else { 128 }
}

/// The address at an offset of a subnet.
pub(crate) fn address_at(subnet: IpNetwork, offset: u32) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).wrapping_add(offset)).into(),
        IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).wrapping_add(offset.into())).into(),
    }
}

fn offset_in(subnet: IpNetwork, address: IpAddr) -> Result<u32, RangeError> {
    if !subnet.contains(address) {
        return Err(RangeError::Outside { address, subnet });
    }
    let offset = match (subnet.network(), address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => Some(u32::from(address).wrapping_sub(u32::from(base))),
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            u32::try_from(u128::from(address).wrapping_sub(u128::from(base))).ok()
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    };
    offset
        .filter(|offset| *offset < MAX_ADDRESSES)
        .ok_or(RangeError::BeyondTable { address, subnet })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(subnet: &str, start: Option<&str>, end: Option<&str>) -> Result<Range, RangeError> {
        Range::parse(&RangeText {
            subnet,
            start,
            end,
            gateway: None,
        })
    }

    #[test]
    fn defaults_are_those_of_host_local() {
        let v4 = range("10.1.2.0/24", None, None).unwrap();
        assert_eq!(
            (v4.address(v4.first), v4.address(v4.last)),
            ([10, 1, 2, 1].into(), [10, 1, 2, 254].into())
        );
        assert_eq!(v4.gateway, IpAddr::from([10, 1, 2, 1]));
        let v6 = range("fd00::/64", None, None).unwrap();
        assert_eq!(v6.address(v6.last).to_string(), "fd00::ffff");
        assert_eq!(range("10.0.0.0/8", None, None).unwrap().last, 65535);
        assert_eq!(range("0.0.0.0/0", None, None).unwrap().last, 65535);
        assert_eq!(range("::/0", None, None).unwrap().last, 65535);
    }

    #[test]
    fn each_mistake_has_its_error() {
        let address: IpAddr = [10, 1, 3, 1].into();
        let subnet: IpNetwork = "10.1.2.0/24".parse().unwrap();
        assert_eq!(
            range("10.1.2.0", None, None),
            Err(RangeError::NotASubnet("10.1.2.0".into()))
        );
        assert_eq!(
            range("x/24", None, None),
            Err(RangeError::NotASubnet("x/24".into()))
        );
        assert!(matches!(
            range("10.1.2.1/24", None, None),
            Err(RangeError::HostBits { .. })
        ));
        assert!(matches!(
            range("10.1.2.0/31", None, None),
            Err(RangeError::TooSmall(_))
        ));
        assert_eq!(
            range("10.1.2.0/24", Some("10.1.3.1"), None),
            Err(RangeError::Outside { address, subnet })
        );
        assert!(matches!(
            range("10.0.0.0/8", Some("10.9.0.0"), None),
            Err(RangeError::BeyondTable { .. })
        ));
        assert!(matches!(
            range("fd00::/64", Some("fd00::1:0:0"), None),
            Err(RangeError::BeyondTable { .. })
        ));
        let swapped = range("10.1.2.0/24", Some("10.1.2.9"), Some("10.1.2.5"));
        assert!(matches!(swapped, Err(RangeError::Empty { .. })));
    }

    #[test]
    fn overlap_is_seen_from_both_sides() {
        let a = range("10.1.2.0/24", Some("10.1.2.10"), Some("10.1.2.20")).unwrap();
        let b = range("10.1.0.0/16", None, None).unwrap();
        let c = range("10.1.2.0/24", Some("10.1.2.21"), None).unwrap();
        assert!(a.overlaps(&b) == b.overlaps(&a));
        assert!(!a.overlaps(&c) && !c.overlaps(&a));
    }

    /// Addresses of both families, close to each other and to the ends of both.
    fn address() -> impl Strategy<Value = String> {
        prop_oneof![
            "(0|10|255)\\.(0|255)\\.(0|1|255)\\.[0-9]{1,3}",
            "(|ffff|fd00|fd00:1)::(ffff:)?[0-9a-f]{0,4}",
            "::ffff:10\\.0\\.0\\.[0-9]",
            ".{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_in_its_subnet_or_refused(
            network in address(),
            prefix in prop_oneof![(0_u8..=129).prop_map(|prefix| format!("/{prefix}")), ".{0,3}"],
            start in proptest::option::of(address()),
            end in proptest::option::of(address()),
            gateway in proptest::option::of(address()),
        ) {
            let subnet = network + &prefix;
            let text = RangeText {
                subnet: &subnet,
                start: start.as_deref(),
                end: end.as_deref(),
                gateway: gateway.as_deref(),
            };
            if let Ok(range) = Range::parse(&text) {
                prop_assert!(range.first <= range.last && range.last < MAX_ADDRESSES);
                for offset in [range.first, range.last] {
                    let address = range.address(offset);
                    prop_assert!(range.subnet.contains(address));
                    let leased = (address != range.gateway).then_some(offset);
                    prop_assert_eq!(range.offset(address), leased);
                }
                prop_assert!(range.overlaps(&range.clone()));
            }
        }
    }
}
