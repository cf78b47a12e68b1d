//! What our plugin does beyond the stock ones: it leaves nothing after a failure, recovers from crashes, collects garbage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::net::IpAddr;

use harness::traffic::throughput;
use harness::{Answer, Host, Namespace, address, on_host, ours};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.1.0/24";
/// More steps than a plan has: a fault behind the last one does nothing.
const STEPS: usize = 16;

/// The short form, with room for two pods.
fn small(host: &Host) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "gantry-cni", "clusterCIDRs": ["10.99.0.0/16"],
        "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": { "dataDir": host.data.path(), "subnet": SUBNET, "rangeStart": "10.99.1.8", "rangeEnd": "10.99.1.9" }
    })
}

/// The same with limits, so that a plan has every kind of step.
fn shaped(host: &Host) -> Value {
    let mut config = small(host);
    config["runtimeConfig"] = json!({ "bandwidth": {
        "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000
    } });
    config
}

fn call(host: &Host, command: &str, config: &Value, container: &str, pod: &Namespace) -> Answer {
    let variables = [
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", pod.path().to_str().unwrap()),
    ];
    host.call_plugin(&ours(), command, &config.to_string(), &variables)
}

/// ADD with a fault, see `fault`.
fn faulty_add(host: &Host, fault: &str, config: &Value, container: &str, pod: &Namespace) -> Answer {
    let netns = pod.path().to_str().unwrap();
    let variables = [
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", netns),
        ("GANTRY_CNI_FAULT", fault),
    ];
    host.call_plugin(&ours(), "ADD", &config.to_string(), &variables)
}

fn add(host: &Host, config: &Value, container: &str, pod: &Namespace) -> Value {
    call(host, "ADD", config, container, pod).result()
}

/// How many containers can be added now.
fn free_addresses(host: &Host, config: &Value) -> usize {
    let pods: Vec<_> = (0..4).map(|_| Namespace::new()).collect();
    let names: Vec<_> = (0..4).map(|number| format!("probe{number}")).collect();
    let added = pods
        .iter()
        .zip(&names)
        .take_while(|(pod, name)| call(host, "ADD", config, name, pod).ok);
    let added = added.count();
    for (pod, name) in pods.iter().zip(&names) {
        assert!(call(host, "DEL", config, name, pod).ok);
    }
    added
}

#[test]
fn a_failure_at_any_step_leaves_nothing_of_the_pod() {
    for step in 0..STEPS {
        on_host(|host| {
            let config = shaped(host);
            let pod = Namespace::new();
            let answer = faulty_add(host, &format!("fail:{step}"), &config, "a", &pod);
            if answer.ok {
                assert!(step > 11, "the plan has more steps than {step}");
                return;
            }
            assert!(answer.error()["details"].as_str().unwrap().contains("injected"));
            assert_eq!(host.devices(), [""; 0], "step {step}");
            assert!(!pod.ip("link").contains("eth0"));
            assert_eq!(free_addresses(host, &config), 2, "step {step}");
            add(host, &config, "a", &pod);
        });
    }
}

#[test]
fn an_add_killed_at_any_step_is_cleaned_up_by_del() {
    for step in 0..STEPS {
        on_host(|host| {
            let config = shaped(host);
            let pod = Namespace::new();
            let killed = !faulty_add(host, &format!("kill:{step}"), &config, "a", &pod).ok;
            assert!(killed || step > 11);
            assert!(call(host, "DEL", &config, "a", &pod).ok);
            assert_eq!(host.devices(), [""; 0], "step {step}");
            assert_eq!(free_addresses(host, &config), 2, "step {step}");
            add(host, &config, "a", &pod);
        });
    }
}

