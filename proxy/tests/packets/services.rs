//! ClusterIP and NodePort, behaviour by behaviour (numbers of `proxy-surface`).

use std::collections::BTreeSet;

use gantry_proxy::table::NodePorts;
use gantry_proxy_core::{EndpointState, Policy};

use crate::host::{Host, Outcome};
use crate::objects::*;
use crate::rig::{Proxy, Rig};

const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.0.2.1:30080";

fn rig(endpoint_list: &[&str]) -> Rig {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(endpoint_list)]);
    rig
}

/// Which backends answer, in at most 40 attempts until both did.
fn backends(attempt: impl Fn() -> Outcome) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(attempt().backend().to_owned());
        if seen.len() == 2 {
            break;
        }
    }
    seen
}

fn both() -> BTreeSet<String> {
    ["a".to_owned(), "b".to_owned()].into()
}

#[test]
fn a_cluster_ip_reaches_all_endpoints_from_pods_host_and_outside() {
    let rig = rig(&[A, B]);
    let clients: [(&Host, &str); 3] = [
        (&rig.client, "10.244.1.2"),
        (&rig.node, "10.244.1.1"),
        (&rig.outside, "10.244.1.1"),
    ];
    for (host, seen) in clients {
        assert_eq!(backends(|| host.tcp(VIP)), both());
        assert_eq!(backends(|| host.udp(VIP)), both());
        assert_eq!(
            host.tcp(VIP).seen(),
            seen,
            "pods keep their address, others are masqueraded"
        );
        assert_eq!(host.udp(VIP).seen(), seen);
    }
}

#[test]
fn a_node_port_reaches_all_endpoints_but_not_on_loopback() {
    for node_ports in [NodePorts::Listed, NodePorts::AnyLocal] {
        let mut rig = Rig::with(node_ports);
        rig.apply([service(web()), endpoints(&[A, B])]);
        for host in [&rig.outside, &rig.client, &rig.node] {
            assert_eq!(backends(|| host.tcp(NODE_PORT)), both());
            assert_eq!(backends(|| host.udp(NODE_PORT)), both());
            assert_eq!(host.tcp(NODE_PORT).seen(), "10.244.1.1");
        }
        assert_eq!(rig.node.tcp("127.0.0.1:30080"), Outcome::Refused);
        let other = rig.outside.tcp("10.244.1.1:30080");
        assert_eq!(
            other == Outcome::Refused,
            node_ports == NodePorts::Listed,
            "{other:?}"
        );
    }
}

#[test]
fn without_endpoints_connections_are_refused() {
    let rig = rig(&[]);
    for host in [&rig.client, &rig.node, &rig.outside] {
        assert_eq!(host.tcp(VIP), Outcome::Refused);
        assert_eq!(host.udp(VIP), Outcome::Refused);
        assert_eq!(host.tcp(NODE_PORT), Outcome::Refused);
    }
}

#[test]
fn another_port_is_refused_and_an_unallocated_address_dropped() {
    let rig = rig(&[A]);
    for host in [&rig.client, &rig.node] {
        assert_eq!(host.tcp("10.96.0.1:81"), Outcome::Refused);
        assert_eq!(host.udp("10.96.0.1:81"), Outcome::Refused);
    }
    assert_eq!(rig.client.tcp("10.96.7.7:80"), Outcome::Nothing);
}

#[test]
fn an_endpoint_reaches_itself_through_the_service() {
    let rig = rig(&[A]);
    for to in [VIP, NODE_PORT] {
        assert_eq!(rig.a.tcp(to), Outcome::Answer("a".into(), "10.244.1.1".into()));
        assert_eq!(rig.a.udp(to), Outcome::Answer("a".into(), "10.244.1.1".into()));
    }
}

#[test]
fn terminating_endpoints_serve_only_when_no_other_does() {
    let mut rig = rig(&[]);
    let (ready, terminating) = (EndpointState::Ready, EndpointState::ServingTerminating);
    rig.apply([endpoints_in(&[(A, terminating)])]);
    assert_eq!(rig.client.tcp(VIP).backend(), "a");
    rig.apply([endpoints_in(&[(A, terminating), (B, ready)])]);
    assert_eq!(backends(|| rig.client.tcp(VIP)), ["b".to_owned()].into());
}

#[test]
fn external_policy_local_keeps_the_source_and_serves_pods_from_everywhere() {
    let mut rig = Rig::new();
    rig.apply([service(web_external(Policy::Local)), endpoints(&[A, REMOTE])]);
    for _ in 0..10 {
        let answer = rig.outside.tcp(NODE_PORT);
        assert_eq!(answer, Outcome::Answer("a".into(), "192.0.2.100".into()));
    }
    let near: Vec<_> = (0..20).map(|_| rig.client.tcp(NODE_PORT)).collect();
    assert!(near.iter().any(|o| matches!(o, Outcome::Answer(..))) && near.iter().any(|o| *o != near[0]));
    rig.apply([endpoints(&[REMOTE])]);
    assert_eq!(
        rig.outside.tcp(NODE_PORT),
        Outcome::Nothing,
        "no endpoint here: dropped"
    );
    rig.apply([endpoints(&[])]);
    assert_eq!(
        rig.outside.tcp(NODE_PORT),
        Outcome::Refused,
        "no endpoint anywhere: refused"
    );
}

#[test]
fn changes_are_followed_and_a_removed_service_is_gone() {
    let mut rig = rig(&[A]);
    assert_eq!(rig.client.tcp(VIP).backend(), "a");
    rig.apply([endpoints(&[A, B])]);
    assert_eq!(backends(|| rig.client.tcp(VIP)), both());
    rig.apply([endpoints(&[B])]);
    assert_eq!(backends(|| rig.client.tcp(VIP)), ["b".to_owned()].into());
    rig.apply([gantry_proxy_core::Event::ServiceGone("default/web".into())]);
    assert_eq!(
        rig.client.tcp(VIP),
        Outcome::Nothing,
        "the address is unallocated now"
    );
    assert_eq!(rig.outside.tcp(NODE_PORT), Outcome::Refused, "nobody listens");
    if let Proxy::Ours(ours) = &mut rig.proxy {
        ours.tidy().unwrap();
        let left = rig.table();
        assert!(!left.contains("lb-") && !left.contains("np-1"), "{left}");
    }
}
