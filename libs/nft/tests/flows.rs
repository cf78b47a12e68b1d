//! Tracked connections of a real kernel: as root, in a network namespace.

#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod support;

use gantry_nft::{Conntrack, Flow, FlowFilter};
use support::{in_netns, run};

/// Adds a UDP flow to 10.96.0.10:53 that really goes to `backend`.
fn add_flow(source: &str, backend: &str) {
    run(
        "conntrack",
        &[
            "-I",
            "-p",
            "udp",
            "-s",
            source,
            "-d",
            "10.96.0.10",
            "--sport",
            "4000",
            "--dport",
            "53",
            "--reply-src",
            backend,
            "--reply-dst",
            source,
            "--reply-port-src",
            "5353",
            "--reply-port-dst",
            "4000",
            "-t",
            "60",
        ],
    );
}

#[test]
fn only_matching_flows_are_deleted() {
    in_netns(|| {
        for client in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            add_flow(client, "10.244.0.5");
        }
        add_flow("10.0.0.4", "10.244.0.6");
        let mut conntrack = Conntrack::open().unwrap();
        let filter = FlowFilter {
            protocol: 17,
            original_dst: Some("10.96.0.10".parse().unwrap()),
            original_port: 53,
            reply_src: Some("10.244.0.5".parse().unwrap()),
            reply_port: Some(5353),
        };
        let other_port = FlowFilter {
            original_port: 54,
            ..filter
        };
        assert_eq!(conntrack.delete_flows(&other_port).unwrap(), 0);
        assert_eq!(conntrack.flows(false).unwrap().len(), 4);
        assert_eq!(conntrack.delete_flows(&filter).unwrap(), 3);
        let left = conntrack.flows(false).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].reply_src.to_string(), "10.244.0.6");
        let any_backend = FlowFilter {
            reply_src: None,
            reply_port: None,
            ..filter
        };
        assert_eq!(conntrack.delete_flows(&any_backend).unwrap(), 1);
        assert_eq!(conntrack.flows(false).unwrap(), []);
        add_flow("10.0.0.1", "10.244.0.5");
        add_flow("10.0.0.4", "10.244.0.6");
        let chosen = |flow: &Flow| flow.reply_src.to_string() == "10.244.0.6";
        assert_eq!(conntrack.delete_chosen(false, chosen).unwrap(), 1);
        assert_eq!(conntrack.flows(false).unwrap().len(), 1);
    });
}