#[test]
fn addresses_of_killed_adds_and_vanished_namespaces_come_back_without_del() {
    for step in 0..STEPS {
        on_host(|host| {
            let config = shaped(host);
            let killed = Namespace::new();
            faulty_add(host, &format!("kill:{step}"), &config, "killed", &killed);
            let vanished = Namespace::new();
            add(host, &config, "vanished", &vanished);
            drop((killed, vanished));
            // The kernel tears namespaces down in the background.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while !host.veths().is_empty() {
                assert!(std::time::Instant::now() < deadline, "{:?}", host.veths());
                std::thread::yield_now();
            }
            // The range has only these two.
            let next = Namespace::new();
            add(host, &config, "next", &next);
            assert!(call(host, "DEL", &config, "next", &next).ok);
            assert_eq!(host.devices(), [""; 0], "step {step}");
            assert_eq!(free_addresses(host, &config), 2, "step {step}");
        });
    }
}

#[test]
fn a_killed_add_of_a_vanished_namespace_is_no_obstacle() {
    on_host(|host| {
        let config = shaped(host);
        let pod = Namespace::new();
        assert!(!faulty_add(host, "kill:12", &config, "a", &pod).ok);
        drop(pod);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !host.veths().is_empty() {
            assert!(std::time::Instant::now() < deadline, "{:?}", host.veths());
            std::thread::yield_now();
        }
        assert_eq!(host.devices().len(), 1, "the ifb");
        add(host, &config, "a", &Namespace::new());
        assert_eq!(host.devices().len(), 2);
    });
}

#[test]
fn a_refused_add_leaves_nothing() {
    on_host(|host| {
        let config = small(host);
        let pods: Vec<_> = (0..3).map(|_| Namespace::new()).collect();
        add(host, &config, "a", &pods[0]);
        add(host, &config, "b", &pods[1]);
        let error = call(host, "ADD", &config, "c", &pods[2]).error();
        assert_eq!(error["code"], 11);
        let msg = error["msg"].as_str().unwrap();
        assert!(
            msg.contains("10.99.1.8-10.99.1.9") && msg.contains("\"net\""),
            "{msg}"
        );
        assert_eq!(host.veths().len(), 2);
        assert!(!pods[2].ip("link").contains("eth0"));
        let status = call(host, "STATUS", &config, "", &pods[2]);
        assert!(
            status.ok,
            "the pods that have addresses would be evicted: {status:?}"
        );
        for pod in [&pods[0], &pods[1]] {
            assert_eq!(call(host, "ADD", &config, "c", pod).error()["code"], 11);
        }
        assert!(call(host, "DEL", &config, "a", &pods[0]).ok);
        let again = call(host, "ADD", &config, "c", &pods[1]).error();
        assert_eq!(again["code"], 102, "the name inside is taken");
        assert_eq!(free_addresses(host, &config), 1);
    });
}

