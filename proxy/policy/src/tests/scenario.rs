//! Small random clusters in which everything meets everything.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use crate::{
    Attachment, Event, Key, Labels, NamedPort, Packet, Peer, Pod, Policy, PortMatch, Protocol, Requirement,
    Rule, Selector,
};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Event(Event),
    Attach(&'static str, Attachment),
    Detach(&'static str),
    Write,
}

const NAMESPACES: [&str; 2] = ["a", "b"];
const PODS: [&str; 3] = ["p", "q", "r"];
const UIDS: [&str; 2] = ["1", "2"];
const INTERFACES: [&str; 3] = ["x", "y", "z"];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const NUMBERS: [u16; 3] = [53, 80, 443];

pub(super) fn history() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => pod_event().prop_map(Step::Event),
        1 => namespace_event().prop_map(Step::Event),
        3 => policy_event().prop_map(Step::Event),
        2 => (one_of(&INTERFACES), attachment()).prop_map(|(interface, attachment)| Step::Attach(interface, attachment)),
        1 => one_of(&INTERFACES).prop_map(Step::Detach),
        2 => Just(Step::Write),
    ];
    prop::collection::vec(step, 1..40).prop_map(|mut steps| {
        steps.push(Step::Write);
        steps
    })
}

/// Every pod and two strangers to every one of them, over each protocol and port.
pub(super) fn packets() -> Vec<Packet> {
    let mut ports = vec![None];
    for protocol in PROTOCOLS {
        ports.extend(NUMBERS.map(|number| Some((protocol, number))));
    }
    let ends: Vec<IpAddr> = (0..8).flat_map(|number| [v4(number), v6(number)]).collect();
    let mut packets = Vec::new();
    for from in &ends {
        for to in ends.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            packets.extend(ports.iter().map(|port| Packet {
                from: *from,
                to: *to,
                port: *port,
            }));
        }
    }
    packets
}

fn v4(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

fn v6(number: u8) -> IpAddr {
    [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into()
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map(label_key(), label_value(), 0..3)
}

fn label_key() -> impl Strategy<Value = Box<str>> {
    one_of(&["x", "y"]).prop_map(Box::from)
}

fn label_value() -> impl Strategy<Value = Box<str>> {
    one_of(&["1", "2"]).prop_map(Box::from)
}

fn pod_event() -> impl Strategy<Value = Event> {
    let name = (one_of(&NAMESPACES), one_of(&PODS));
    (name, prop::option::weighted(0.8, pod()))
        .prop_map(|((namespace, name), pod)| Event::Pod(Key::new(namespace, name), pod))
}

prop_compose! {
    fn pod()(
        labels in labels(),
        uid in one_of(&UIDS),
        number in prop::option::weighted(0.8, 0..6u8),
        dual in any::<bool>(),
        local in any::<bool>(),
        ports in prop::collection::btree_set((one_of(&["web", "dns"]), one_of(&PROTOCOLS), one_of(&NUMBERS)), 0..3),
    ) -> Pod {
        let addresses = [number.map(v4), number.filter(|_| dual).map(v6)];
        let ports = ports.into_iter().map(|(name, protocol, number)| NamedPort { name: name.into(), protocol, number });
        Pod { labels, uid: uid.into(), addresses: addresses.into_iter().flatten().collect(), local, ports: ports.collect() }
    }
}

prop_compose! {
    fn attachment()(
        name in (one_of(&NAMESPACES), one_of(&PODS)),
        uid in prop::option::of(one_of(&UIDS)),
        number in 0..6u8,
        dual in any::<bool>(),
    ) -> Attachment {
        let addresses = [Some(v4(number)), dual.then(|| v6(number))];
        Attachment { pod: Key::new(name.0, name.1), uid: uid.map(Box::from), addresses: addresses.into_iter().flatten().collect() }
    }
}

fn namespace_event() -> impl Strategy<Value = Event> {
    let labels = prop::option::weighted(0.8, labels());
    (one_of(&NAMESPACES), labels).prop_map(|(name, labels)| Event::Namespace(name.into(), labels))
}

fn policy_event() -> impl Strategy<Value = Event> {
    let name = (one_of(&NAMESPACES), one_of(&["n", "m"]));
    (name, prop::option::weighted(0.8, policy()))
        .prop_map(|((namespace, name), policy)| Event::Policy(Key::new(namespace, name), policy))
}

fn policy() -> impl Strategy<Value = Policy> {
    let rules = || prop::option::of(prop::collection::vec(rule(), 0..3));
    (selector(), rules(), rules()).prop_map(|(subjects, ingress, egress)| Policy {
        subjects,
        ingress,
        egress,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let ports = prop::collection::vec(port(), 0..3);
    (prop::collection::vec(peer(), 0..3), ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || prop::collection::btree_set(label_value(), 1..3);
    let requirement = prop_oneof![
        (label_key(), values()).prop_map(|(key, values)| Requirement::In(key, values)),
        (label_key(), values()).prop_map(|(key, values)| Requirement::NotIn(key, values)),
        label_key().prop_map(Requirement::Exists),
        label_key().prop_map(Requirement::Absent),
    ];
    prop::collection::vec(requirement, 0..2).prop_map(|requirements| requirements.into_iter().collect())
}

fn peer() -> impl Strategy<Value = Peer> {
    let v6: BTreeSet<&str> = ["fd00::/64", "fd00::4/126"].into();
    let v6: Vec<&str> = v6.into_iter().collect();
    let blocks = prop_oneof![
        (
            one_of(&["10.0.0.0/24", "10.0.0.0/29", "10.0.0.4/30"]),
            prop::collection::vec(one_of(&["10.0.0.4/30", "10.0.0.1/32", "10.0.0.6/32"]), 0..3),
        ),
        (one_of(&v6), prop::collection::vec(Just("fd00::2/127"), 0..2)),
    ];
    prop_oneof![
        2 => (prop::option::of(selector()), selector())
            .prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => blocks.prop_map(|(cidr, except)| Peer::Block {
            cidr: cidr.parse().unwrap(),
            except: except.into_iter().map(|hole| hole.parse().unwrap()).collect(),
        }),
    ]
}

fn port() -> impl Strategy<Value = PortMatch> {
    prop_oneof![
        one_of(&PROTOCOLS).prop_map(PortMatch::All),
        (one_of(&PROTOCOLS), one_of(&NUMBERS), 0..100u16)
            .prop_map(|(protocol, first, more)| PortMatch::Range(protocol, first, first + more)),
        (one_of(&PROTOCOLS), one_of(&["web", "dns"]))
            .prop_map(|(protocol, name)| PortMatch::Named(protocol, name.into())),
    ]
}
