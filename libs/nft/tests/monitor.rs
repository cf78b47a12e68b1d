//! Changes of other programs are told from our own: as root, in a network namespace of its own (and fails without root).

#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod support;

use gantry_nft::{Element, Family, FieldType, Monitor, Nft, Seen, Set, Transaction, Value};
use support::{in_netns, run};

const TABLE: &str = "gantry-test";

fn nft(arguments: &str) {
    run("nft", &arguments.split(' ').collect::<Vec<_>>());
}

fn skeleton(family: Family, table: &str) -> Transaction {
    let mut tx = Transaction::new(family, table);
    tx.add_table("");
    tx.add_set(&Set::new("s", &[FieldType::Address]));
    tx.add_chain("c", None);
    tx
}

#[test]
fn changes_of_others_to_a_table_are_noticed() {
    in_netns(|| {
        let mut own = Nft::open().unwrap();
        let port = own.port();
        let mut monitor = Monitor::open().unwrap();
        monitor.listen().unwrap();
        let mut look = || monitor.look(Family::Ipv4, TABLE, port).unwrap();
        own.commit(skeleton(Family::Ipv4, TABLE)).unwrap();
        own.commit(skeleton(Family::Ipv6, TABLE)).unwrap();
        assert_eq!(look(), Seen::Nothing, "our own");
        nft("add table ip other");
        nft("delete table ip6 gantry-test");
        assert_eq!(look(), Seen::Nothing, "other tables");
        let change = Seen::Change {
            program: "nft".to_owned(),
        };
        for command in [
            "add element ip gantry-test s { 10.1.0.1 }",
            "add rule ip gantry-test c drop",
            "flush chain ip gantry-test c",
            "flush ruleset",
        ] {
            nft(command);
            assert_eq!(look(), change, "{command}");
        }
        assert_eq!(look(), Seen::Nothing, "once");
        let mut bulk = skeleton(Family::Ipv4, "bulk");
        let keys: Vec<[u8; 4]> = (0..100_000_u32).map(u32::to_be_bytes).collect();
        let member = |key| Element {
            key,
            value: Value::Member,
        };
        bulk.add_elements("s", keys.iter().map(|key| member(&key[..])));
        Nft::open().unwrap().commit(bulk).unwrap();
        assert_eq!(look(), Seen::Lost, "more than the queue holds");
        own.commit(skeleton(Family::Ipv4, TABLE)).unwrap();
        monitor.pause().unwrap();
        nft("flush ruleset");
        monitor.listen().unwrap();
        let seen = monitor.look(Family::Ipv4, TABLE, port).unwrap();
        assert_eq!(seen, Seen::Nothing, "not while it pauses");
    });
}
