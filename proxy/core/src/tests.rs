//! The planner against a model of the kernel's table and against a second, simple reading of the service rules.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod kernel;
mod oracle;
mod scenario;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use proptest::prelude::*;

use crate::{
    Backend, Element, Endpoint, EndpointState, Event, Front, Op, Planner, Policy, Protocol, Remembered,
    Service, Suspects,
};
use kernel::Kernel;
use scenario::{Step, facts, service, slice, steps};

/// A planner and the kernel that it programs.
fn programmed(events: impl IntoIterator<Item = Event>) -> (Planner, Kernel) {
    let mut planner = Planner::default();
    planner.set_facts(facts());
    let mut kernel = Kernel::default();
    kernel.load(planner.rebuild(), planner.ruleset());
    for event in events {
        planner.apply(event);
    }
    kernel.apply(&planner.plan());
    (planner, kernel)
}

fn endpoint(last: u8, state: EndpointState) -> Endpoint {
    Endpoint::new([10, 244, last % 2, last].into(), state, last.is_multiple_of(2))
}

fn ready(lasts: &[u8]) -> Vec<Endpoint> {
    lasts
        .iter()
        .map(|last| endpoint(*last, EndpointState::Ready))
        .collect()
}

#[test]
fn one_more_endpoint_costs_one_slot_and_one_verdict_for_each_front() {
    let (mut planner, mut kernel) = programmed([
        service(0, Policy::Cluster, Policy::Cluster),
        slice(0, 0, &ready(&[1, 3, 5])),
    ]);
    planner.apply(slice(0, 0, &ready(&[1, 2, 3, 5])));
    let changes = planner.plan();
    let adds = changes
        .ops
        .iter()
        .filter(|op| matches!(op, Op::Add(Element::Slot(..))))
        .count();
    let fronts = changes
        .ops
        .iter()
        .filter(|op| matches!(op, Op::Add(Element::Front(..))))
        .count();
    let deletes = changes
        .ops
        .iter()
        .filter(|op| matches!(op, Op::Delete(Element::Slot(..))))
        .count();
    assert_eq!(
        (adds, fronts, deletes),
        (3, 3, 0),
        "ClusterIP, external IP and node port: {changes:?}"
    );
    assert!(
        matches!(changes.ops.last(), Some(Op::Add(Element::Front(..)))),
        "visible last"
    );
    assert!(
        matches!(changes.ops.first(), Some(Op::Delete(Element::Front(..)))),
        "invisible first"
    );
    assert_eq!(changes.parts.len(), 2, "lb-4 and np-4");
    kernel.apply(&changes);
}

#[test]
fn a_replaced_endpoint_leaves_the_verdicts_alone() {
    let (mut planner, mut kernel) = programmed([
        service(0, Policy::Cluster, Policy::Cluster),
        slice(0, 0, &ready(&[1, 3, 5])),
    ]);
    planner.apply(slice(0, 0, &ready(&[1, 5, 7])));
    let changes = planner.plan();
    assert!(
        changes
            .ops
            .iter()
            .all(|op| matches!(op.element(), Element::Slot(..))),
        "{changes:?}"
    );
    assert_eq!(changes.ops.len(), 6);
    kernel.apply(&changes);
}

#[test]
fn two_services_with_one_node_port_never_mix() {
    let mut planner = Planner::default();
    planner.set_facts(facts());
    let mut kernel = Kernel::default();
    kernel.load(planner.rebuild(), planner.ruleset());
    // Both claim node port 30000; the first in order of names has it, whatever comes first.
    let claims = [
        service(10, Policy::Cluster, Policy::Cluster),
        service(0, Policy::Cluster, Policy::Cluster),
    ];
    for claim in claims {
        planner.apply(claim);
        kernel.apply(&planner.plan());
    }
    planner.apply(slice(0, 0, &ready(&[1])));
    planner.apply(slice(10, 0, &ready(&[3])));
    kernel.apply(&planner.plan());
    let owner = |planner: &Planner| {
        planner.ruleset().fronts[&scenario::node_port(0)]
            .owner
            .to_string()
    };
    assert_eq!(owner(&planner), "ns/s0");
    let conflicts = planner.take_conflicts();
    assert_eq!(
        conflicts.len(),
        2,
        "the node port and the external IP, each once: {conflicts:?}"
    );
    assert!(
        conflicts
            .iter()
            .all(|c| (&*c.owner, &*c.loser) == ("ns/s0", "ns/s10"))
    );
    planner.apply(Event::ServiceGone("ns/s0".into()));
    kernel.apply(&planner.plan());
    assert_eq!(owner(&planner), "ns/s10");
    kernel.check(&planner);
}

#[test]
fn unused_chains_are_given_up_once() {
    let (mut planner, mut kernel) = programmed([
        service(0, Policy::Cluster, Policy::Cluster),
        slice(0, 0, &ready(&[1])),
    ]);
    planner.apply(slice(0, 0, &ready(&[1, 3])));
    kernel.apply(&planner.plan());
    let unused = planner.take_unused_parts();
    assert_eq!(unused.len(), 2, "lb-1 and np-1");
    kernel.delete_parts(&unused);
    assert!(planner.take_unused_parts().is_empty());
    planner.apply(slice(0, 0, &ready(&[1])));
    let changes = planner.plan();
    assert_eq!(changes.parts, unused, "made again when needed again");
    kernel.apply(&changes);
}

