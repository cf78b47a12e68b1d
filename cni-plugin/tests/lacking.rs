//! Kernels that lack something. A test is run by its name, on such a kernel: `hack/packets --without ipv6`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use harness::{Host, Namespace, address, on_host};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.2.0/24";

fn refused(host: &Host, config: &Value, pod: &Namespace, code: u32, told: &str) {
    let answer = host.call("ADD", config, "refused", pod.path().to_str().unwrap());
    let error = answer.error();
    assert_eq!(error["code"], code, "{error}");
    assert!(error["msg"].as_str().unwrap().contains(told), "{error}");
    assert!(!pod.ip("link").contains("eth0"));
    host.del(config, "refused", pod.path().to_str().unwrap());
}

#[test]
fn ipv6() {
    on_host(|host| {
        assert!(
            !std::fs::exists("/proc/sys/net/ipv6").unwrap(),
            "this kernel has IPv6"
        );
        let [alone, both] = [(); 2].map(|()| Namespace::new());
        let mut config = host.config(SUBNET);
        config["cniVersion"] = json!("1.1.0");
        let result = host.add(&config, "alone", &alone);
        assert!(alone.ip("addr").contains(&address(&result).to_string()));
        let mut checked = config.clone();
        checked["prevResult"] = result;
        let check = host.call("CHECK", &checked, "alone", alone.path().to_str().unwrap());
        assert!(check.ok, "{check:?}");
        let mut dual = config.clone();
        let ranges = dual["ipam"]["ranges"].as_array_mut().unwrap();
        ranges.push(json!([{"subnet": "fd00:99::/64"}]));
        refused(host, &dual, &both, 103, "this kernel has no IPv6");
        let status = |config: &Value| host.call("STATUS", config, "", "");
        assert!(status(&config).ok);
        let error = status(&dual).error();
        assert_eq!(error["code"], 50);
        assert!(error["msg"].as_str().unwrap().contains("fd00:99::"), "{error}");
        assert_eq!(host.devices().len(), 1, "the first pod's");
        host.del(&config, "alone", alone.path().to_str().unwrap());
    });
}

#[test]
fn bridge() {
    on_host(|host| {
        let pod = Namespace::new();
        refused(host, &host.config(SUBNET), &pod, 100, "this kernel has no bridge");
        assert_eq!(host.devices(), [""; 0]);
    });
}
