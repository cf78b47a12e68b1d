//! The crate against a real kernel: each test runs as root in a network namespace of its own (and fails without root).

#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_nft::{
    ChainKind, CommitError, Element, Family, FibKey, Field, FieldType, Hook, HookPoint, Interface, Labelled,
    Nft, Rule, Set, SetData, Transaction, Value, Verdict,
};

use support::{in_netns, run};

const TABLE: &str = "gantry-test";

fn list() -> String {
    run("nft", &["list", "ruleset"])
}

const FRONT: &[FieldType] = &[FieldType::Address, FieldType::Protocol, FieldType::Port];

fn skeleton(family: Family) -> Transaction {
    let mut tx = Transaction::new(family, TABLE);
    tx.add_table("layout 1");
    tx.add_set(&Set::intervals("pods", &[FieldType::Address]));
    tx.add_set(&Set::map("services", FRONT, SetData::Verdict));
    tx.add_set(&Set::map(
        "endpoints",
        &[
            FieldType::Address,
            FieldType::Protocol,
            FieldType::Port,
            FieldType::Number,
        ],
        SetData::Fields(&[FieldType::Address, FieldType::Port]),
    ));
    let hook = Hook {
        kind: ChainKind::Nat,
        point: HookPoint::Postrouting,
        priority: 100,
    };
    tx.add_chain("post", Some(hook));
    tx.add_chain("lb-2", None);
    tx
}

#[test]
fn rules_read_as_nft_writes_them() {
    in_netns(|| {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut nft = Nft::open().unwrap();
            let mut tx = skeleton(family);
            let key = [Field::Daddr, Field::L4Proto, Field::Dport];
            let r = || Rule::new(family);
            tx.add_rule("post", &r().on(&[Field::Saddr]).in_set("pods").jump("lb-2"));
            tx.add_rule("post", &r().on(&[Field::Saddr]).not_in_set("pods").masquerade());
            tx.add_rule("post", &r().on(&key).vmap("services"));
            tx.add_rule(
                "post",
                &r().local_address(FibKey::Saddr)
                    .verdict(Verdict::Drop)
                    .comment("own"),
            );
            tx.add_rule("post", &r().translated().verdict(Verdict::Return));
            tx.add_rule("post", &r().not_out("cni0").masquerade());
            tx.add_rule("post", &r().l4proto(6).verdict(Verdict::Accept));
            nft.commit(tx).unwrap();
        }
        let text = list();
        for family in ["ip", "ip6"] {
            for line in [
                &format!("{family} saddr @pods jump lb-2"),
                &format!("{family} saddr != @pods masquerade fully-random"),
                &format!("{family} daddr . meta l4proto . th dport vmap @services"),
                "fib saddr type local drop comment \"own\"",
                "ct status dnat return",
                "oifname != \"cni0\" masquerade fully-random",
                "meta l4proto tcp accept",
            ] {
                assert!(text.contains(line), "no `{line}` in {text}");
            }
        }
        assert!(text.contains("comment \"layout 1\""), "{text}");
    });
}

#[test]
fn rules_about_sources_interfaces_and_marks_read_as_nft_writes_them() {
    in_netns(|| {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut tx = skeleton(family);
            let address = FieldType::Address;
            let source = [address, FieldType::Port];
            tx.add_set(&Set::new("fw-20", &source));
            tx.add_set(&Set::learnt(
                "affinity",
                &[address, address, FieldType::Protocol, FieldType::Port],
                SetData::Fields(&[address, FieldType::Port]),
                1 << 20,
            ));
            tx.add_chain("learn-60", None);
            let r = || Rule::new(family);
            let key = [
                Field::Saddr,
                Field::OriginalDaddr,
                Field::L4Proto,
                Field::OriginalDport,
            ];
            let minute = Duration::from_secs(60);
            let backend = [Field::Daddr, Field::Dport];
            tx.add_rule("learn-60", &r().update_map("affinity", &key, &backend, minute));
            tx.add_rule("post", &r().verdict(Verdict::Drop));
            let allowed = r().on(&[Field::SaddrPrefix(20), Field::Dport]).in_set("fw-20");
            tx.insert_rule("post", &allowed.verdict(Verdict::Return));
            tx.add_rule("post", &r().came_in(Interface::Named("cni0")).mark(0x4000, true));
            let elsewhere = r().came_in_elsewhere(Interface::Prefix("veth"));
            tx.add_rule("post", &elsewhere.verdict(Verdict::Accept));
            tx.add_rule("post", &r().marked(0x4000).mark(0x4000, false).masquerade());
            Nft::open().unwrap().commit(tx).unwrap();
        }
        let text = run("nft", &["list", "table", "ip", TABLE]);
        for line in [
            "ip saddr & 255.255.240.0 . th dport @fw-20 return\n\t\tdrop",
            "iifname \"cni0\" meta mark set meta mark | 0x00004000",
            "iifname != \"veth*\" accept",
            "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark & 0xffffbfff masquerade fully-random",
            "update @affinity { ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst \
             timeout 1m : ip daddr . th dport }",
        ] {
            assert!(text.contains(line), "no `{line}` in {text}");
        }
    });
}

