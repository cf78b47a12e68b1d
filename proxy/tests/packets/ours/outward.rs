//! Pods on their way out: to others with the node's address, to pods of other nodes with their own.

use std::collections::BTreeMap;

use gantry_proxy::outward::{TABLE, Tables, remove};
use gantry_proxy_core::{Families, Node, Outward};

use crate::rig::Rig;

const OUTSIDE: [&str; 2] = ["192.0.2.100:8080", "[fd00:192::100]:8080"];
const PODS: [&str; 2] = ["10.244.1.2", "fd00:244::2"];
const NODE: [&str; 2] = ["192.0.2.1", "fd00:192::1"];

/// What a node with the rig's pods has to do among `others`.
fn outward(others: &[&[&str]]) -> Outward {
    let node = |ranges: &[&str]| Node {
        pod_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..Node::default()
    };
    let mut nodes: BTreeMap<Box<str>, Node> =
        [("me".into(), node(&["10.244.1.0/24", "fd00:244::/64"]))].into();
    for (number, ranges) in others.iter().enumerate() {
        nodes.insert(format!("other-{number}").into(), node(ranges));
    }
    Outward::new(&nodes, "me", &[])
}

/// Whom the outside host sees when the client pod calls.
fn seen(rig: &Rig) -> [String; 2] {
    OUTSIDE.map(|to| rig.client.tcp(to).seen().to_owned())
}

fn rig() -> (Rig, Tables) {
    let rig = Rig::new();
    rig.outside.serve("outside", 8080);
    OUTSIDE.iter().for_each(|to| rig.client.reaches(to));
    let tables = rig.node.run(|| Tables::open(Families::Both).unwrap());
    (rig, tables)
}

#[test]
fn pods_leave_with_the_nodes_address_and_meet_other_pods_with_their_own() {
    let (rig, mut tables) = rig();
    assert_eq!(seen(&rig), PODS, "without a table");
    tables.set(&outward(&[])).unwrap();
    assert_eq!(seen(&rig), NODE);
    // The outside host's addresses are another node's pods now, beside ranges that touch this node's own.
    let touching: &[&str] = &["10.244.0.0/24", "10.244.2.0/24", "fd00:244:0:1::/64"];
    let pods: &[&str] = &["192.0.2.0/24", "fd00:192::/64"];
    tables.set(&outward(&[touching, pods])).unwrap();
    assert_eq!(seen(&rig), PODS);
    tables.set(&outward(&[touching])).unwrap();
    assert_eq!(seen(&rig), NODE);
    tables.set(&outward(&[])).unwrap();
    let table = rig.on_node("nft", &["list", "table", "ip", TABLE]);
    assert!(
        table.contains("10.244.1.0/24") && !table.contains("10.244.2.0"),
        "{table}"
    );
    // Another program of ours starts and knows nothing of what is there.
    let mut tables = rig.node.run(|| Tables::open(Families::Both).unwrap());
    tables.set(&outward(&[pods])).unwrap();
    assert_eq!(seen(&rig), PODS);
}

#[test]
fn a_table_that_is_gone_is_made_again_and_cleaning_removes_it() {
    let (rig, mut tables) = rig();
    let wanted = outward(&[]);
    tables.set(&wanted).unwrap();
    rig.on_node("nft", &["delete", "table", "ip", TABLE]);
    tables.check().unwrap();
    tables.set(&wanted).unwrap();
    assert_eq!(seen(&rig), NODE);
    tables.check().unwrap();
    rig.node.run(|| remove(|name| name == TABLE).unwrap());
    assert!(!rig.on_node("nft", &["list", "tables"]).contains(TABLE));
    assert_eq!(seen(&rig), PODS);
}
