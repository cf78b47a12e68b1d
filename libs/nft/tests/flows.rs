//! Tracked connections of a real kernel: as root, in a network namespace.

#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod support;

use gantry_nft::{Conntrack, Flow, FlowFilter};
use support::{in_netns, run};

/// Addresses of a family.
struct Addresses {
    ipv6: bool,
    /// What is before the last number of clients.
    clients: &'static str,
    service: &'static str,
    backends: [&'static str; 2],
}

const FAMILIES: [Addresses; 2] = [
    Addresses {
        ipv6: false,
        clients: "10.0.0.",
        service: "10.96.0.10",
        backends: ["10.244.0.5", "10.244.0.6"],
    },
    Addresses {
        ipv6: true,
        clients: "fd00::",
        service: "fd00:96::10",
        backends: ["fd00:244::5", "fd00:244::6"],
    },
];

impl Addresses {
    /// Adds a UDP flow of a client to the service's port 53 that really goes to the backend.
    fn add_flow(&self, client: u8, backend: &str) {
        let source = format!("{}{client}", self.clients);
        let service = self.service;
        let line = format!(
            "-I -p udp -s {source} -d {service} --sport 4000 --dport 53 --reply-src {backend} \
             --reply-dst {source} --reply-port-src 5353 --reply-port-dst 4000 -t 60"
        );
        run("conntrack", &line.split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn only_matching_flows_are_deleted() {
    for addresses in FAMILIES {
        in_netns(move || only_matching(&addresses));
    }
}

fn only_matching(addresses: &Addresses) {
    let [backend, other] = addresses.backends;
    let ipv6 = addresses.ipv6;
    for client in 1..=3 {
        addresses.add_flow(client, backend);
    }
    addresses.add_flow(4, other);
    let mut conntrack = Conntrack::open().unwrap();
    let filter = FlowFilter {
        protocol: 17,
        original_dst: Some(addresses.service.parse().unwrap()),
        original_port: 53,
        reply_src: Some(backend.parse().unwrap()),
        reply_port: Some(5353),
    };
    let other_port = FlowFilter {
        original_port: 54,
        ..filter
    };
    assert_eq!(conntrack.delete_flows(&other_port).unwrap(), 0);
    assert_eq!(conntrack.flows(ipv6).unwrap().len(), 4);
    assert_eq!(conntrack.delete_flows(&filter).unwrap(), 3);
    let left = conntrack.flows(ipv6).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].reply_src.to_string(), other);
    let any_backend = FlowFilter {
        reply_src: None,
        reply_port: None,
        ..filter
    };
    assert_eq!(conntrack.delete_flows(&any_backend).unwrap(), 1);
    assert_eq!(conntrack.flows(ipv6).unwrap(), []);
    addresses.add_flow(1, backend);
    addresses.add_flow(4, other);
    let chosen = |flow: &Flow| flow.reply_src.to_string() == other;
    assert_eq!(conntrack.delete_chosen(ipv6, chosen).unwrap(), 1);
    assert_eq!(conntrack.flows(ipv6).unwrap().len(), 1);
    assert_eq!(conntrack.delete_chosen_of(ipv6, 6, |_| true).unwrap(), 0);
    assert_eq!(conntrack.delete_chosen_of(ipv6, 17, |_| true).unwrap(), 1);
}
