//! Other programs: they flush and change our table, have tables of their own, or left some.

use std::time::{Duration, Instant};

use gantry_nft::Nft;
use gantry_proxy::leftovers;
use gantry_proxy_core::NodeFacts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::host::Outcome;
use crate::objects::*;
use crate::rig::Rig;

const VIP: &str = "10.96.0.1:80";

fn nft(rig: &Rig, arguments: &str) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    rig.on_node("nft", &arguments);
}

/// Waits until the kernel tells something, for at most a few seconds.
fn told(rig: &mut Rig) -> bool {
    let fd = rig.proxy.ours().notifications();
    let patience = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)).unwrap() > 0
}

/// Does what the main loop does when it is told.
fn repair(rig: &mut Rig) {
    assert!(
        told(rig) && rig.proxy.ours().look().unwrap(),
        "the change is noticed"
    );
    assert!(rig.proxy.ours().is_behind());
    rig.proxy.ours().sync().unwrap();
    rig.check();
}

#[test]
fn a_flushed_ruleset_comes_back_under_traffic() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A, B])]);
    assert!(!rig.proxy.ours().look().unwrap(), "our own changes are no news");
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        assert!(matches!(rig.client.tcp(VIP), Outcome::Answer(..)));
        nft(&rig, "flush ruleset");
        let flushed = Instant::now();
        repair(&mut rig);
        longest = longest.max(flushed.elapsed());
        assert!(matches!(rig.client.tcp(VIP), Outcome::Answer(..)));
        assert!(matches!(rig.client.udp(VIP), Outcome::Answer(..)));
        assert!(matches!(rig.outside.tcp("192.0.2.1:30080"), Outcome::Answer(..)));
    }
    println!("the longest repair took {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    rig.apply([endpoints(&[B])]);
    assert_eq!(rig.client.tcp(VIP).backend(), "b", "and it goes on from there");
}

#[test]
fn any_change_of_our_table_is_put_right_and_flows_that_slipped_past_end() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    // Packets are still tracked, so a flow past the service comes to be.
    nft(&rig, "flush chain ip kube-proxy dispatch");
    let past = rig.client.udp_from(VIP, 5000);
    assert!(!matches!(past, Outcome::Answer(..)), "{past:?}");
    repair(&mut rig);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "a");
    for change in [
        "add rule ip kube-proxy dispatch drop",
        "insert rule ip kube-proxy dispatch drop",
        "delete element ip kube-proxy cluster-ips { 10.96.0.1 }",
        "flush map ip kube-proxy endpoints",
        "delete table ip kube-proxy",
    ] {
        nft(&rig, change);
        repair(&mut rig);
        assert!(
            matches!(rig.client.tcp(VIP), Outcome::Answer(..)),
            "after {change}"
        );
    }
}

#[test]
fn what_the_kernel_learns_by_itself_is_no_change() {
    let mut rig = Rig::new();
    let mut sticky = web();
    sticky.affinity_secs = std::num::NonZeroU32::new(60);
    rig.apply([service(sticky), endpoints(&[A, B])]);
    for host in [&rig.client, &rig.outside, &rig.node] {
        assert!(matches!(host.tcp(VIP), Outcome::Answer(..)));
        assert!(matches!(host.udp(VIP), Outcome::Answer(..)));
    }
    assert!(!rig.proxy.ours().look().unwrap(), "clients are remembered");
}

#[test]
fn a_change_that_comes_before_ours_is_seen_with_ours() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    nft(&rig, "delete table ip kube-proxy");
    rig.apply([endpoints(&[A, B])]);
    assert!(matches!(rig.client.tcp(VIP), Outcome::Answer(..)));
}

#[test]
fn other_tables_are_left_alone() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    nft(&rig, "add table ip other");
    nft(
        &rig,
        "add chain ip other forward { type filter hook forward priority 0; }",
    );
    nft(
        &rig,
        "add rule ip other forward ip daddr 10.244.1.10 counter drop",
    );
    nft(&rig, "add table ip6 kube-proxy");
    assert!(!rig.proxy.ours().look().unwrap(), "no concern of ours");
    assert_eq!(
        rig.outside.tcp(VIP),
        Outcome::Nothing,
        "a drop elsewhere still drops"
    );
    nft(&rig, "flush table ip kube-proxy");
    repair(&mut rig);
    let all = rig.on_node("nft", &["list", "ruleset"]);
    assert!(all.contains("ip daddr 10.244.1.10 counter packets"), "{all}");
}

#[test]
fn node_ports_move_with_the_nodes_address() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    rig.on_node("ip", &["addr", "add", "192.0.2.2/24", "dev", "outside"]);
    assert_eq!(rig.outside.tcp("192.0.2.2:30080"), Outcome::Refused);
    rig.proxy.ours().set_facts(NodeFacts {
        pod_ranges: vec!["10.244.0.0/16".parse().unwrap()],
        service_ranges: vec!["10.96.0.0/16".parse().unwrap(), "10.100.0.0/24".parse().unwrap()],
        node_addresses: vec!["192.0.2.2".parse().unwrap()],
        ..NodeFacts::default()
    });
    rig.proxy.ours().sync().unwrap();
    rig.check();
    assert_eq!(rig.outside.tcp("192.0.2.2:30080").backend(), "a");
    assert_eq!(rig.outside.tcp("192.0.2.1:30080"), Outcome::Refused);
    assert_eq!(
        rig.outside.tcp("10.100.0.7:80"),
        Outcome::Nothing,
        "a new range of services"
    );
}

#[test]
fn what_another_mode_left_is_named() {
    let rig = Rig::new();
    let find = || rig.node.run(|| leftovers::find(&mut Nft::open().unwrap()));
    assert_eq!(find(), Vec::<String>::new());
    for command in [
        "add table ip nat",
        "add chain ip nat KUBE-KUBELET-CANARY",
        "add chain ip nat KUBE-SERVICES",
        "add table ip6 mangle",
        "add chain ip6 mangle KUBE-PROXY-CANARY",
    ] {
        nft(&rig, command);
    }
    assert_eq!(
        find(),
        [
            "chains KUBE-SERVICES of table ip nat",
            "chains KUBE-PROXY-CANARY of table ip6 mangle"
        ]
    );
}
