//! Address blocks as ranges that do not overlap.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// Addresses of one family from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
}

impl Range {
    /// True if an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }
}

/// The addresses that are in some block and in none of its exceptions, in order, joined where they touch.
pub(crate) fn ranges<'a>(blocks: impl IntoIterator<Item = (IpNetwork, &'a [IpNetwork])>) -> BTreeSet<Range> {
    let mut all: Vec<(bool, u128, u128)> = Vec::new();
    for (cidr, except) in blocks {
        let (is_ipv4, first, last) = bounds(cidr);
        let mut holes: Vec<_> = except
            .iter()
            .map(|hole| bounds(*hole))
            .filter(|(family, from, to)| *family == is_ipv4 && *from <= last && *to >= first)
            .collect();
        holes.sort_unstable();
        let mut next = Some(first);
        for (_, from, to) in holes {
            let Some(start) = next else { break };
            if from > start {
                all.push((is_ipv4, start, from - 1));
            }
            next = to.checked_add(1).map(|after| after.max(start));
        }
        if let Some(start) = next.filter(|start| *start <= last) {
            all.push((is_ipv4, start, last));
        }
    }
    all.sort_unstable();
    let mut joined: Vec<(bool, u128, u128)> = Vec::new();
    for (is_ipv4, first, last) in all {
        match joined.last_mut() {
            Some(before) if before.0 == is_ipv4 && first <= before.2.saturating_add(1) => {
                before.2 = before.2.max(last);
            }
            _ => joined.push((is_ipv4, first, last)),
        }
    }
    joined
        .into_iter()
        .map(|(is_ipv4, first, last)| Range {
            first: address(is_ipv4, first),
            last: address(is_ipv4, last),
        })
        .collect()
}

fn bounds(cidr: IpNetwork) -> (bool, u128, u128) {
    match cidr {
        IpNetwork::V4(cidr) => (
            true,
            u32::from(cidr.network()).into(),
            u32::from(cidr.broadcast()).into(),
        ),
        IpNetwork::V6(cidr) => (false, cidr.network().into(), cidr.broadcast().into()),
    }
}

fn address(is_ipv4: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if is_ipv4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(blocks: &[(&str, &[&str])]) -> Vec<String> {
        let blocks: Vec<(IpNetwork, Vec<IpNetwork>)> = blocks
            .iter()
            .map(|(cidr, except)| {
                let except = except.iter().map(|cidr| cidr.parse().unwrap()).collect();
                (cidr.parse().unwrap(), except)
            })
            .collect();
        ranges(blocks.iter().map(|(cidr, except)| (*cidr, except.as_slice())))
            .into_iter()
            .map(|range| format!("{}-{}", range.first, range.last))
            .collect()
    }

    #[test]
    fn exceptions_are_holes_and_neighbours_are_joined() {
        assert_eq!(
            of(&[("10.0.0.0/24", &["10.0.0.0/26", "10.0.0.128/25"])]),
            ["10.0.0.64-10.0.0.127"]
        );
        assert_eq!(
            of(&[("10.0.0.0/24", &[]), ("10.0.1.0/24", &[])]),
            ["10.0.0.0-10.0.1.255"]
        );
        assert_eq!(of(&[("10.0.0.0/24", &["10.0.0.0/16"])]), [""; 0]);
        assert_eq!(of(&[("0.0.0.0/0", &[])]), ["0.0.0.0-255.255.255.255"]);
        assert_eq!(
            of(&[("::/0", &["8000::/1"]), ("10.0.0.0/32", &["fd00::/8"])]),
            ["10.0.0.0-10.0.0.0", "::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
        assert_eq!(
            of(&[("::/0", &[])]),
            ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
        assert_eq!(
            of(&[("10.0.0.0/24", &["10.0.0.0/24"]), ("10.0.0.9/32", &[])]),
            ["10.0.0.9-10.0.0.9"]
        );
    }

    prop_compose! {
        fn network()(address in 0..=255u8, len in 24..=32u8) -> IpNetwork {
            let address = Ipv4Addr::new(10, 0, 0, address);
            IpNetwork::new(address.into(), len).unwrap()
        }
    }

    proptest! {
        #[test]
        fn an_address_is_in_a_range_if_it_is_in_a_block_and_in_none_of_its_exceptions(
            blocks in prop::collection::vec((network(), prop::collection::vec(network(), 0..4)), 0..5),
        ) {
            let ranges = ranges(blocks.iter().map(|(cidr, except)| (*cidr, except.as_slice())));
            for last in 0..=255u8 {
                let address = IpAddr::from([10, 0, 0, last]);
                let expected = blocks.iter().any(|(cidr, except)| {
                    cidr.contains(address) && !except.iter().any(|hole| hole.contains(address))
                });
                prop_assert_eq!(ranges.iter().filter(|range| range.contains(address)).count(), usize::from(expected));
            }
        }
    }
}