#[test]
fn namespaces_that_are_none_have_their_codes() {
    on_host(|host| {
        let config = small(host).to_string();
        let code = |netns: &str| {
            let variables = [("CNI_CONTAINERID", "a"), ("CNI_NETNS", netns)];
            host.call_plugin(&ours(), "ADD", &config, &variables).error()["code"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(code("/run/netns/there-is-none"), 3);
        assert_eq!(code("/etc/passwd"), 4);
        assert_eq!(code(host.namespace.path().to_str().unwrap()), 4, "the host's own");
        assert_eq!(host.veths(), [""; 0]);
    });
}

#[test]
fn the_cluster_sees_pods_and_the_rules_do_not_grow() {
    on_host(|host| {
        let mut config = small(host);
        config["ipam"] = json!({ "dataDir": host.data.path(), "subnet": SUBNET });
        config["clusterCIDRs"] = json!(["10.99.0.0/16", "192.0.2.0/24"]);
        let outside = host.outside(SUBNET);
        outside.serve("192.0.2.2:7".parse().unwrap());
        let pods: Vec<_> = (0..5).map(|_| Namespace::new()).collect();
        let first = add(host, &config, "a", &pods[0]);
        assert_eq!(pods[0].ask("192.0.2.2:7".parse().unwrap()), address(&first));
        let rules = host.namespace.program("nft", "list ruleset");
        for (number, pod) in pods.iter().enumerate().skip(1) {
            add(host, &config, &format!("c{number}"), pod);
        }
        assert_eq!(host.namespace.program("nft", "list ruleset"), rules);
        // A changed configuration replaces the table at the next ADD.
        config["clusterCIDRs"] = json!(["10.99.0.0/16"]);
        let late = Namespace::new();
        add(host, &config, "late", &late);
        assert_eq!(
            late.ask("192.0.2.2:7".parse().unwrap()),
            IpAddr::from([192, 0, 2, 1])
        );
        assert_eq!(host.namespace.program("nft", "list tables").lines().count(), 1);
    });
}

#[test]
fn gc_removes_what_is_not_valid() {
    on_host(|host| {
        let mut config = shaped(host);
        let (a, b) = (Namespace::new(), Namespace::new());
        add(host, &config, "a", &a);
        add(host, &config, "b", &b);
        assert_eq!(
            call(host, "GC", &config, "", &a).error()["code"],
            7,
            "no list is not an empty list"
        );
        config["cni.dev/valid-attachments"] = json!([{ "containerID": "b", "ifname": "eth0" }]);
        assert!(call(host, "GC", &config, "", &a).ok);
        assert!(!a.ip("link").contains("eth0") && b.ip("link").contains("eth0"));
        assert_eq!(host.devices().len(), 2);
        assert_eq!(free_addresses(host, &config), 1);
        config["cniVersion"] = json!("1.0.0");
        assert_eq!(call(host, "GC", &config, "", &a).error()["code"], 1);
    });
}

#[test]
fn a_foreign_bridge_is_used_if_it_fits_and_refused_if_not() {
    on_host(|host| {
        let mut config = small(host);
        config["bridge"] = json!("mine");
        host.ip("link add mine type bridge");
        let pod = Namespace::new();
        add(host, &config, "a", &pod);
        assert!(host.ip("addr show mine").contains("10.99.1.1/24"));
        config["bridge"] = json!("other");
        host.ip("link add other type bridge");
        host.ip("addr add 172.17.0.1/16 dev other");
        let pod = Namespace::new();
        let error = call(host, "ADD", &config, "b", &pod).error();
        assert_eq!(error["code"], 103);
        assert!(
            error["msg"].as_str().unwrap().contains("172.17.0.1/16"),
            "{error}"
        );
        config["bridge"] = json!("lo");
        assert_eq!(call(host, "ADD", &config, "b", &pod).error()["code"], 103);
        assert_eq!(host.veths().len(), 1);
    });
}

#[test]
fn no_advertisement_is_accepted_and_no_address_is_tentative() {
    on_host(|host| {
        let mut config = small(host);
        config["ipam"] = json!({
            "dataDir": host.data.path(), "ranges": [[{ "subnet": SUBNET }], [{ "subnet": "fd00:99::/64" }]]
        });
        let pod = Namespace::new();
        add(host, &config, "a", &pod);
        assert_eq!(host.namespace.read("/proc/sys/net/ipv6/conf/cni0/accept_ra"), "0");
        assert_eq!(pod.read("/proc/sys/net/ipv6/conf/eth0/accept_ra"), "0");
        assert_eq!(pod.read("/proc/sys/net/ipv6/conf/eth0/accept_dad"), "0");
        for (namespace, device) in [(&host.namespace, "cni0"), (&pod, "eth0")] {
            let listed = namespace.ip(&format!("-6 -o addr show dev {device} scope global"));
            assert!(
                listed.contains("fd00:99::") && !listed.contains("tentative"),
                "{listed}"
            );
        }
        assert_eq!(host.namespace.read("/proc/sys/net/ipv6/conf/all/forwarding"), "1");
        // The pod's end has its link-local address, the port of the bridge has none.
        assert!(pod.ip("-6 addr show dev eth0").contains("fe80::"));
        let ports = host.namespace.ip("-6 addr show type bridge_slave");
        assert!(!ports.contains("inet6"), "{ports}");
    });
}

/// Each would cost more, the more pods there are.
#[test]
fn there_is_no_queue_no_snooping_and_no_address_that_nobody_asked_for() {
    on_host(|host| {
        let config = small(host);
        let pod = Namespace::new();
        add(host, &config, "a", &pod);
        let port = host.ip("-d link show type veth");
        let inside = pod.ip("-d link show eth0");
        for end in [&port, &inside] {
            assert!(end.contains("numtxqueues 1 numrxqueues 1 "), "{end}");
        }
        assert!(port.contains("LOWER_UP") && port.contains("state UP"), "{port}");
        assert!(host.ip("-d link show cni0").contains("mcast_snooping 0"));
        assert_eq!(pod.ip("-6 addr show dev eth0"), "");
        assert_eq!(pod.read("/proc/sys/net/ipv6/conf/eth0/accept_ra"), "0");
    });
}

#[test]
fn the_mtu_is_that_of_the_uplink_and_stays() {
    on_host(|host| {
        let config = small(host);
        let outside = host.outside(SUBNET);
        let uplink = host.veths().pop().unwrap();
        host.ip(&format!("link set {uplink} mtu 1420"));
        host.ip("route add default via 192.0.2.2");
        for container in ["a", "b"] {
            let pod = Namespace::new();
            assert_eq!(add(host, &config, container, &pod)["interfaces"][2]["mtu"], 1420);
            assert!(pod.ip("link show eth0").contains("mtu 1420"));
            assert!(call(host, "DEL", &config, container, &pod).ok);
        }
        drop(outside);
    });
}

#[test]
fn an_unwritable_store_is_an_input_output_error() {
    on_host(|host| {
        let mut config = small(host);
        config["ipam"]["dataDir"] = json!("/proc/nothing");
        let pod = Namespace::new();
        let error = call(host, "ADD", &config, "a", &pod).error();
        assert_eq!(error["code"], 5);
        assert!(!error["details"].as_str().unwrap().is_empty());
        assert!(call(host, "DEL", &config, "a", &pod).ok);
    });
}

#[test]
fn a_hundred_dels_at_once_leave_nothing() {
    on_host(|host| {
        let mut config = small(host);
        config["ipam"] = json!({ "dataDir": host.data.path(), "subnet": SUBNET });
        let pods: Vec<_> = (0..100).map(|_| Namespace::new()).collect();
        let each = |command: &'static str| {
            std::thread::scope(|scope| {
                for (number, pod) in pods.iter().enumerate() {
                    let config = &config;
                    scope.spawn(move || {
                        let answer = call(host, command, config, &format!("c{number}"), pod);
                        assert!(answer.ok, "{}", answer.stdout);
                    });
                }
            });
        };
        each("ADD");
        assert_eq!(host.veths().len(), 100);
        each("DEL");
        assert_eq!(host.veths(), [""; 0]);
    });
}

/// What containerd asks for: a burst that takes longer at this rate than the kernel's clock of queues can count. With the
/// stock plugin it wraps around.
#[test]
fn the_largest_burst_is_not_cut_off_at_a_low_rate() {
    on_host(|host| {
        let mut config = small(host);
        config["runtimeConfig"] =
            json!({ "bandwidth": { "ingressRate": 1_000_000, "ingressBurst": 4_294_967_295_u32 } });
        let pod = Namespace::new();
        let result = add(host, &config, "a", &pod);
        let rate = throughput(&host.namespace, &pod, address(&result), 3_000_000);
        assert!(rate > 1_000_000.0, "{rate} bytes a second");
        config["prevResult"] = result;
        assert!(call(host, "CHECK", &config, "a", &pod).ok);
    });
}
