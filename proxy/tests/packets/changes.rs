//! What flows and connections live through.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use gantry_proxy_core::Event;

use crate::host::Outcome;
use crate::objects::*;
use crate::rig::Rig;

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
}

#[test]
fn established_connections_survive_changes_restarts_and_replacement() {
    let mut rig = Rig::new();
    let objects = || [service(web()), endpoints(&[A])];
    rig.apply(objects());
    let server = rig.a.run(|| TcpListener::bind(("0.0.0.0", 9090)).unwrap());
    let echo = [Event::Service("default/echo".into(), echo()), echo_slice(&[A])];
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
    let all = [service(web()), endpoints(&[A, B])]
        .into_iter()
        .chain(echo.clone());
    rig.restart_in_peace(all);
    ping();
    rig.on_node("nft", &["delete", "table", "ip", "kube-proxy"]);
    rig.restart([service(web()), endpoints(&[A, B])].into_iter().chain(echo));
    ping();
    assert!(matches!(rig.client.tcp(VIP), Outcome::Answer(..)), "there again");
    rig.apply([Event::ServiceGone("default/echo".into())]);
    ping();
}
