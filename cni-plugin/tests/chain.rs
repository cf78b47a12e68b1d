//! In a list with other plugins: what came before, and what comes after.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use harness::{Host, Namespace, address, on_host, ours};
use serde_json::{Value, json};

mod harness;

fn add(host: &Host, config: &Value, pod: &Namespace) -> harness::Answer {
    let variables = [
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", pod.path().to_str().unwrap()),
    ];
    host.call_plugin(&ours(), "ADD", &config.to_string(), &variables)
}

#[test]
fn what_a_plugin_before_made_is_passed_on() {
    on_host(|host| {
        let mut config = host.config("10.99.1.0/24");
        config["prevResult"] = json!({
            "cniVersion": "1.0.0", "interfaces": [{ "name": "dummy0", "mac": "0a:00:00:00:00:01" }],
            "routes": [{ "dst": "10.50.0.0/16", "gw": "10.99.1.7" }]
        });
        let pod = Namespace::new();
        let result = add(host, &config, &pod).result();
        let interfaces = result["interfaces"].as_array().unwrap();
        let names: Vec<_> = interfaces
            .iter()
            .map(|interface| interface["name"].clone())
            .collect();
        assert_eq!(
            (names.len(), &names[0], &names[3]),
            (4, &json!("br0"), &json!("dummy0"))
        );
        assert_eq!(result["ips"][0]["interface"], 2);
        assert!(
            result["routes"]
                .as_array()
                .unwrap()
                .contains(&json!({ "dst": "10.50.0.0/16", "gw": "10.99.1.7" }))
        );
        assert!(pod.ip("addr show eth0").contains(&address(&result).to_string()));
    });
}

#[test]
fn after_another_main_plugin_it_refuses_and_touches_nothing() {
    on_host(|host| {
        let pod = Namespace::new();
        let of_eth0 = json!({ "interfaces": [{ "name": "eth0", "sandbox": pod.path() }] });
        let of_address = json!({ "ips": [{ "address": "10.9.9.9/24" }] });
        for (previous, named) in [(of_eth0, "\"eth0\""), (of_address, "10.9.9.9/24")] {
            let mut config = host.config("10.99.1.0/24");
            config["prevResult"] = previous;
            let error = add(host, &config, &pod).error();
            assert_eq!(error["code"], 7, "{error}");
            let msg = error["msg"].as_str().unwrap();
            assert!(msg.starts_with("prevResult") && msg.contains(named), "{msg}");
            assert!(host.veths().is_empty());
        }
    });
}
