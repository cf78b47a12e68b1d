//! Configurations as the documentation of the stock plugins has them, and each field of `bridge`, `host-local` and
//! `bandwidth`: accepted where it means the same here, refused by name where it does not.

use serde_json::{Value, json};

use super::{parse, with};

#[test]
fn documented_configurations_are_accepted() {
    let examples = [
        json!({
            "cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "bridge": "mynet0", "isDefaultGateway": true,
            "forceAddress": false, "ipMasq": true, "hairpinMode": true,
            "ipam": { "type": "host-local", "subnet": "10.10.0.0/16" }
        }),
        json!({
            "cniVersion": "1.0.0", "name": "mynet", "type": "bridge", "bridge": "mynet0",
            "ipam": {
                "type": "host-local",
                "ranges": [
                    [
                        { "subnet": "10.10.0.0/16", "rangeStart": "10.10.1.20", "rangeEnd": "10.10.3.50", "gateway": "10.10.0.254" },
                        { "subnet": "172.16.5.0/24" }
                    ],
                    [{ "subnet": "3ffe:ffff:0:01ff::/64", "rangeStart": "3ffe:ffff:0:01ff::0010", "rangeEnd": "3ffe:ffff:0:01ff::0020" }]
                ],
                "routes": [
                    { "dst": "0.0.0.0/0" }, { "dst": "192.168.0.0/16", "gw": "10.10.5.1" }, { "dst": "3ffe:ffff:0:01ff::1/64" }
                ],
                "dataDir": "/run/my-orchestrator/container-ipam-state"
            }
        }),
        json!({
            "cniVersion": "1.1.0", "name": "mynet", "type": "bridge", "isGateway": true, "mtu": 1400,
            "capabilities": { "ips": true, "mac": true, "ipRanges": true, "bandwidth": true },
            "ipam": { "type": "host-local", "ranges": [] },
            "runtimeConfig": {
                "ipRanges": [[{ "subnet": "10.1.2.0/24", "gateway": "10.1.2.254" }]], "ips": ["10.1.2.9/24"],
                "mac": "c2:b0:57:49:47:f1",
                "bandwidth": { "ingressRate": 2048, "ingressBurst": 1600, "egressRate": 4096, "egressBurst": 1600 }
            }
        }),
    ];
    for example in examples {
        if let Err(error) = parse(&example) {
            panic!("{example}: {error}");
        }
    }
}

/// An empty text: accepted; else what the refusal starts with.
fn check(fields: &[(Value, &str)]) {
    for (changes, refusal) in fields {
        match parse(&with(changes.clone())) {
            Ok(_) => assert_eq!(*refusal, "", "{changes} is accepted"),
            Err(error) => assert!(
                !refusal.is_empty() && error.to_string().starts_with(refusal),
                "{changes}: {error}"
            ),
        }
    }
}

#[test]
fn each_field_of_bridge_is_accepted_or_refused_by_name() {
    check(&[
        (json!({ "isGateway": true }), ""),
        (json!({ "isDefaultGateway": false }), ""),
        (json!({ "forceAddress": true }), ""),
        (json!({ "ipMasq": false, "ipMasqBackend": "nftables" }), ""),
        (
            json!({ "ipMasqBackend": "iptables" }),
            "ipMasqBackend \"iptables\"",
        ),
        (json!({ "ipMasqBackend": null }), ""),
        (json!({ "mtu": 0 }), ""),
        (json!({ "mtu": 576 }), ""),
        (json!({ "mtu": 67 }), "mtu"),
        (json!({ "hairpinMode": true }), ""),
        (json!({ "promiscMode": true }), ""),
        (json!({ "portIsolation": true }), ""),
        (
            json!({ "vlan": 0, "vlanTrunk": [], "preserveDefaultVlan": true }),
            "",
        ),
        (json!({ "vlan": 7 }), "vlan 7"),
        (
            json!({ "vlanTrunk": [{ "minID": 2, "maxID": 4 }] }),
            "vlanTrunk [",
        ),
        (json!({ "macspoofchk": false }), ""),
        (json!({ "macspoofchk": true }), "macspoofchk true"),
        (json!({ "enabledad": true }), "enabledad true"),
        (
            json!({ "disableContainerInterface": true }),
            "disableContainerInterface true",
        ),
        (json!({ "dns": { "nameservers": ["10.1.0.1"] } }), ""),
        (json!({ "ipam": {} }), "ipam"),
        (json!({ "ipam": { "type": "static" } }), "ipam.type \"static\""),
    ]);
}

#[test]
fn each_field_of_host_local_is_accepted_or_refused_by_name() {
    let ipam = |fields: Value| {
        let mut ipam = json!({ "type": "host-local", "subnet": "10.1.2.0/24" });
        for (name, value) in fields.as_object().into_iter().flatten() {
            ipam[name] = value.clone();
        }
        json!({ "ipam": ipam })
    };
    let metrics =
        json!({ "dst": "10.0.0.0/8", "mtu": 1400, "advmss": 1340, "priority": 3, "table": 7, "scope": 253 });
    check(&[
        (ipam(json!({ "resolvConf": "/etc/resolv.conf" })), ""),
        (
            ipam(json!({ "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.12" })),
            "",
        ),
        (ipam(json!({ "rangeStart": "10.1.3.9" })), "the range ipam.subnet"),
        (ipam(json!({ "gateway": "10.1.2.9" })), ""),
        (ipam(json!({ "gateway": "fd00::1" })), "the range ipam.subnet"),
        (ipam(json!({ "ranges": [[{ "subnet": "10.1.3.0/24" }]] })), ""),
        (
            ipam(json!({ "ranges": [[{ "subnet": "10.1.0.0/16" }]] })),
            "ipam.ranges",
        ),
        (ipam(json!({ "dataDir": "" })), ""),
        (ipam(json!({ "routes": [metrics] })), ""),
        (ipam(json!({ "routes": [{ "dst": "x" }] })), "ipam.routes"),
    ]);
}

#[test]
fn each_field_of_bandwidth_is_accepted_or_refused_by_name() {
    check(&[
        (json!({ "ingressRate": 8000, "ingressBurst": 8000 }), ""),
        (json!({ "egressRate": 0, "egressBurst": 0 }), ""),
        (json!({ "ingressRate": 8000 }), "ingressRate"),
        (
            json!({ "runtimeConfig": { "bandwidth": { "egressBurst": 8 } } }),
            "runtimeConfig.bandwidth.egressRate",
        ),
    ]);
}

#[test]
fn an_ipv6_pod_needs_the_mtu_of_ipv6() {
    let six = json!({ "type": "host-local", "subnet": "fd00::/64" });
    assert!(parse(&with(json!({ "mtu": 1280, "ipam": six }))).is_ok());
    let error = parse(&with(json!({ "mtu": 1279, "ipam": six }))).unwrap_err();
    assert!(error.to_string().contains("1280"), "{error}");
}

#[test]
fn the_limits_of_the_configuration_count_before_those_of_the_pod() {
    let of_pod = json!({ "bandwidth": { "ingressRate": 8000, "ingressBurst": 8000 } });
    let network = parse(&with(
        json!({ "egressRate": 16_000, "egressBurst": 8000, "runtimeConfig": of_pod }),
    ))
    .unwrap();
    assert!(network.bandwidth.ingress.is_none() && network.bandwidth.egress.is_some());
}
