//! Ports of a node that lead to a pod on it (`hostPort`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gantry_tests::cluster::{Machine, NetNs, Test, poll, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::Pod;

use crate::network::ask;

/// No other test uses these.
const TCP: u16 = 28_080;
const UDP: u16 = 28_081;

/// A server on a node, with a port of the node for TCP and one for UDP.
fn serve(test: &Test, name: &str, node: &str) {
    let spec = format!(
        "{{nodeName: {node}, terminationGracePeriodSeconds: 0, containers: [{{name: hello, image: 'hello:1', ports: [
             {{containerPort: 8080, hostPort: {TCP}}}, {{containerPort: 8081, hostPort: {UDP}, protocol: UDP}}]}}]}}"
    );
    test.pod(name, &spec);
    test.wait_ready(name);
}

/// Waits until the pod answers over TCP and UDP.
#[track_caller]
fn answers(from: &NetNs, address: IpAddr, pod: &str, what: &str) {
    for (protocol, port) in [("TCP", TCP), ("UDP", UDP)] {
        let to = SocketAddr::new(address, port);
        let name = poll_ok(secs(20), &format!("{what}, {protocol} {to}"), || {
            ask(from, protocol, to)
        });
        assert_eq!(name, pod, "{what}, {protocol} {to}");
    }
}

#[test]
fn a_host_port_leads_to_the_pod_and_moves_with_it() {
    let test = Test::start("host-ports");
    let client = test.net_of(&test.idle_pod("client", "node-1"));
    let outside = NetNs::outside();
    let (one, two) = (test.node_ip("node-1"), test.node_ip("node-2"));
    serve(&test, "first", "node-1");
    answers(&outside, one, "first", "the outside");
    answers(&client, one, "first", "a pod of the same node");
    let node = NetNs::of_machine(&Machine::named("node-1"));
    answers(&node, one, "first", "the node");
    // In IPv6 nothing but the host itself may have its loopback address.
    if test.cluster.families().contains(&"IPv4") {
        answers(&node, Ipv4Addr::LOCALHOST.into(), "first", "the node's loopback");
    }
    let other = NetNs::of_machine(&Machine::named("node-2"));
    answers(&other, one, "first", "another node");
    let refused = outside.connect((two, TCP).into());
    assert!(refused.is_err(), "the other node has no such port");

    test.delete::<Pod>("first", Some(0));
    test.wait_gone::<Pod>("first", secs(30));
    serve(&test, "second", "node-2");
    answers(&outside, two, "second", "the outside");
    poll(secs(20), "the first node has the port no longer", || {
        outside.connect((one, TCP).into()).is_err().then_some(())
    });
    // The same port of the same node, for the next pod.
    serve(&test, "third", "node-1");
    answers(&outside, one, "third", "the outside");
    // The namespace goes in the background, and a test that follows at once would find the ports taken.
    for pod in ["second", "third"] {
        test.delete::<Pod>(pod, Some(0));
        test.wait_gone::<Pod>(pod, secs(30));
    }
}
