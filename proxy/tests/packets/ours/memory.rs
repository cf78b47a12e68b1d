//! What the kernel remembers of clients and flows, and is told to forget.

use crate::affinity::{HOUR, only_backend, sticky};
use crate::host::Outcome;
use crate::objects::*;
use crate::rig::Rig;

const VIP: &str = "10.96.0.1:80";

#[test]
fn what_a_late_packet_taught_is_forgotten_by_the_second_look() {
    let mut rig = Rig::new();
    rig.apply([service(sticky(HOUR)), endpoints(&[A, B])]);
    only_backend(|| rig.client.tcp(VIP));
    rig.apply([endpoints(&[B])]);
    assert!(rig.proxy.ours().due().is_some());
    // As a packet that took its way before the change.
    let late = "{ 10.244.1.2 . 10.96.0.1 . tcp . 80 timeout 1h : 10.244.1.10 . 8080 }";
    rig.on_node("nft", &["flush", "map", "ip", "kube-proxy", "affinity"]);
    rig.on_node("nft", &["add", "element", "ip", "kube-proxy", "affinity", late]);
    assert_eq!(
        rig.client.tcp(VIP).backend(),
        "a",
        "the kernel does not know better"
    );
    rig.proxy.ours().look_again();
    assert_eq!(only_backend(|| rig.client.tcp(VIP)), "b");
    assert_eq!(rig.proxy.ours().due(), None);
}

#[test]
fn udp_flows_end_with_the_last_endpoint() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[B])]);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "b");
    rig.apply([endpoints(&[])]);
    // With the reference this flow goes on.
    assert_eq!(rig.client.udp_from(VIP, 5000), Outcome::Refused);
    rig.apply([endpoints(&[A])]);
    assert_eq!(rig.client.udp_from(VIP, 5000).backend(), "a");
}
