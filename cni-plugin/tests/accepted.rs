//! Fields that the stock plugins have and that mean the same here: run against ours, and against the stock `bridge` and
//! `host-local` (see `harness`). What is accepted at all is in `config/tests/stock.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use harness::{Host, Namespace, address, on_host};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.1.0/24";

fn add(host: &Host, config: &Value, container: &str) -> (Namespace, Value) {
    let pod = Namespace::new();
    let result = host.add(config, container, &pod);
    (pod, result)
}

#[test]
fn a_foreign_address_of_the_bridge_goes_if_that_is_asked_for() {
    on_host(|host| {
        host.ip("link add br0 address 0a:00:00:00:00:77 type bridge");
        host.ip("addr add 172.17.0.1/16 dev br0");
        host.ip("addr add fd00:98::1/64 dev br0");
        let mut config = host.config(SUBNET);
        let pod = Namespace::new();
        host.call("ADD", &config, "a", pod.path().to_str().unwrap())
            .error();
        host.del(&config, "a", pod.path().to_str().unwrap());
        config["forceAddress"] = json!(true);
        let (pod, result) = add(host, &config, "b");
        let listed = host.ip("addr show br0");
        assert!(
            listed.contains("10.99.1.1/24") && !listed.contains("172.17.0.1"),
            "{listed}"
        );
        assert!(listed.contains("fd00:98::1"), "not in the way: {listed}");
        pod.serve((address(&result), 7).into());
        host.namespace.ask((address(&result), 7).into());
    });
}

#[test]
fn name_resolution_comes_from_a_file_or_from_the_configuration() {
    on_host(|host| {
        let file = host.data.path().join("resolv.conf");
        let text = "# of the site\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:3\ndomain example\n";
        std::fs::write(&file, text).unwrap();
        let mut config = host.config(SUBNET);
        config["ipam"]["resolvConf"] = json!(file);
        let (_a, result) = add(host, &config, "a");
        let expected = json!({
            "nameservers": ["192.0.2.53"], "domain": "example", "search": ["a.example", "b.example"], "options": ["ndots:3"]
        });
        assert_eq!(result["dns"], expected);
        config["dns"] = json!({ "nameservers": ["192.0.2.1"] });
        let (_b, result) = add(host, &config, "b");
        assert_eq!(result["dns"], config["dns"]);
        config["dns"] = json!({});
        config["ipam"]["resolvConf"] = json!("/nowhere/resolv.conf");
        let pod = Namespace::new();
        let error = host
            .call("ADD", &config, "c", pod.path().to_str().unwrap())
            .error();
        assert!(error.to_string().contains("/nowhere/resolv.conf"), "{error}");
        host.del(&config, "c", pod.path().to_str().unwrap());
    });
}

#[test]
fn an_mtu_too_small_for_ipv6_is_good_for_ipv4() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["mtu"] = json!(1000);
        let (pod, _) = add(host, &config, "a");
        assert!(pod.ip("link show eth0").contains("mtu 1000"));
    });
}

#[test]
fn isolated_pods_reach_the_gateway_and_not_each_other() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["portIsolation"] = json!(true);
        let (a, _) = add(host, &config, "a");
        let (b, result) = add(host, &config, "b");
        b.serve((address(&result), 7).into());
        host.namespace.ask((address(&result), 7).into());
        let target = (address(&result), 7);
        let heard = a.run(move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_millis(300)))
                .unwrap();
            let mut buffer = [0; 64];
            (0..3).any(|_| socket.send_to(b"?", target).is_ok() && socket.recv_from(&mut buffer).is_ok())
        });
        assert!(!heard);
    });
}
