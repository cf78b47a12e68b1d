//! What connections and the table live through: changes, restarts, other programs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use gantry_proxy_core::Event;
use nftables::helper::get_current_ruleset_raw;

use crate::objects::*;
use crate::rig::{Outcome, Rig};

const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.0.2.1:30080";

#[test]
fn udp_flows_leave_a_removed_endpoint_and_only_those() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    for (host, to) in [(&rig.client, VIP), (&rig.outside, NODE_PORT)] {
        assert_eq!(host.udp_from(to, 5000).backend(), "a");
    }
    rig.apply([endpoints(&[A, B])]);
    let entries = || {
        rig.on_node("conntrack", &["-L", "-p", "udp"])
            .matches("src=10.244.1.10")
            .count()
    };
    let before = entries();
    assert!(before >= 2, "the flows are tracked");
    assert_eq!(
        rig.client.udp_from(VIP, 5000).backend(),
        "a",
        "a flow stays where it is"
    );
    rig.apply([endpoints(&[B])]);
    for (host, to) in [(&rig.client, VIP), (&rig.outside, NODE_PORT)] {
        assert_eq!(
            host.udp_from(to, 5000).backend(),
            "b",
            "the same port: the old flow is gone"
        );
    }
    rig.apply([endpoints(&[])]);
    assert_eq!(
        rig.client.udp_from(VIP, 5000),
        Outcome::Refused,
        "also when the service scales to zero"
    );
    rig.apply([endpoints(&[A])]);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "a");
}

#[test]
fn established_connections_survive_changes_restarts_and_replacement() {
    let mut rig = Rig::new();
    let objects = || [service(web()), endpoints(&[A])];
    rig.apply(objects());
    let server = rig.a.run(|| TcpListener::bind(("0.0.0.0", 9090)).unwrap());
    let mut with_port = web();
    with_port.ports[0].name = "echo".into();
    with_port.ports[0].port = number(90);
    let echo = [
        Event::Service("default/echo".into(), at(with_port, "10.96.0.9")),
        echo_slice(),
    ];
    rig.apply(echo.clone());
    let mut client = rig.client.run(|| TcpStream::connect("10.96.0.9:90").unwrap());
    let (mut peer, _) = server.accept().unwrap();
    let mut ping = move || {
        let mut byte = [0];
        client.write_all(b"x").unwrap();
        peer.read_exact(&mut byte).unwrap();
        peer.write_all(&byte).unwrap();
        client.read_exact(&mut byte).unwrap();
    };
    ping();
    rig.apply([endpoints(&[A, B])]);
    ping();
    let all = [service(web()), endpoints(&[A, B])].into_iter().chain(echo);
    assert_eq!(rig.restart(all), 0, "a restart writes nothing");
    ping();
    rig.on_node("nft", &["flush", "chain", "ip", "kube-proxy", "dispatch"]);
    rig.on_node("nft", &["delete", "chain", "ip", "kube-proxy", "prerouting"]);
    rig.proxy.tidy().unwrap();
    rig.check();
    ping();
    assert!(matches!(rig.client.tcp(VIP), Outcome::Answer(..)), "repaired");
    rig.apply([Event::ServiceGone("default/echo".into())]);
    ping();
}

#[test]
fn half_a_table_and_another_programs_table_are_replaced() {
    let mut rig = Rig::new();
    let objects = || [service(web()), endpoints(&[A])];
    rig.apply(objects());
    // As after a kill in the middle of the first load: no hooks yet.
    for chain in ["prerouting", "output", "postrouting"] {
        rig.on_node("nft", &["delete", "chain", "ip", "kube-proxy", chain]);
    }
    assert_eq!(rig.client.tcp(VIP), Outcome::Nothing);
    assert!(rig.restart(objects()) > 0);
    assert_eq!(rig.client.tcp(VIP).backend(), "a");
    rig.on_node("nft", &["delete", "table", "ip", "kube-proxy"]);
    rig.on_node(
        "nft",
        &[
            "add",
            "table",
            "ip",
            "kube-proxy",
            "{ comment \"rules for kube-proxy\" ; }",
        ],
    );
    rig.on_node("nft", &["add", "chain", "ip", "kube-proxy", "services"]);
    assert!(rig.restart(objects()) > 0);
    assert_eq!(rig.client.tcp(VIP).backend(), "a");
    let table = rig.on_node("nft", &["list", "table", "ip", "kube-proxy"]);
    assert!(!table.contains("chain services"), "{table}");
}

#[test]
fn a_change_that_the_kernel_refuses_leads_to_a_new_table() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    rig.on_node("nft", &["flush", "map", "ip", "kube-proxy", "endpoints"]);
    assert_eq!(rig.client.tcp(VIP), Outcome::Nothing, "never untranslated");
    rig.apply([endpoints(&[B])]);
    assert_eq!(rig.client.tcp(VIP).backend(), "b");
}

#[test]
fn the_table_has_no_more_chains_and_rules_for_more_services() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    // As another program reads it. The crate's types know no verdict maps, so the kinds are counted in its JSON.
    let shape = |rig: &Rig| {
        let args = ["--terse", "list", "ruleset"];
        let text = rig
            .node
            .run(|| get_current_ruleset_raw(None::<&str>, args).unwrap());
        let ruleset: serde_json::Value = serde_json::from_str(&text).unwrap();
        let objects = ruleset["nftables"].as_array().unwrap();
        ["set", "map", "chain", "rule"].map(|kind| objects.iter().filter(|o| !o[kind].is_null()).count())
    };
    let one = shape(&rig);
    assert_eq!(one, [10, 10, 12, 35], "sets, maps, chains, rules");
    for i in 2..200u8 {
        let key = format!("default/s{i}");
        let mut service = at(web(), &format!("10.96.1.{i}"));
        service.external_ips = [format!("198.51.100.{i}").parse().unwrap()].into();
        for port in &mut service.ports {
            port.node_port = std::num::NonZeroU16::new(31000 + u16::from(i));
        }
        rig.proxy.apply(Event::Service(key.as_str().into(), service));
        rig.proxy.apply(slice_of(&key, A));
    }
    rig.apply([]);
    assert_eq!(shape(&rig), one);
    assert_eq!(rig.client.tcp("10.96.1.77:80").backend(), "a");
    assert_eq!(rig.outside.tcp("192.0.2.1:31199").backend(), "a");
}
