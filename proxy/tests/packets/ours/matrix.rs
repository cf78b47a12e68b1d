//! Random policies, and real packets of every pod to every other one: who arrives is who an independent reading of the policies lets
//! through.
//!
//! Each round changes some policies and labels, so that tables are changed and not only made, and sends the first packet of a
//! connection over each protocol from everybody to everybody, in both address families. `GANTRY_MATRIX=1000` makes as many rounds,
//! `GANTRY_MATRIX_SEED` other ones.

mod cluster;
mod wire;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use gantry_policy_core::Protocol;
use gantry_proxy::policy::Enforcer;
use gantry_proxy_core::Families;

use crate::host::{Host, connect, way};
use crate::rig::{outside_of, set_sysctls};
use cluster::{Cluster, Dice, PODS};
use wire::Wire;

const ROUNDS: u16 = 60;
/// Ports of the packets that are judged.
const PORTS: [u16; 4] = [53, 80, 81, 443];
/// A port that only the node sends to: it reaches everybody whatever policies say, behind everything sent before.
const LAST: u16 = 9;
const DEADLINE: Duration = Duration::from_secs(20);

/// A host, its addresses, and its sockets.
struct End {
    host: Host,
    addresses: [IpAddr; 2],
    wire: Wire,
}

impl End {
    fn new(host: Host, net: [&str; 2], last: &str) -> Self {
        let addresses = net.map(|net| format!("{net}{last}").parse().unwrap());
        let wire = host.run(|| Wire::open(addresses));
        Self {
            host,
            addresses,
            wire,
        }
    }
}

/// A packet as its sender and its receiver know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Judged {
    from: IpAddr,
    to: IpAddr,
    protocol: Protocol,
    port: u16,
}

struct Matrix {
    node: End,
    /// The pods in the order of [`PODS`], and one that is outside.
    ends: Vec<End>,
}

impl Matrix {
    fn new() -> Self {
        let node = Host::new("node");
        node.ip(&["link", "add", "cni0", "type", "bridge", "mcast_snooping", "0"]);
        for address in ["10.244.1.1/24", "fd00:244::1/64"] {
            node.ip(&["addr", "add", address, "dev", "cni0"]);
        }
        node.ip(&["link", "set", "cni0", "up"]);
        let inside = ["10.244.1.", "fd00:244::"];
        let pod = |last: &&str| {
            let host = Host::new(&format!("p{last}"));
            let port = format!("to-p{last}");
            let ways = [way(inside[0], last, "24"), way(inside[1], last, "64")];
            connect(&node, &host, &port, &ways);
            node.ip(&["link", "set", &port, "master", "cni0"]);
            End::new(host, inside, last)
        };
        let mut ends: Vec<End> = PODS.iter().map(pod).collect();
        let outside = outside_of(&node);
        set_sysctls(&node);
        ends.push(End::new(outside, ["192.0.2.", "fd00:192::"], "100"));
        Self {
            node: End::new(node, inside, "1"),
            ends,
        }
    }

    /// Sends from everybody to everybody, and says what arrived.
    fn send_all(&self, source_port: u16, expected: &BTreeSet<Judged>) -> BTreeSet<Judged> {
        for from in &self.ends {
            for to in self.ends.iter().filter(|to| !std::ptr::eq(*to, from)) {
                for (from_ip, to_ip) in from.addresses.iter().zip(&to.addresses) {
                    for (protocol, port) in kinds() {
                        from.wire.send(*from_ip, *to_ip, protocol, [source_port, port]);
                    }
                }
            }
        }
        let mut arrived = BTreeSet::new();
        let deadline = Instant::now() + DEADLINE;
        while !expected.is_subset(&arrived) {
            self.receive(source_port, &mut arrived);
            let missing: Vec<_> = expected.difference(&arrived).collect();
            assert!(Instant::now() < deadline, "these do not arrive: {missing:#?}");
        }
        // Who is behind everybody else has arrived: whatever did not is lost.
        for end in &self.ends {
            for (from, to) in self.node_to(end) {
                self.node.wire.send(from, to, Protocol::Udp, [source_port, LAST]);
            }
        }
        let is_last = |one: &&Judged| one.port == LAST;
        while arrived.iter().filter(is_last).count() < self.ends.len() * 2 {
            self.receive(source_port, &mut arrived);
            assert!(Instant::now() < deadline, "the node reaches everybody");
        }
        arrived.retain(|one| one.port != LAST);
        arrived
    }

    /// The node's addresses and those of an end.
    fn node_to<'a>(&'a self, end: &'a End) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let own = if end.addresses == self.ends[PODS.len()].addresses {
            ["192.0.2.1".parse().unwrap(), "fd00:192::1".parse().unwrap()]
        } else {
            self.node.addresses
        };
        own.into_iter().zip(end.addresses)
    }

    fn receive(&self, source_port: u16, arrived: &mut BTreeSet<Judged>) {
        for end in &self.ends {
            let packets = end.wire.receive(source_port);
            arrived.extend(packets.into_iter().map(|packet| Judged {
                from: packet.from,
                to: end.addresses[usize::from(packet.from.is_ipv6())],
                protocol: packet.protocol,
                port: packet.port,
            }));
        }
    }

    /// What may pass.
    fn expected(&self, cluster: &Cluster) -> BTreeSet<Judged> {
        let addresses = || self.ends.iter().flat_map(|end| end.addresses);
        let pairs = addresses().flat_map(|from| addresses().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to && from.is_ipv4() == to.is_ipv4());
        let all = pairs.flat_map(|(from, to)| {
            kinds().map(move |(protocol, port)| Judged {
                from,
                to,
                protocol,
                port,
            })
        });
        all.filter(|one| cluster.allows(one.from, one.to, one.protocol, one.port))
            .collect()
    }
}

fn kinds() -> impl Iterator<Item = (Protocol, u16)> {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    protocols
        .into_iter()
        .flat_map(|protocol| PORTS.map(|port| (protocol, port)))
}

fn number_from(variable: &str, default: u16) -> u16 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn every_packet_fares_as_an_independent_reading_says() {
    let matrix = Matrix::new();
    let mut enforcer = matrix.node.host.run(|| Enforcer::open(Families::Both).unwrap());
    let seed = number_from("GANTRY_MATRIX_SEED", 6);
    let mut dice = Dice::new(seed.into());
    let mut cluster = Cluster::new();
    cluster
        .events()
        .into_iter()
        .for_each(|event| enforcer.apply(event));
    let (mut passed, mut dropped) = (0, 0);
    let rounds = number_from("GANTRY_MATRIX", ROUNDS);
    for round in 0..rounds {
        // The first round is without policies: the hosts get to know each other.
        if round > 0 {
            let events = cluster.change(&mut dice);
            events.into_iter().for_each(|event| enforcer.apply(event));
        }
        enforcer.sync().unwrap();
        let expected = matrix.expected(&cluster);
        let arrived = matrix.send_all(20_000 + round, &expected);
        let wrong: Vec<_> = arrived.difference(&expected).collect();
        assert!(
            wrong.is_empty(),
            "seed {seed}, round {round}: {wrong:#?} arrive in {cluster:#?}"
        );
        passed += expected.len();
        dropped += matrix.ends.len() * (matrix.ends.len() - 1) * 2 * kinds().count() - expected.len();
    }
    eprintln!("{rounds} rounds: {passed} packets passed, {dropped} were dropped");
    assert!(rounds < 10 || passed > 1000 && dropped > 1000, "both happen");
}