/// Service 0 with its clients remembered.
fn sticky(affinity_secs: Option<NonZeroU32>, external: Policy) -> Event {
    match service(0, Policy::Cluster, external) {
        Event::Service(key, of) => Event::Service(key, Service { affinity_secs, ..of }),
        other => other,
    }
}

#[test]
fn clients_are_forgotten_with_their_backend_and_only_those() {
    let hour = NonZeroU32::new(3600);
    let front = Front::Address(scenario::external_ip(0), Protocol::Udp, 53);
    let entry = |client: [u8; 4], last: u8| Remembered {
        client: client.into(),
        front,
        backend: Backend {
            address: [10, 244, last % 2, last].into(),
            port: 5353,
        },
    };
    let (pod, outside) = ([10, 244, 0, 99], [203, 0, 113, 5]);
    let (mut planner, mut kernel) =
        programmed([sticky(hour, Policy::Cluster), slice(0, 0, &ready(&[1, 2, 3]))]);
    let mut stale = |events: Vec<Event>| {
        for event in events {
            planner.apply(event);
        }
        let changes = planner.plan();
        kernel.apply(&changes);
        let suspects = Suspects::of(&changes, planner.ruleset());
        let all = [
            entry(pod, 1),
            entry(pod, 2),
            entry(pod, 3),
            entry(outside, 2),
            entry(outside, 3),
        ];
        let is_stale = |e: &&Remembered| suspects.is_stale(e, planner.ruleset());
        let found: Vec<Remembered> = all.iter().filter(is_stale).copied().collect();
        assert_eq!(suspects.is_empty(), found.is_empty());
        found
    };
    assert_eq!(stale(vec![slice(0, 0, &ready(&[1, 2, 3, 4]))]), []);
    assert_eq!(
        stale(vec![sticky(NonZeroU32::new(60), Policy::Cluster)]),
        [],
        "another time"
    );
    assert_eq!(stale(vec![slice(0, 0, &ready(&[2, 3, 4]))]), [entry(pod, 1)]);
    assert_eq!(
        stale(vec![sticky(hour, Policy::Local)]),
        [entry(pod, 1), entry(outside, 3)],
        "3 is not local: outside clients leave it, pods do not; 1 is gone in any case"
    );
    let leaving = endpoint(2, EndpointState::ServingTerminating);
    assert_eq!(
        stale(vec![slice(0, 0, &[ready(&[3]), vec![leaving]].concat())]),
        [entry(pod, 1), entry(pod, 2), entry(outside, 2), entry(outside, 3)],
        "2 serves outside clients alone now, but any of them may be this host"
    );
    assert_eq!(
        stale(vec![sticky(None, Policy::Local)]).len(),
        5,
        "no affinity any more"
    );
    assert_eq!(stale(vec![sticky(hour, Policy::Local)]), []);
    assert_eq!(stale(vec![slice(0, 0, &[])]).len(), 5, "no endpoint");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens: each transaction is accepted by the kernel's rules, and leads to the table that a fresh start would make;
    /// packets go where the service rules say.
    #[test]
    fn any_history_ends_in_the_right_table(history in steps()) {
        let (mut planner, mut kernel) = programmed([]);
        let mut world = oracle::World::new();
        for step in history {
            match step {
                Step::Event(event) => {
                    world.apply(&event);
                    planner.apply(event);
                }
                Step::Node(zone, addressed) => {
                    world.facts.zone = zone.map(Into::into);
                    world.facts.node_ip = addressed.then_some(scenario::NODE.into());
                    planner.set_facts(world.facts.clone());
                }
                Step::Write => {
                    let changes = planner.plan();
                    kernel.apply(&changes);
                    kernel.forget(&changes, planner.ruleset());
                    kernel.check(&planner);
                    world.check(&mut kernel)?;
                }
                Step::Tidy => kernel.delete_parts(&planner.take_unused_parts()),
                Step::Restart => {
                    let found: BTreeSet<Element> = kernel.elements();
                    planner = world.planner();
                    let changes = planner.adopt(found, kernel.parts());
                    kernel.apply(&changes);
                    kernel.forget(&changes, planner.ruleset());
                    kernel.check(&planner);
                    world.check(&mut kernel)?;
                }
            }
        }
        let changes = planner.plan();
        kernel.apply(&changes);
        kernel.forget(&changes, planner.ruleset());
        kernel.check(&planner);
        world.check(&mut kernel)?;
        prop_assert!(planner.plan().is_empty());
        // After a restart with nothing changed, nothing is written.
        let mut again = world.planner();
        let changes = again.adopt(kernel.elements(), kernel.parts());
        prop_assert!(changes.is_empty(), "{:?}", changes);
    }
}
