//! The crate against a real kernel: each test runs as root in a network namespace of its own (and fails without root).

#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::process::Command;

use gantry_nft::{
    ChainKind, CommitError, Conntrack, Element, Family, FibKey, Field, FieldType, FlowFilter, Hook,
    HookPoint, Nft, Rule, Set, SetData, Transaction, Value, Verdict,
};

const TABLE: &str = "gantry-test";

/// Runs a test in a new network namespace.
fn in_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: only the network namespace of this thread is unshared; no file descriptors or memory are affected.
        #[allow(unsafe_code)]
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
            .expect("these tests need root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What a program prints; children inherit the thread's namespace.
fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect("program runs");
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).expect("text")
}

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
        let mut wanted = keys(5000);
        loaded(&mut nft, &wanted);
        let listing = nft.elements(Family::Ipv4, TABLE, "endpoints").unwrap();
        assert!(listing.iter().all(|e| e.value == Value::Data(&ENDPOINT)));
        let mut listed: Vec<_> = listing.iter().map(|e| e.key.to_vec()).collect();
        listed.sort();
        let first = wanted[0];
        let front = Element {
            key: &first[..12],
            value: VERDICT,
        };
        wanted.sort();
        assert_eq!(listed, wanted);
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
        conntrack.delete_flows(&other_port).unwrap();
        assert_eq!(conntrack.flows(false).unwrap().len(), 4);
        conntrack.delete_flows(&filter).unwrap();
        let left = conntrack.flows(false).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].reply_src.to_string(), "10.244.0.6");
        let any_backend = FlowFilter {
            reply_src: None,
            reply_port: None,
            ..filter
        };
        conntrack.delete_flows(&any_backend).unwrap();
        assert_eq!(conntrack.flows(false).unwrap(), []);
    });
}
