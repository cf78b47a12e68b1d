//! Session affinity: behaviour 10.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use gantry_nft::Family;
use gantry_proxy::table::Layout;
use gantry_proxy_core::{Event, Policy, Service};

use crate::host::{Host, Outcome};
use crate::objects::*;
use crate::rig::{LAYOUT, Rig};

const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.0.2.1:30080";
pub(crate) const HOUR: u32 = 3600;

pub(crate) fn sticky(secs: u32) -> Service {
    Service {
        affinity_secs: NonZeroU32::new(secs),
        ..web()
    }
}

/// The backend that ten connections went to, all of them.
pub(crate) fn only_backend(attempt: impl Fn() -> Outcome) -> String {
    let first = attempt().backend().to_owned();
    for _ in 0..10 {
        assert_eq!(attempt().backend(), first);
    }
    first
}

fn other(name: &str) -> &'static str {
    if name == "a" { "b" } else { "a" }
}

fn address(name: &str) -> &'static str {
    if name == "a" { A } else { B }
}

#[test]
fn a_client_stays_with_its_endpoint_until_that_is_gone() {
    let mut rig = Rig::new();
    rig.apply([service(sticky(HOUR)), endpoints(&[A, B])]);
    for to in [VIP, NODE_PORT] {
        type Attempt = fn(&Host, &str) -> Outcome;
        for attempt in [Host::tcp as Attempt, Host::udp] {
            rig.apply([endpoints(&[A, B])]);
            let hosts = [&rig.client, &rig.outside, &rig.node];
            let before = hosts.map(|host| only_backend(|| attempt(host, to)));
            // One more changes nothing; nor does a restart.
            let all = || [service(sticky(HOUR)), endpoints(&[A, B, REMOTE])];
            rig.apply(all());
            rig.restart_in_peace(all());
            let hosts = [&rig.client, &rig.outside, &rig.node];
            assert_eq!(hosts.map(|host| only_backend(|| attempt(host, to))), before);
            // The client's endpoint goes: it moves, and stays there when the endpoint comes back.
            let gone = before[0].clone();
            rig.apply([endpoints(&[address(other(&gone))])]);
            let hosts = [&rig.client, &rig.outside, &rig.node];
            for host in hosts {
                assert_eq!(only_backend(|| attempt(host, to)), other(&gone));
            }
            rig.apply([endpoints(&[A, B])]);
            assert_eq!(only_backend(|| attempt(&rig.client, to)), other(&gone));
        }
    }
    assert!(rig.clients() > 0);
    rig.apply([endpoints(&[])]);
    assert_eq!(rig.client.tcp(VIP), Outcome::Refused);
    assert_eq!(rig.clients(), 0, "nobody is remembered without an endpoint");
}

#[test]
fn the_time_starts_anew_with_each_connection_and_ends() {
    let mut rig = Rig::new();
    rig.apply([service(sticky(1)), endpoints(&[A, B])]);
    let start = Instant::now();
    let first = rig.client.tcp(VIP).backend().to_owned();
    while start.elapsed() < Duration::from_millis(3500) {
        assert_eq!(
            rig.client.tcp(VIP).backend(),
            first,
            "within the time of the last one"
        );
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while rig.clients() > 0 {
        assert!(Instant::now() < deadline, "the time does not end");
        std::thread::yield_now();
    }
    // The service's longer time holds for what is learnt from now on.
    rig.apply([service(sticky(HOUR))]);
    only_backend(|| rig.client.tcp(VIP));
}

#[test]
fn a_local_policy_keeps_clients_on_endpoints_of_this_node() {
    let mut rig = Rig::new();
    let with = |external, internal| {
        service(Service {
            external,
            internal,
            ..sticky(HOUR)
        })
    };
    rig.apply([with(Policy::Cluster, Policy::Cluster), endpoints(&[A, B, REMOTE])]);
    // Until the outside client and the pod have both been sent to the endpoint that does not answer.
    for (host, to) in [(&rig.outside, NODE_PORT), (&rig.client, VIP)] {
        let deadline = Instant::now() + Duration::from_secs(30);
        while host.tcp(to) != Outcome::Nothing {
            rig.forget_clients();
            assert!(Instant::now() < deadline);
        }
        assert_eq!(host.tcp(to), Outcome::Nothing, "it stays there");
    }
    rig.apply([with(Policy::Local, Policy::Local)]);
    let backend = only_backend(|| rig.outside.tcp(NODE_PORT));
    only_backend(|| rig.client.tcp(VIP));
    assert_eq!(rig.outside.tcp(NODE_PORT).seen(), "192.0.2.100");
    rig.apply([endpoints(&[address(other(&backend)), REMOTE])]);
    assert_eq!(only_backend(|| rig.outside.tcp(NODE_PORT)), other(&backend));
    assert_eq!(only_backend(|| rig.client.tcp(VIP)), other(&backend));
}

#[test]
fn affinity_is_switched_on_and_off_and_not_shared() {
    let mut rig = Rig::new();
    // Another service without affinity whose port has the number of the node port.
    let mut plain = at(web(), "10.96.0.2");
    for port in &mut plain.ports {
        port.port = number(30080);
    }
    plain.external_ips = ["203.0.113.9".parse().unwrap()].into();
    rig.apply([
        service(sticky(HOUR)),
        endpoints(&[A]),
        Event::Service("default/plain".into(), plain),
        slice_of("default/plain", B),
    ]);
    for to in ["10.96.0.2:30080", "203.0.113.9:30080"] {
        for host in [&rig.client, &rig.outside, &rig.node] {
            assert_eq!(host.tcp(to).backend(), "b");
        }
    }
    assert_eq!(rig.clients(), 0, "that service remembers nobody");
    assert_eq!(rig.outside.tcp(NODE_PORT).backend(), "a");
    assert_eq!(rig.clients(), 1);
    rig.apply([service(web()), endpoints(&[A, B])]);
    assert_eq!(rig.clients(), 0, "forgotten with the affinity");
    let deadline = Instant::now() + Duration::from_secs(10);
    while rig.outside.tcp(NODE_PORT).backend() != "b" {
        assert!(Instant::now() < deadline, "still sticky");
    }
    rig.apply([service(sticky(HOUR))]);
    only_backend(|| rig.outside.tcp(NODE_PORT));
    only_backend(|| rig.client.tcp(VIP));
    rig.apply([Event::ServiceGone("default/web".into())]);
    assert_eq!(rig.clients(), 0);
}

#[test]
fn affinity_works_in_ipv6() {
    let mut rig = Rig::laid_out(Layout {
        family: Family::Ipv6,
        ..LAYOUT
    });
    let of = Service {
        cluster_ip: Some("fd00:96::1".parse().unwrap()),
        ..sticky(HOUR)
    };
    rig.apply([service(of), endpoints(&["fd00:244::10", "fd00:244::11"])]);
    for (host, to) in [
        (&rig.client, "[fd00:96::1]:80"),
        (&rig.outside, "[fd00:192::1]:30080"),
    ] {
        host.reaches(to);
        only_backend(|| host.tcp(to));
        only_backend(|| host.udp(to));
    }
    assert_eq!(rig.clients(), 4);
    rig.apply([endpoints(&["fd00:244::11"])]);
    assert_eq!(only_backend(|| rig.client.tcp("[fd00:96::1]:80")), "b");
}
