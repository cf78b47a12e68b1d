#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::num::NonZeroU16;

use proptest::prelude::*;

use super::*;
use crate::{
    Endpoint, EndpointState, Event, NodeFacts, Policy, Port, Service, ServicePort, Slice,
    model::Protocol::{Tcp, Udp},
};

const NODE: [u8; 4] = [192, 0, 2, 1];
const VIP: [u8; 4] = [10, 96, 0, 10];

fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap()
}

fn dns(external: Policy) -> Event {
    let port = |name: &str, protocol| ServicePort {
        name: name.into(),
        protocol,
        port: number(53),
        node_port: Some(number(30053)),
    };
    let service = Service {
        cluster_ip: Some(VIP.into()),
        external,
        ports: [port("dns", Udp), port("dns-tcp", Tcp)].into(),
        ..Service::default()
    };
    Event::Service("ns/dns".into(), service)
}

fn endpoints(all: &[(u8, EndpointState)]) -> Event {
    let port = |name: &str, protocol| Port {
        name: name.into(),
        protocol,
        port: number(5353),
    };
    let endpoint = |(last, state): &(u8, EndpointState)| {
        Endpoint::new([10, 244, 0, *last].into(), *state, last.is_multiple_of(2))
    };
    Event::Slice {
        name: "ns/dns-1".into(),
        service: "ns/dns".into(),
        slice: Slice {
            ports: [port("dns", Udp), port("dns-tcp", Tcp)].into(),
            endpoints: all.iter().map(endpoint).collect(),
            ..Slice::default()
        },
    }
}

fn ready(lasts: &[u8]) -> Event {
    let all: Vec<_> = lasts.iter().map(|last| (*last, EndpointState::Ready)).collect();
    endpoints(&all)
}

fn backend(last: u8) -> Backend {
    Backend {
        address: [10, 244, 0, last].into(),
        port: 5353,
    }
}

fn fronts() -> [Front; 2] {
    [Front::Address(VIP.into(), Udp, 53), Front::NodePort(Udp, 30053)]
}

/// Flows of both fronts to a backend.
fn to(last: u8) -> BTreeSet<StaleFlows> {
    let flows = |front| StaleFlows {
        front,
        from: backend(last).address,
        port: Some(5353),
    };
    fronts().map(flows).into()
}

struct World {
    planner: Planner,
    flows: Flows,
}

impl World {
    fn new() -> Self {
        let mut planner = Planner::default();
        planner.set_facts(NodeFacts {
            node_addresses: vec![NODE.into()],
            ..NodeFacts::default()
        });
        planner.rebuild();
        Self {
            planner,
            flows: Flows::default(),
        }
    }

    fn after(&mut self, events: impl IntoIterator<Item = Event>) -> BTreeSet<StaleFlows> {
        for event in events {
            self.planner.apply(event);
        }
        let changes = self.planner.plan();
        self.flows.stale(&changes, &self.planner)
    }
}

#[test]
fn flows_of_gone_backends_are_stale_and_no_others() {
    let mut world = World::new();
    world.after([dns(Policy::Cluster), ready(&[1, 2, 3])]);
    assert_eq!(world.after([ready(&[1, 3])]), to(2));
    assert_eq!(world.after([ready(&[1, 3, 4])]), BTreeSet::new());
    let last: BTreeSet<_> = [1, 3, 4].into_iter().flat_map(to).collect();
    assert_eq!(world.after([ready(&[])]), last, "scaled to zero");
    assert_eq!(world.after([ready(&[1])]), BTreeSet::new(), "and back");
    assert_eq!(world.after([Event::ServiceGone("ns/dns".into())]), to(1));
}

#[test]
fn a_backend_that_terminates_keeps_its_flows_until_it_is_gone() {
    let (first, serving) = (EndpointState::Ready, EndpointState::ServingTerminating);
    let mut world = World::new();
    world.after([dns(Policy::Cluster), ready(&[1])]);
    assert_eq!(
        world.after([endpoints(&[(1, serving), (2, first)])]),
        BTreeSet::new()
    );
    assert_eq!(
        world.after([ready(&[2])]),
        to(1),
        "no slot changes, but it serves no more"
    );
    assert_eq!(world.after([ready(&[2])]), BTreeSet::new(), "told once");
}

