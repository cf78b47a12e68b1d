//! Our table and what others make of it.

use gantry_proxy_core::Event;
use nftables::helper::get_current_ruleset_raw;

use crate::host::Outcome;
use crate::objects::*;
use crate::rig::Rig;

const VIP: &str = "10.96.0.1:80";

#[test]
fn half_a_table_is_put_right_by_tidying() {
    let mut rig = Rig::new();
    rig.apply([service(web()), endpoints(&[A])]);
    rig.on_node("nft", &["flush", "chain", "ip", "kube-proxy", "dispatch"]);
    rig.on_node("nft", &["delete", "chain", "ip", "kube-proxy", "prerouting"]);
    rig.proxy.ours().tidy().unwrap();
    rig.check();
    assert_eq!(rig.client.tcp(VIP).backend(), "a");
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
    assert!(rig.restart(objects()) > Some(0));
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
    assert!(rig.restart(objects()) > Some(0));
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
        rig.proxy
            .ours()
            .apply(Event::Service(key.as_str().into(), service));
        rig.proxy.ours().apply(slice_of(&key, A));
    }
    rig.apply([]);
    assert_eq!(shape(&rig), one);
    assert_eq!(rig.client.tcp("10.96.1.77:80").backend(), "a");
    assert_eq!(rig.outside.tcp("192.0.2.1:31199").backend(), "a");
}
