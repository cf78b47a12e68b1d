//! `loadBalancerSourceRanges`: behaviour 4, and hints: behaviour 9.

use std::net::IpAddr;
use std::num::NonZeroU16;

use gantry_nft::Family;
use gantry_proxy::table::Layout;
use gantry_proxy_core::{Event, NodeFacts, NodeHint, Restriction, Service};

use crate::host::Outcome;
use crate::objects::*;
use crate::rig::{LAYOUT, Rig, facts};

/// Addresses of one family.
struct Net {
    family: Family,
    cluster_ip: &'static str,
    endpoint: &'static str,
    lb: &'static str,
    external: &'static str,
    node: &'static str,
    /// Ranges that contain the outside client and the node, the pod client, and nobody of them.
    outside: &'static str,
    pod: &'static str,
    nobody: &'static str,
}

const V4: Net = Net {
    family: Family::Ipv4,
    cluster_ip: "10.96.0.1",
    endpoint: A,
    lb: "203.0.113.7",
    external: "203.0.113.8",
    node: "192.0.2.1",
    outside: "192.0.0.0/16",
    pod: "10.244.1.2/32",
    nobody: "198.51.100.128/25",
};

const V6: Net = Net {
    family: Family::Ipv6,
    cluster_ip: "fd00:96::1",
    endpoint: "fd00:244::10",
    lb: "fd00:203::7",
    external: "fd00:203::8",
    node: "fd00:192::1",
    outside: "fd00:192::/45",
    pod: "fd00:244::2/128",
    nobody: "fd00:198::/64",
};

impl Net {
    fn at(&self, address: &str, port: u16) -> String {
        std::net::SocketAddr::new(address.parse().unwrap(), port).to_string()
    }

    fn service(&self, ranges: &[&str]) -> Event {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let restriction = Restriction {
            addresses: [ip(self.lb)].into(),
            ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        };
        service(Service {
            cluster_ip: Some(ip(self.cluster_ip)),
            external_ips: [ip(self.lb), ip(self.external)].into(),
            restriction: (!ranges.is_empty()).then(|| restriction.into()),
            ..web()
        })
    }
}

#[test]
fn source_ranges_guard_the_load_balancers_address_and_nothing_else() {
    for net in [V4, V6] {
        let mut rig = Rig::laid_out(Layout {
            family: net.family,
            ..LAYOUT
        });
        let lb = net.at(net.lb, 80);
        let passes = |rig: &Rig| {
            let clients = [&rig.outside, &rig.node, &rig.client];
            clients.map(|host| match (host.tcp(&lb), host.udp(&lb)) {
                (Outcome::Answer(..), Outcome::Answer(..)) => true,
                (Outcome::Nothing, Outcome::Nothing | Outcome::Refused) => false,
                other => panic!("{other:?}"),
            })
        };
        rig.apply([net.service(&[]), endpoints(&[net.endpoint])]);
        for host in [&rig.outside, &rig.node, &rig.client] {
            host.reaches(&lb);
        }
        assert_eq!(passes(&rig), [true, true, true], "everybody");
        for (ranges, wanted) in [
            (&[net.outside][..], [true, true, false]),
            (&[net.nobody, net.pod], [false, false, true]),
            (&[net.nobody], [false, false, false]),
        ] {
            rig.apply([net.service(ranges)]);
            assert_eq!(passes(&rig), wanted, "{ranges:?}");
        }
        for open in [
            net.at(net.external, 80),
            net.at(net.node, 30080),
            net.at(net.cluster_ip, 80),
        ] {
            assert_eq!(rig.outside.tcp(&open).backend(), "a", "{open} is open");
        }
        let all = [net.service(&[net.nobody]), endpoints(&[net.endpoint])];
        rig.restart_in_peace(all);
        rig.apply([endpoints(&[])]);
        assert_eq!(
            rig.outside.tcp(&lb),
            Outcome::Nothing,
            "dropped before it could be refused"
        );
        rig.apply([net.service(&[])]);
        // The reference says so by ICMP, which TCP clients pass over in IPv6.
        let told = !rig.is_reference() || net.family == Family::Ipv4;
        let wanted = if told { Outcome::Refused } else { Outcome::Nothing };
        assert_eq!(rig.outside.tcp(&lb), wanted);
    }
}

#[test]
fn a_node_with_the_load_balancers_address_reaches_it_if_its_own_is_allowed() {
    let net = V4;
    let mut rig = Rig::new();
    rig.node.ip(&["addr", "add", net.lb, "dev", "lo"]);
    let lb = net.at(net.lb, 80);
    rig.apply([net.service(&["192.0.2.1/32"]), endpoints(&[net.endpoint])]);
    assert_eq!(
        rig.node.tcp(&lb).backend(),
        "a",
        "its packets come from the address itself"
    );
    assert_eq!(rig.outside.tcp(&lb), Outcome::Nothing);
    rig.apply([net.service(&["192.0.2.2/32"])]);
    assert_eq!(rig.node.tcp(&lb), Outcome::Nothing);
}

#[test]
fn hints_for_the_zone_of_the_node_are_followed_when_the_label_changes() {
    let mut rig = Rig::new();
    let hinted = match endpoints(&[A, B]) {
        Event::Slice {
            name,
            service,
            mut slice,
        } => {
            for (zone, endpoint) in (1..).zip(&mut slice.endpoints) {
                endpoint.zones = NonZeroU16::new(zone);
                endpoint.node_hint = NodeHint::Nobody;
            }
            slice.zone_sets = ["a", "b"].map(|zone| [zone.into()].into()).into();
            Event::Slice { name, service, slice }
        }
        other => other,
    };
    rig.apply([service(web()), hinted]);
    for zone in ["a", "b", "a"] {
        rig.set_facts(NodeFacts {
            zone: Some(zone.into()),
            ..facts(LAYOUT)
        });
        for _ in 0..10 {
            assert_eq!(rig.client.tcp("10.96.0.1:80").backend(), zone);
            assert_eq!(rig.outside.tcp("192.0.2.1:30080").backend(), zone);
        }
    }
}
