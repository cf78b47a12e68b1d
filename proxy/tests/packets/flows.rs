//! UDP flows that are under way when services and endpoints change.

use gantry_proxy_core::{EndpointState, Event};

use crate::host::Outcome;
use crate::objects::*;
use crate::rig::Rig;

const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.0.2.1:30080";

fn rig(endpoint_list: &[&str]) -> Rig {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(endpoint_list)]);
    rig
}

/// How many UDP flows go from this port of a client.
fn entries(rig: &Rig, port: u16) -> usize {
    let list = rig.on_node(
        "conntrack",
        &["-L", "-p", "udp", "--orig-port-src", &port.to_string()],
    );
    list.lines().count()
}

#[test]
fn a_terminating_backend_keeps_its_flows_until_it_is_gone() {
    let mut rig = rig(&[A]);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "a");
    let terminating = (A, EndpointState::ServingTerminating);
    rig.apply([endpoints_in(&[terminating, (B, EndpointState::Ready)])]);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "a", "it still serves");
    assert_eq!(rig.client.udp_from(VIP, 5001).backend(), "b", "a new flow");
    rig.apply([endpoints(&[B])]);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "b", "it is gone");
}

#[test]
fn a_new_service_takes_over_flows_that_went_past_it() {
    let mut rig = Rig::new();
    for (host, to, port) in [(&rig.client, VIP, 5000), (&rig.outside, NODE_PORT, 5001)] {
        let past = host.udp_from(to, port);
        assert!(!matches!(past, Outcome::Answer(..)), "{past:?}");
    }
    rig.apply([service(web()), endpoints(&[A])]);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "a");
    assert_eq!(rig.outside.udp_from(NODE_PORT, 5001).backend(), "a");
}

#[test]
fn flows_of_no_concern_go_on() {
    let mut rig = rig(&[A, B]);
    let direct = format!("{A}:8080");
    assert_eq!(rig.outside.udp_from(&direct, 5000).backend(), "a");
    rig.apply([
        Event::Service("default/other".into(), at(web(), "10.96.0.2")),
        slice_of("default/other", A),
    ]);
    assert_eq!(rig.client.udp_from("10.96.0.2:80", 5001).backend(), "a");
    rig.apply([endpoints(&[B])]);
    rig.apply([endpoints(&[])]);
    rig.apply([Event::ServiceGone("default/web".into())]);
    assert_eq!(
        (entries(&rig, 5000), entries(&rig, 5001)),
        (1, 1),
        "past services, and of another service with the same backend"
    );
}

#[test]
fn what_went_stale_while_the_proxy_was_away_ends_when_it_is_back() {
    let mut rig = rig(&[A, B]);
    for port in 5000..5040 {
        assert!(matches!(rig.client.udp_from(VIP, port), Outcome::Answer(..)));
    }
    rig.restart([service(web()), endpoints(&[B])]);
    for port in 5000..5040 {
        assert_eq!(rig.client.udp_from(VIP, port).backend(), "b");
    }
    rig.on_node("nft", &["delete", "table", "ip", "kube-proxy"]);
    rig.restart([service(web()), endpoints(&[A])]);
    for port in 5000..5040 {
        assert_eq!(
            rig.client.udp_from(VIP, port).backend(),
            "a",
            "no table is left either"
        );
    }
}
