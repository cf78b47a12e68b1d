//! Limits of a pod's bandwidth: run against ours, and against the stock `bridge` with `bandwidth` after it (see `harness`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::net::IpAddr;

use harness::traffic::throughput;
use harness::{Answer, Host, Namespace, address, on_host, reference};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.1.0/24";
/// Bytes in a second; below as bits.
const RATE: f64 = 2_000_000.0;
const BYTES: usize = 3_000_000;

fn limits(directions: &[&str]) -> Value {
    let mut limits = json!({});
    for direction in directions {
        limits[format!("{direction}Rate")] = json!(16_000_000);
        limits[format!("{direction}Burst")] = json!(800_000);
    }
    limits
}

/// A call of the plugin, or of the stock plugins one after the other. The result of ADD is in `config` afterwards.
fn call(host: &Host, command: &str, config: &mut Value, container: &str, netns: &str) -> Answer {
    let Some(directory) = reference() else {
        let answer = host.call(command, config, container, netns);
        if answer.ok && command == "ADD" {
            config["prevResult"] = answer.result();
        }
        return answer;
    };
    let variables = [("CNI_CONTAINERID", container), ("CNI_NETNS", netns)];
    let second = |config: &Value| {
        let mut stdin = json!({ "name": config["name"], "type": "bandwidth" });
        for field in ["cniVersion", "runtimeConfig", "prevResult"] {
            stdin[field] = config[field].clone();
        }
        host.call_plugin(
            &directory.join("bandwidth"),
            command,
            &stdin.to_string(),
            &variables,
        )
    };
    if command == "ADD" {
        config["prevResult"] = host.call(command, config, container, netns).result();
        let answer = second(config);
        if answer.ok {
            config["prevResult"] = answer.result();
        }
        return answer;
    }
    let answer = second(config);
    if answer.ok {
        return host.call(command, config, container, netns);
    }
    answer
}

/// A pod with these limits; its configuration then has the result.
fn limited(host: &Host, directions: &[&str], container: &str) -> (Namespace, Value) {
    let pod = Namespace::new();
    let mut config = host.config(SUBNET);
    config["runtimeConfig"] = json!({ "bandwidth": limits(directions) });
    let answer = call(host, "ADD", &mut config, container, pod.path().to_str().unwrap());
    assert!(answer.ok, "{}", answer.stdout);
    (pod, config)
}

fn del(host: &Host, config: &mut Value, container: &str, netns: &str) {
    let answer = call(host, "DEL", config, container, netns);
    assert!(answer.ok, "{}", answer.stdout);
}

/// A slow machine makes all of it slower; only the limit may keep it from being faster.
fn assert_limited(rate: f64) {
    assert!(
        rate > RATE / 5.0 && rate < RATE * 1.25,
        "{rate:.0} bytes a second at a limit of {RATE:.0}"
    );
}

#[test]
fn what_a_pod_receives_and_sends_is_limited_each_by_its_own() {
    on_host(|host| {
        let gateway: IpAddr = [10, 99, 1, 1].into();
        let (pod, config) = limited(host, &["ingress", "egress"], "both");
        let own = address(&config["prevResult"]);
        assert_limited(throughput(&host.namespace, &pod, own, BYTES));
        assert_limited(throughput(&pod, &host.namespace, gateway, BYTES));
        let (pod, config) = limited(host, &["ingress"], "in");
        let own = address(&config["prevResult"]);
        assert_limited(throughput(&host.namespace, &pod, own, BYTES));
        assert!(throughput(&pod, &host.namespace, gateway, BYTES) > RATE * 2.0);
        let (pod, config) = limited(host, &["egress"], "out");
        let own = address(&config["prevResult"]);
        assert_limited(throughput(&pod, &host.namespace, gateway, BYTES));
        assert!(throughput(&host.namespace, &pod, own, BYTES) > RATE * 2.0);
    });
}

#[test]
fn between_two_pods_both_limits_hold() {
    on_host(|host| {
        let (a, _config) = limited(host, &["egress"], "a");
        let (b, config) = limited(host, &[], "b");
        assert_limited(throughput(&a, &b, address(&config["prevResult"]), BYTES));
        let (c, config) = limited(host, &["ingress"], "c");
        assert_limited(throughput(&b, &c, address(&config["prevResult"]), BYTES));
    });
}

