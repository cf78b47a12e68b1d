//! Random clusters and histories: every packet has to fare as an independent, simple reading of the policies says, and
//! every transaction has to be one that a strict kernel takes.

mod kernel;
mod oracle;
mod scenario;

use std::net::IpAddr;

use proptest::prelude::*;

use crate::{
    Attachment, Event, Key, Packet, Peer, Pod, Policy, PortMatch, Protocol, Requirement, Rule, Selector,
    State,
};
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
                Step::Attach(interface, attachment) => {
                    cluster.attach(interface, attachment.clone());
                    state.attach(interface, attachment);
                }
                Step::Detach(interface) => {
                    cluster.detach(interface);
                    state.detach(interface);
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
fn a_chain_says_which_policies_it_is_of() {
    let mut state = State::default();
    state.apply(Event::Pod(Key::new("a", "web"), Some(web(true, "10.0.0.1"))));
    let mut origins = Vec::new();
    for name in ["one", "two", &"x".repeat(253)] {
        state.apply(Event::Policy(Key::new("a", name), Some(ingress(vec![]))));
        let chains: Vec<_> = state.table().chains.values().collect();
        assert_eq!(chains.len(), 1);
        origins.push(chains[0].origin(127));
    }
    assert_eq!(origins, ["a: one", "a: one, two", "a: one, two and 1 more"]);
    let chain = state.table().chains.values().next().unwrap();
    for max in [30, 60, 127] {
        let many = (0..300).map(|number| Key::new("namespace", &format!("policy-{number}")));
        let origin = crate::Chain {
            policies: many.collect(),
            ..chain.clone()
        }
        .origin(max);
        assert!(origin.len() <= max && origin.contains(" more"), "{origin}");
    }
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

#[test]
fn a_pod_is_restricted_before_its_status_has_an_address() {
    let mut state = State::default();
    let starting = |uid: &str| Pod {
        uid: uid.into(),
        local: true,
        ..Pod::default()
    };
    let attachment = |name: &str, uid: &str| Attachment {
        pod: Key::new("a", name),
        uid: Some(uid.into()),
        addresses: ["10.0.0.1".parse().unwrap()].into(),
    };
    let is_denied = |state: &State| !state.table().allows(&tcp("10.0.0.2", "10.0.0.1", 80));
    state.apply(Event::Policy(Key::new("a", "deny"), Some(ingress(vec![]))));
    state.attach("c1", attachment("p", "2"));
    assert!(!state.knows(&attachment("p", "2")) && !is_denied(&state));
    state.apply(Event::Pod(Key::new("a", "p"), Some(starting("1"))));
    assert!(
        !state.knows(&attachment("p", "2")),
        "another pod of the same name"
    );
    state.apply(Event::Pod(Key::new("a", "p"), Some(starting("2"))));
    assert!(state.knows(&attachment("p", "2")) && is_denied(&state));
    // The status of an ended pod still has the address.
    let former = Pod {
        labels: [("app".into(), "web".into())].into(),
        ..web(true, "10.0.0.1")
    };
    state.apply(Event::Pod(Key::new("b", "former"), Some(former)));
    assert!(is_denied(&state), "whose interface it is counts");
    state.attach("c2", attachment("q", "3"));
    assert!(
        !is_denied(&state),
        "its interface is gone, and whose it is now is not known"
    );
    state.detach("c1");
    state.apply(Event::Pod(Key::new("a", "q"), Some(starting("3"))));
    assert!(
        is_denied(&state),
        "the end of an interface is not that of its successor"
    );
    state.detach("c2");
    assert!(!is_denied(&state));
}