#[test]
fn a_policy_ends_no_flow() {
    let mut world = World::new();
    world.after([dns(Policy::Cluster), ready(&[1, 2])]);
    assert_eq!(world.after([dns(Policy::Local)]), BTreeSet::new());
    assert_eq!(
        world.after([ready(&[2])]),
        to(1),
        "a remote one, which has a slot for pods only"
    );
}

#[test]
fn a_new_front_takes_over_what_went_past_it() {
    let mut world = World::new();
    let past = |front, from: [u8; 4]| StaleFlows {
        front,
        from: from.into(),
        port: None,
    };
    let [vip, node_port] = fronts();
    let wanted = BTreeSet::from([past(vip, VIP), past(node_port, NODE)]);
    assert_eq!(
        world.after([dns(Policy::Cluster)]),
        wanted,
        "also without endpoints"
    );
    assert_eq!(
        world.after([ready(&[1])]),
        BTreeSet::new(),
        "only the verdict changes"
    );
}

#[test]
fn flows_that_are_there_are_judged_one_by_one() {
    let mut world = World::new();
    world.after([dns(Policy::Cluster), ready(&[1])]);
    let stale = |to: [u8; 4], to_port, from: [u8; 4], port| {
        let backend = Backend {
            address: from.into(),
            port,
        };
        let flow = UdpFlow {
            to: to.into(),
            to_port,
            backend,
        };
        is_stale(&flow, &world.planner)
    };
    assert!(!stale(VIP, 53, [10, 244, 0, 1], 5353));
    assert!(stale(VIP, 53, [10, 244, 0, 2], 5353), "another pod");
    assert!(stale(VIP, 53, [10, 244, 0, 1], 5354), "another port of it");
    assert!(stale(VIP, 53, VIP, 53), "past the service");
    assert!(!stale(VIP, 54, VIP, 54), "no port of the service");
    assert!(stale(NODE, 30053, NODE, 30053));
    assert!(!stale(NODE, 30053, [10, 244, 0, 1], 5353));
    assert!(
        !stale([8, 8, 8, 8], 30053, [8, 8, 8, 8], 30053),
        "a node port of somebody else"
    );
}

fn any_step() -> impl Strategy<Value = Event> {
    let state = prop_oneof![
        Just(EndpointState::Ready),
        Just(EndpointState::ServingTerminating)
    ];
    let policy = prop_oneof![Just(Policy::Cluster), Just(Policy::Local)];
    prop_oneof![
        4 => prop::collection::btree_map(1..6u8, state, 0..4)
            .prop_map(|all| endpoints(&all.into_iter().collect::<Vec<_>>())),
        1 => policy.prop_map(dns),
        1 => Just(Event::ServiceGone("ns/dns".into())),
    ]
}

proptest! {
    /// Flows are made to every slot there is; what is deleted step by step is what a look at all of them calls stale.
    #[test]
    fn step_by_step_is_as_exact_as_a_look_at_all(steps in prop::collection::vec(any_step(), 1..30)) {
        let mut world = World::new();
        let mut flows: BTreeSet<(Front, Backend)> = BTreeSet::new();
        for step in steps {
            let deleted = world.after([step]);
            let hit = |(front, backend): &(Front, Backend)| deleted.iter().any(|d| {
                d.front == *front && d.from == backend.address && d.port.is_none_or(|port| port == backend.port)
            });
            for flow in &flows {
                let (to, to_port) = match flow.0 {
                    Front::Address(address, _, port) => (address, port),
                    Front::NodePort(_, port) => (NODE.into(), port),
                };
                let known = world.planner.ruleset().fronts.contains_key(&flow.0);
                let judged = UdpFlow { to, to_port, backend: flow.1 };
                prop_assert_eq!(hit(flow), !known || is_stale(&judged, &world.planner), "{:?}", flow);
            }
            flows.retain(|flow| !hit(flow));
            for (front, owned) in &world.planner.ruleset().fronts {
                let slots = [Scope::Cluster, Scope::Local].map(|scope| owned.program.slots(scope).to_vec());
                let udp = front.protocol() == Udp;
                flows.extend(slots.concat().into_iter().filter(|_| udp).map(|backend| (*front, backend)));
            }
        }
    }
}