#[test]
fn the_kernel_has_the_queues_of_the_stock_plugin() {
    on_host(|host| {
        let (_pod, config) = limited(host, &["ingress", "egress"], "a");
        let interfaces = config["prevResult"]["interfaces"].as_array().unwrap();
        let name = |number: usize| interfaces[number]["name"].as_str().unwrap();
        let (host_end, ifb) = (name(1), name(3));
        assert!(interfaces[3].get("sandbox").is_none_or(|sandbox| sandbox == ""));
        for device in [host_end, ifb] {
            let listed = host.namespace.program("tc", &format!("qdisc show dev {device}"));
            assert!(
                listed.contains("tbf 1: root") && listed.contains("rate 16Mbit burst 1000"),
                "{listed}"
            );
            assert!(listed.contains("lat 25ms"), "{listed}");
        }
        let mac = interfaces[3]["mac"].as_str().unwrap();
        assert!(host.ip(&format!("link show {ifb}")).contains(mac));
        let filters = host
            .namespace
            .program("tc", &format!("filter show dev {host_end} ingress"));
        assert!(
            filters.contains(&format!("Egress Redirect to device {ifb}")),
            "{filters}"
        );
    });
}

#[test]
fn del_leaves_no_device() {
    on_host(|host| {
        let (pod, mut config) = limited(host, &["ingress", "egress"], "a");
        assert_eq!(host.devices().len(), 2);
        let path = pod.path().to_str().unwrap().to_owned();
        del(host, &mut config, "a", &path);
        assert_eq!(host.devices(), [""; 0]);
        del(host, &mut config, "a", &path);
        let (pod, mut config) = limited(host, &["egress"], "b");
        drop(pod);
        del(host, &mut config, "b", "");
        assert!(host.ip("-o link show type ifb").is_empty());
    });
}

#[test]
fn check_finds_a_lifted_limit() {
    on_host(|host| {
        let (pod, mut config) = limited(host, &["ingress", "egress"], "a");
        let path = pod.path().to_str().unwrap().to_owned();
        let answer = call(host, "CHECK", &mut config, "a", &path);
        assert!(answer.ok, "{}", answer.stdout);
        let mut other = config.clone();
        other["runtimeConfig"]["bandwidth"]["ingressRate"] = json!(17_000_000);
        call(host, "CHECK", &mut other, "a", &path).error();
        let mut other = config.clone();
        other["runtimeConfig"]["bandwidth"]["egressBurst"] = json!(1_600_000);
        call(host, "CHECK", &mut other, "a", &path).error();
        let ifb = config["prevResult"]["interfaces"][3]["name"].as_str().unwrap();
        host.ip(&format!("link del {ifb}"));
        call(host, "CHECK", &mut config, "a", &path).error();
        del(host, &mut config, "a", &path);
    });
}

#[test]
fn half_a_limit_is_refused_and_zero_is_none() {
    on_host(|host| {
        let pod = Namespace::new();
        let path = pod.path().to_str().unwrap();
        for (limits, text) in [
            (
                json!({ "ingressRate": 8000 }),
                "if rate is set, burst must also be set",
            ),
            (
                json!({ "egressBurst": 8000 }),
                "if burst is set, rate must also be set",
            ),
            (
                json!({ "egressRate": 8, "egressBurst": 34_359_738_360_u64 }),
                "burst cannot be more than 4GB",
            ),
        ] {
            let mut config = host.config(SUBNET);
            config["runtimeConfig"] = json!({ "bandwidth": limits });
            let error = call(host, "ADD", &mut config, "a", path).error();
            assert!(error["msg"].as_str().unwrap().contains(text), "{error}");
            // The stock bridge before it has succeeded.
            host.del(&host.config(SUBNET), "a", path);
        }
        let mut config = host.config(SUBNET);
        config["runtimeConfig"] = json!({ "bandwidth": { "ingressRate": 0, "ingressBurst": 0 } });
        assert!(call(host, "ADD", &mut config, "a", path).ok);
        assert_eq!(host.devices().len(), 1);
    });
}
