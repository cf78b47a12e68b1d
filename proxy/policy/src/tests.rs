//! Random clusters and histories: every packet has to fare as an independent, simple reading of the policies says, and
//! every transaction has to be one that a strict kernel takes.

mod kernel;
mod oracle;
mod scenario;

use std::net::IpAddr;

use proptest::prelude::*;

use crate::{Event, Key, Packet, Peer, Pod, Policy, PortMatch, Protocol, Requirement, Rule, Selector, State};
use kernel::Kernel;
use scenario::{Step, history, packets};

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_fares_as_the_policies_say(history in history()) {
        let mut state = State::default();
        let mut cluster = oracle::Cluster::default();
        let mut kernel = Kernel::default();
        for step in history {
            match step {
                Step::Event(event) => {
                    cluster.apply(event.clone());
                    state.apply(event);
                }
                Step::Write => {
                    let before = kernel.clone();
                    let changes = state.changes();
                    kernel.apply(&changes).map_err(TestCaseError::fail)?;
                    prop_assert_eq!(&kernel.table, state.table());
                    let looks_at_flows = state.are_written(changes);
                    prop_assert_eq!(&kernel.table, state.written());
                    prop_assert!(state.changes().is_empty());
                    for packet in packets() {
                        let allowed = kernel.table.allows(&packet);
                        prop_assert_eq!(allowed, cluster.allows(&packet), "{:?} in {:#?}", packet, cluster);
                        if before.table.allows(&packet) && !allowed && cluster.both_live(&packet) {
                            prop_assert!(looks_at_flows, "{:?} is denied now", packet);
                        }
                    }
                }
            }
        }
    }
}

fn web(local: bool, address: &str) -> Pod {
    Pod {
        labels: [("app".into(), "web".into())].into(),
        addresses: [address.parse().unwrap()].into(),
        local,
        ..Pod::default()
    }
}

fn tcp(from: &str, to: &str, port: u16) -> Packet {
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    Packet {
        from: address(from),
        to: address(to),
        port: Some((Protocol::Tcp, port)),
    }
}

/// Everything is written: true if connections have to be looked at.
fn write(state: &mut State) -> bool {
    let changes = state.changes();
    state.are_written(changes)
}

fn ingress(rules: Vec<Rule>) -> Policy {
    Policy {
        ingress: Some(rules),
        ..Policy::default()
    }
}

#[test]
fn what_nothing_uses_any_more_goes() {
    let mut state = State::default();
    state.apply(Event::Pod(Key::new("a", "web"), Some(web(true, "10.0.0.1"))));
    let rule = Rule {
        peers: vec![
            Peer::Pods {
                namespaces: Some(Selector::default()),
                pods: Selector::default(),
            },
            Peer::Block {
                cidr: "192.0.2.0/24".parse().unwrap(),
                except: vec![],
            },
        ],
        ports: vec![PortMatch::Named(Protocol::Tcp, "http".into())],
    };
    state.apply(Event::Policy(Key::new("a", "p"), Some(ingress(vec![rule]))));
    assert_eq!(state.table().chains.len(), 1);
    let mut kernel = Kernel::default();
    kernel.apply(&state.changes()).unwrap();
    write(&mut state);
    state.apply(Event::Policy(Key::new("a", "p"), None));
    kernel.apply(&state.changes()).unwrap();
    assert!(kernel.table.chains.is_empty());
    assert!(
        kernel
            .table
            .sets
            .values()
            .all(std::collections::BTreeSet::is_empty),
        "{kernel:?}"
    );
    assert!(!state.restricts());
}

#[test]
fn pods_with_the_same_rules_share_a_chain() {
    let mut state = State::default();
    for number in 1..=100 {
        let key = Key::new("a", &format!("web-{number}"));
        state.apply(Event::Pod(key, Some(web(true, &format!("10.0.0.{number}")))));
    }
    for name in ["one", "two"] {
        state.apply(Event::Policy(Key::new("a", name), Some(ingress(vec![]))));
    }
    assert_eq!(state.table().chains.len(), 1);
    assert!(!state.table().allows(&tcp("10.0.0.2", "10.0.0.1", 80)));
    assert!(
        state.table().allows(&tcp("10.0.0.1", "10.0.0.1", 80)),
        "a pod reaches itself"
    );
    assert!(
        state.table().allows(&tcp("10.0.0.1", "192.0.2.1", 80)),
        "egress is not restricted"
    );
}

#[test]
fn a_pod_that_has_taken_over_an_address_counts() {
    let mut state = State::default();
    state.apply(Event::Policy(Key::new("a", "deny"), Some(ingress(vec![]))));
    state.apply(Event::Pod(Key::new("a", "old"), Some(web(true, "10.0.0.1"))));
    state.apply(Event::Pod(Key::new("b", "new"), Some(web(true, "10.0.0.1"))));
    assert!(state.table().allows(&tcp("10.0.0.2", "10.0.0.1", 80)));
    state.apply(Event::Pod(Key::new("a", "old"), None));
    assert!(state.table().allows(&tcp("10.0.0.2", "10.0.0.1", 80)));
    state.apply(Event::Pod(Key::new("b", "new"), None));
    state.apply(Event::Pod(Key::new("a", "newer"), Some(web(true, "10.0.0.1"))));
    assert!(!state.table().allows(&tcp("10.0.0.2", "10.0.0.1", 80)));
}

#[test]
fn connections_of_an_addresses_former_pod_are_looked_at() {
    let mut state = State::default();
    let friends = Peer::Pods {
        namespaces: None,
        pods: [Requirement::In("app".into(), ["web".into()].into())]
            .into_iter()
            .collect(),
    };
    let rule = Rule {
        peers: vec![friends],
        ports: vec![],
    };
    state.apply(Event::Policy(Key::new("a", "p"), Some(ingress(vec![rule]))));
    state.apply(Event::Pod(Key::new("a", "server"), Some(web(true, "10.0.0.1"))));
    state.apply(Event::Pod(Key::new("a", "friend"), Some(web(false, "10.0.0.2"))));
    assert!(write(&mut state));
    assert!(!write(&mut state), "nothing new");
    state.apply(Event::Pod(Key::new("a", "friend"), None));
    assert!(!write(&mut state), "who has gone has no connections");
    state.apply(Event::Pod(Key::new("a", "friend"), Some(web(false, "10.0.0.2"))));
    write(&mut state);
    state.apply(Event::Pod(Key::new("a", "friend"), None));
    state.apply(Event::Pod(
        Key::new("b", "stranger"),
        Some(web(false, "10.0.0.2")),
    ));
    assert!(write(&mut state), "the new pod has the old one's connections");
}