#[test]
fn translation_and_rejection_are_accepted_by_the_kernel() {
    in_netns(|| {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut tx = skeleton(family);
            let hook = Hook {
                kind: ChainKind::Nat,
                point: HookPoint::Prerouting,
                priority: -100,
            };
            tx.add_chain("pre", Some(hook));
            tx.add_chain("no-endpoints", None);
            let random = Field::Random {
                modulus: 3,
                offset: 65536,
            };
            let key = [Field::Daddr, Field::L4Proto, Field::Dport, random];
            tx.add_rule("pre", &Rule::new(family).on(&key).dnat_map("endpoints"));
            tx.add_rule("no-endpoints", &Rule::new(family).l4proto(6).reject_tcp_reset());
            tx.add_rule("no-endpoints", &Rule::new(family).reject_port_unreachable());
            tx.add_rule("pre", &Rule::new(family).goto("no-endpoints"));
            Nft::open().unwrap().commit(tx).unwrap();
        }
        let text = list();
        assert!(
            text.contains("numgen random mod 3 offset 65536 map @endpoints"),
            "{text}"
        );
        // nft leaves out what a reset implies, and the kind of rejection that it takes for granted.
        assert_eq!(
            text.matches("\t\treject with tcp reset\n\t\treject\n").count(),
            2,
            "{text}"
        );
    });
}

/// A table whose `endpoints` map has these keys, all with one value, and whose `services` map has the front of the first.
fn loaded(nft: &mut Nft, keys: &[[u8; 16]]) {
    let mut tx = skeleton(Family::Ipv4);
    tx.add_elements(
        "endpoints",
        keys.iter().map(|key| Element {
            key,
            value: Value::Data(&ENDPOINT),
        }),
    );
    tx.add_elements(
        "services",
        [Element {
            key: &keys[0][..12],
            value: VERDICT,
        }],
    );
    nft.commit(tx).unwrap();
}

const ENDPOINT: [u8; 8] = [10, 1, 2, 3, 31, 144, 0, 0];
const VERDICT: Value<'_> = Value::Verdict(Verdict::Goto("lb-2"));

/// Keys of `count` slots, ten for each address.
fn keys(count: u32) -> Vec<[u8; 16]> {
    let key = |i: u32| {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&(0x0a60_0000 + i / 10).to_be_bytes());
        (key[4], key[9]) = (6, 80);
        key[12..].copy_from_slice(&(i % 10).to_ne_bytes());
        key
    };
    (0..count).map(key).collect()
}

#[test]
fn elements_list_back_as_they_were_added() {
    in_netns(|| {
        let mut nft = Nft::open().unwrap();
        let wanted = keys(5000);
        loaded(&mut nft, &wanted);
        let listing = nft.elements(Family::Ipv4, TABLE, "endpoints").unwrap();
        assert!(listing.iter().all(|e| e.value == Value::Data(&ENDPOINT)));
        // A set that has just grown moves to a larger table in the kernel, and a listing meanwhile may have an element twice.
        let listed: BTreeSet<_> = listing.iter().map(|e| e.key.to_vec()).collect();
        assert_eq!(listed, wanted.iter().map(|key| key.to_vec()).collect());
        let front = Element {
            key: &wanted[0][..12],
            value: VERDICT,
        };
        let services = nft.elements(Family::Ipv4, TABLE, "services").unwrap();
        assert_eq!(services.iter().collect::<Vec<_>>(), [front]);
    });
}

#[test]
fn one_element_is_found_by_its_key() {
    in_netns(|| {
        let mut nft = Nft::open().unwrap();
        let keys = keys(1);
        let front = &keys[0][..12];
        loaded(&mut nft, &keys);
        assert!(nft.has_element(Family::Ipv4, TABLE, "services", front).unwrap());
        let mut tx = Transaction::new(Family::Ipv4, TABLE);
        tx.delete_elements(
            "services",
            [Element {
                key: front,
                value: Value::Member,
            }],
        );
        nft.commit(tx).unwrap();
        assert!(!nft.has_element(Family::Ipv4, TABLE, "services", front).unwrap());
        assert!(
            !nft.has_element(Family::Ipv4, "nothing", "services", front)
                .unwrap()
        );
    });
}

#[test]
fn interval_sets_hold_prefixes() {
    in_netns(|| {
        let mut nft = Nft::open().unwrap();
        let mut tx = skeleton(Family::Ipv4);
        tx.add_elements(
            "pods",
            [
                Element {
                    key: &[10, 244, 0, 0],
                    value: Value::Member,
                },
                Element {
                    key: &[10, 245, 0, 0],
                    value: Value::IntervalEnd,
                },
            ],
        );
        nft.commit(tx).unwrap();
        assert!(list().contains("elements = { 10.244.0.0/16 }"), "{}", list());
    });
}

