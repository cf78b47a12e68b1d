//! Small random clusters.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};

use proptest::prelude::*;

use super::endpoint;
use crate::{
    Endpoint, EndpointState, Event, Front, Kind, NodeFacts, NodeHint, Policy, Port, Protocol, Restriction,
    Service, ServicePort, Slice, ZoneSet,
};

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Event(Event),
    /// The node is labelled with another zone, or gets or loses its address.
    Node(Option<&'static str>, bool),
    /// The table is brought up to date.
    Write,
    /// Unused chains are deleted.
    Tidy,
    /// The proxy starts again and finds its table.
    Restart,
}

pub(super) fn facts() -> NodeFacts {
    NodeFacts {
        pod_ranges: vec!["10.244.0.0/16".parse().unwrap()],
        service_ranges: vec!["10.96.0.0/24".parse().unwrap()],
        node_addresses: vec![NODE.into()],
        ..NodeFacts::default()
    }
}

pub(super) const NODE: [u8; 4] = [192, 0, 2, 1];

/// Services 0 and 10, 1 and 11, ... share their external IP and node port.
fn shared(number: u8) -> u8 {
    number % 10
}

pub(super) fn cluster_ip(number: u8) -> IpAddr {
    [10, 96, 0, number].into()
}

pub(super) fn external_ip(number: u8) -> IpAddr {
    [198, 51, 100, shared(number)].into()
}

pub(super) fn node_port(number: u8) -> Front {
    Front::NodePort(Protocol::Udp, 30000 + u16::from(shared(number)))
}

fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap()
}

pub(super) fn service(number_of: u8, internal: Policy, external: Policy) -> Event {
    let port = ServicePort {
        name: "p".into(),
        protocol: Protocol::Udp,
        port: number(53),
        node_port: NonZeroU16::new(30000 + u16::from(shared(number_of))),
    };
    let service = Service {
        cluster_ip: Some(cluster_ip(number_of)),
        external_ips: [external_ip(number_of)].into(),
        restriction: None,
        affinity_secs: None,
        internal,
        external,
        ports: [port].into(),
        ..Service::default()
    };
    Event::Service(format!("ns/s{number_of}").into(), service)
}

pub(super) fn slice(service: u8, part: u8, endpoints: &[Endpoint]) -> Event {
    Event::Slice {
        name: format!("ns/s{service}-{part}").into(),
        service: format!("ns/s{service}").into(),
        slice: Slice {
            ports: [Port {
                name: "p".into(),
                protocol: Protocol::Udp,
                port: number(5353),
            }]
            .into(),
            endpoints: endpoints.into(),
            zone_sets: zone_sets(),
        },
    }
}

/// Those of every slice.
fn zone_sets() -> Box<[ZoneSet]> {
    let sets: [&[&str]; 3] = [&["a"], &["b"], &["a", "b"]];
    sets.map(|set| set.iter().map(|zone| (*zone).into()).collect())
        .into()
}

fn numbers() -> impl Strategy<Value = u8> {
    prop_oneof![0..3u8, 10..12u8]
}

/// The same event, with its external IP reached from some ranges only.
fn restricted(event: Event, ranges: &[&str]) -> Event {
    match event {
        Event::Service(key, service) if !ranges.is_empty() => {
            let restriction = Restriction {
                addresses: service.external_ips.clone(),
                ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            };
            let restriction = Some(restriction.into());
            Event::Service(
                key,
                Service {
                    restriction,
                    ..service
                },
            )
        }
        other => other,
    }
}

/// The same event, with clients remembered.
fn sticky(event: Event, affinity_secs: Option<NonZeroU32>) -> Event {
    match event {
        Event::Service(key, service) => Event::Service(
            key,
            Service {
                affinity_secs,
                ..service
            },
        ),
        other => other,
    }
}

fn ranges() -> impl Strategy<Value = &'static [&'static str]> {
    let some: [&'static [&'static str]; 4] = [
        &[],
        &["203.0.113.0/24"],
        &["10.244.0.96/29", "192.0.2.0/24"],
        &["192.0.2.1/32", "10.0.0.0/8"],
    ];
    (0..some.len()).prop_map(move |at| some[at])
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Cluster), Just(Policy::Local)]
}

fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let state = prop_oneof![3 => Just(EndpointState::Ready), 1 => Just(EndpointState::ServingTerminating)];
    let node_hint = prop_oneof![Just(NodeHint::OtherNodes), Just(NodeHint::ThisNode)];
    let hint = (node_hint, (1..=3u16).prop_map(NonZeroU16::new));
    let endpoints = prop::collection::vec((1..8u8, state, hint), 0..5);
    // Hints count when every endpoint has them, so whole slices get them, but not always.
    let hinted = (prop::bool::weighted(0.3), prop::bool::weighted(0.4), 0..10usize);
    (endpoints, hinted).prop_map(|(endpoints, (by_node, by_zone, without))| {
        let all = endpoints.into_iter().enumerate();
        let hinted = all.map(|(at, (last, state, (node_hint, zones)))| {
            let counts = at != without;
            Endpoint {
                node_hint: if by_node && counts {
                    node_hint
                } else {
                    NodeHint::Nobody
                },
                zones: zones.filter(|_| by_zone && counts),
                ..endpoint(last, state)
            }
        });
        hinted.collect()
    })
}

fn event() -> impl Strategy<Value = Vec<Event>> {
    prop_oneof![
        3 => (numbers(), policy(), policy(), ranges(), 0..4u32).prop_map(|(n, i, e, ranges, secs)| {
            vec![sticky(restricted(service(n, i, e), ranges), NonZeroU32::new(secs))]
        }),
        5 => (numbers(), 0..2u8, endpoints()).prop_map(|(n, part, e)| vec![slice(n, part, &e)]),
        1 => numbers().prop_map(|n| vec![Event::ServiceGone(format!("ns/s{n}").into())]),
        1 => (numbers(), 0..2u8).prop_map(|(n, p)| vec![Event::SliceGone(format!("ns/s{n}-{p}").into())]),
        1 => prop::collection::vec((numbers(), policy()), 0..3).prop_map(|all| {
            let mut events = vec![Event::ListStart(Kind::Service)];
            events.extend(all.into_iter().map(|(n, p)| service(n, Policy::Cluster, p)));
            events.push(Event::ListEnd(Kind::Service));
            events
        }),
    ]
}

/// A history.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => event().prop_map(|events| events.into_iter().map(Step::Event).collect()),
        3 => Just(vec![Step::Write]),
        1 => Just(vec![Step::Write, Step::Tidy]),
        1 => Just(vec![Step::Restart]),
        1 => (prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))], any::<bool>())
            .prop_map(|(zone, addressed)| vec![Step::Node(zone, addressed)]),
    ];
    prop::collection::vec(step, 1..40).prop_map(|steps: Vec<Vec<Step>>| steps.concat())
}