#[test]
fn a_refused_transaction_changes_nothing_and_says_which_message() {
    in_netns(|| {
        let mut nft = Nft::open().unwrap();
        nft.commit(skeleton(Family::Ipv4)).unwrap();
        let before = nft.generation().unwrap();
        let mut tx = Transaction::new(Family::Ipv4, TABLE);
        tx.add_chain("lb-3", None);
        tx.delete_elements(
            "services",
            [Element {
                key: &[1; 12],
                value: Value::Member,
            }],
        );
        let error = nft.commit(tx).unwrap_err();
        assert!(matches!(error, CommitError::Refused { .. }), "{error:?}");
        assert_eq!(error.errno(), Some(2));
        assert!(
            error
                .to_string()
                .contains("delete 1 elements of set services of table gantry-test"),
            "{error}"
        );
        assert_eq!(nft.chains(Family::Ipv4, TABLE).unwrap(), ["post", "lb-2"]);
        assert_eq!(nft.generation().unwrap(), before);
        nft.commit(Transaction::new(Family::Ipv4, TABLE)).unwrap();
        let mut tx = Transaction::new(Family::Ipv4, TABLE);
        tx.add_chain("lb-3", None);
        nft.commit(tx).unwrap();
        assert_ne!(nft.generation().unwrap(), before);
    });
}

#[test]
fn tables_chains_and_sets_are_found_by_name() {
    in_netns(|| {
        let mut nft = Nft::open().unwrap();
        assert_eq!(nft.table(Family::Ipv4, TABLE).unwrap(), None);
        nft.commit(skeleton(Family::Ipv4)).unwrap();
        nft.commit(skeleton(Family::Ipv4))
            .expect("making it again changes nothing");
        assert_eq!(
            nft.table(Family::Ipv4, TABLE).unwrap().unwrap().comment,
            "layout 1"
        );
        assert_eq!(nft.table(Family::Ipv6, TABLE).unwrap(), None);
        let mut sets = nft.sets(Family::Ipv4, TABLE).unwrap();
        sets.sort();
        assert_eq!(sets, ["endpoints", "pods", "services"]);
        let mut tx = Transaction::new(Family::Ipv4, TABLE);
        tx.delete_table();
        nft.commit(tx).unwrap();
        assert_eq!(nft.table(Family::Ipv4, TABLE).unwrap(), None);
    });
}

#[test]
fn ranges_and_comments_list_back_and_match() {
    in_netns(|| {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut nft = Nft::open().unwrap();
            let mut tx = skeleton(family);
            let pair = [FieldType::Address, FieldType::Address];
            tx.add_set(&Set::ranges("near", &pair));
            let both = [Field::Saddr, Field::Daddr];
            tx.add_rule("post", &Rule::new(family).on(&both).in_set("near").masquerade());
            let random = Field::Random {
                modulus: 1,
                offset: 0,
            };
            let key = [Field::Daddr, Field::L4Proto, Field::Dport, random];
            tx.add_rule("post", &Rule::new(family).on(&key).in_map("endpoints").counter());
            let (first, last) = (vec![8; 8], vec![9; 8]);
            let wide = if family == Family::Ipv4 { 1 } else { 4 };
            let (first, last) = (first.repeat(wide), last.repeat(wide));
            let item = Labelled {
                element: Element {
                    key: &first,
                    value: Value::Member,
                },
                last: Some(&last),
                comment: "a label",
            };
            tx.create_elements("near", [item]);
            nft.commit(tx).unwrap();
            let listing = nft.elements(family, TABLE, "near").unwrap();
            assert_eq!(listing.labelled().collect::<Vec<_>>(), [item]);
            let mut tx = Transaction::new(family, TABLE);
            tx.delete_elements("near", [item]);
            tx.create_elements("near", [item]);
            nft.commit(tx).expect("replaced in one transaction");
        }
        let text = list();
        assert!(
            text.contains("8.8.8.8-9.9.9.9 . 8.8.8.8-9.9.9.9 comment \"a label\""),
            "{text}"
        );
    });
}

#[test]
fn a_transaction_of_an_older_generation_is_refused() {
    in_netns(|| {
        let mut nft = Nft::open().unwrap();
        let made_for = nft.generation().unwrap();
        let at_generation = || {
            let mut tx = Transaction::at_generation(Family::Ipv4, TABLE, made_for);
            tx.add_table("");
            tx
        };
        nft.commit(at_generation()).unwrap();
        let error = nft.commit(at_generation()).unwrap_err();
        assert!(error.is_outdated(), "{error:?}");
    });
}
