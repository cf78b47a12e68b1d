use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ports::{HostAddress, Mapping, Masqueraded, Protocol};

mod stock;

fn parse(value: &Value) -> Result<Network, ConfigError> {
    Network::parse(value.to_string().as_bytes(), &CniArgs::default())
}

fn with(changes: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br0", "isDefaultGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.2.0/24" }]], "routes": [{ "dst": "10.9.0.0/16" }] }
    });
    let (Value::Object(config), Value::Object(changes)) = (&mut config, changes) else {
        unreachable!()
    };
    config.extend(changes);
    Value::Object(config.clone())
}

#[test]
fn a_stock_configuration_is_understood() {
    let network = parse(&with(json!({}))).unwrap();
    assert_eq!(network.bridge.name, "br0");
    assert!(network.bridge.gateway && network.bridge.default_gateway && !network.bridge.hairpin);
    assert_eq!(network.unmasqueraded, Some(vec![]));
    assert_eq!(network.ipam.routes[0].dst, "10.9.0.0/16".parse().unwrap());
    assert_eq!(network.ipam.data_dir, PathBuf::from("/run/gantry-cni"));
}

#[test]
fn the_short_form_turns_on_what_a_node_needs() {
    let short = json!({ "cniVersion": "1.1.0", "name": "net", "subnet": ["10.1.2.0/24", "fd00::/64"], "clusterCIDRs": ["10.1.0.0/16"] });
    let network = parse(&short).unwrap();
    assert!(network.bridge.default_gateway && network.bridge.hairpin);
    assert_eq!(network.unmasqueraded, Some(vec!["10.1.0.0/16".parse().unwrap()]));
    assert_eq!(network.ipam.sets.len(), 2);
    assert_eq!(network.bridge.name, "cni0");
}

#[test]
fn unknown_fields_are_ignored() {
    assert!(parse(&with(json!({ "somethingElse": { "a": [1] } }))).is_ok());
}

#[test]
fn fields_that_cannot_be_honoured_are_named() {
    for (field, changes) in [
        ("vlan 5", json!({ "vlan": 5 })),
        ("vlanTrunk [{\"id\":1}]", json!({ "vlanTrunk": [{ "id": 1 }] })),
        (
            "ipMasqBackend \"iptables\"",
            json!({ "ipMasqBackend": "iptables" }),
        ),
        ("ipam.type \"dhcp\"", json!({ "ipam": { "type": "dhcp" } })),
        ("backend \"iptables\"", json!({ "backend": "iptables" })),
        ("markMasqBit 5", json!({ "markMasqBit": 5 })),
        (
            "externalSetMarkChain \"X\"",
            json!({ "externalSetMarkChain": "X" }),
        ),
        (
            "conditionsV4 [\"ip saddr 10.0.0.1\"]",
            json!({ "conditionsV4": ["ip saddr 10.0.0.1"] }),
        ),
    ] {
        let error = parse(&with(changes)).unwrap_err();
        assert_eq!(error.code(), 2, "{error}");
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

/// A port mapping with these fields changed.
fn mapped(changes: Value) -> Value {
    let mut mapping = json!({ "hostPort": 80, "containerPort": 8080, "protocol": "tcp" });
    for (name, value) in changes.as_object().unwrap() {
        mapping[name] = value.clone();
    }
    json!({ "runtimeConfig": { "portMappings": [mapping] } })
}

#[test]
fn fields_of_portmap_are_taken_as_portmap_takes_them() {
    let mut wanted = mapped(json!({ "protocol": "SCTP", "hostIP": "::ffff:192.0.2.1" }));
    for (name, value) in [
        ("backend", json!("nftables")),
        ("markMasqBit", json!(13)),
        ("conditionsV4", json!([])),
        ("snat", json!(true)),
        ("masqAll", json!(true)),
    ] {
        wanted[name] = value;
    }
    let ports = parse(&with(wanted)).unwrap().ports;
    let expected = Mapping {
        protocol: Protocol::Sctp,
        address: HostAddress::Only([192, 0, 2, 1].into()),
        host_port: 80,
        pod_port: 8080,
    };
    assert_eq!(ports.list, [expected]);
    assert_eq!(ports.masqueraded, Masqueraded::All);
    let unspecified = parse(&with(mapped(json!({ "hostIP": "::" })))).unwrap().ports;
    assert_eq!(unspecified.list[0].address, HostAddress::AnyOf { ipv4: false });
}

#[test]
fn wishes_are_understood_as_containerd_writes_them() {
    let written = json!({ "runtimeConfig": {
        "portMappings": [{ "HostPort": 80, "ContainerPort": 8080, "Protocol": "udp", "HostIP": "192.0.2.1" }],
        "bandwidth": { "IngressRate": 8000, "IngressBurst": 8000, "EgressRate": 16000, "EgressBurst": 8000 },
        "ipRanges": [[{ "Subnet": "10.7.0.0/24", "RangeStart": "10.7.0.8", "RangeEnd": "10.7.0.9", "Gateway": "10.7.0.2" }]]
    } });
    let network = parse(&with(written)).unwrap();
    let port = network.ports.list[0];
    assert_eq!((port.host_port, port.pod_port), (80, 8080));
    assert_eq!(port.address, HostAddress::Only([192, 0, 2, 1].into()));
    assert!(network.bandwidth.ingress.is_some() && network.bandwidth.egress.is_some());
    let range = &network.ipam.sets[0].0[0];
    assert_eq!(range.gateway, IpAddr::from([10, 7, 0, 2]));
    assert_eq!(range.address(range.first), IpAddr::from([10, 7, 0, 8]));
}

#[test]
fn a_port_asked_for_twice_counts_once_and_two_targets_are_refused() {
    let mapping = |port: u16, address: &str| json!({ "hostPort": 80, "containerPort": port, "protocol": "tcp", "hostIP": address });
    let parsed = |list: [Value; 2]| parse(&with(json!({ "runtimeConfig": { "portMappings": list } })));
    let twice = parsed([mapping(1, ""), mapping(1, "")]).unwrap();
    assert_eq!(twice.ports.list.len(), 1);
    assert!(parsed([mapping(1, ""), mapping(2, "192.0.2.1")]).is_ok());
    let error = parsed([mapping(1, ""), mapping(2, "0.0.0.0")]).unwrap_err();
    assert!(
        error.to_string().contains("80/tcp cannot lead to two ports"),
        "{error}"
    );
}

#[test]
fn no_list_of_valid_attachments_is_not_an_empty_one() {
    let valid = |changes| parse(&with(changes)).unwrap().valid_attachments;
    assert_eq!(valid(json!({})), None);
    for empty in [json!([]), Value::Null] {
        assert_eq!(
            valid(json!({ "cni.dev/valid-attachments": empty })),
            Some(Vec::new())
        );
    }
}

#[test]
fn wishes_do_not_matter_where_none_is_needed() {
    let refused =
        with(json!({ "runtimeConfig": { "ips": ["192.0.2.1"], "mac": "x", "portMappings": [{}] } }));
    assert!(parse(&refused).is_err());
    assert!(Network::parse_without_wishes(refused.to_string().as_bytes()).is_ok());
}

#[test]
fn invalid_values_have_code_7_and_name_their_field() {
    let ranges = |ranges: Value| json!({ "ipam": { "type": "host-local", "ranges": ranges } });
    for (field, changes) in [
        ("name", json!({ "name": "../up" })),
        ("name", json!({ "name": "" })),
        ("bridge", json!({ "bridge": "a/b" })),
        ("mtu", json!({ "mtu": -1 })),
        ("mtu", json!({ "mtu": 67 })),
        ("promiscMode", json!({ "promiscMode": true, "hairpinMode": true })),
        (
            "runtimeConfig.portMappings",
            mapped(json!({ "protocol": "icmp" })),
        ),
        ("runtimeConfig.portMappings", mapped(json!({ "hostPort": 0 }))),
        ("runtimeConfig.portMappings", mapped(json!({ "hostPort": 65536 }))),
        (
            "runtimeConfig.portMappings",
            mapped(json!({ "containerPort": -1 })),
        ),
        ("runtimeConfig.portMappings", mapped(json!({ "hostIP": "here" }))),
        ("ipam", json!({ "ipam": null })),
        ("ipam.ranges", ranges(json!([[]]))),
        ("ipam.ranges", ranges(json!([[{ "subnet": "10.1.2.1/24" }]]))),
        (
            "ipam.ranges",
            ranges(json!([[{ "subnet": "10.1.2.0/24" }, { "subnet": "fd00::/64" }]])),
        ),
        (
            "ipam.ranges",
            ranges(json!([[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "10.1.0.0/16" }]])),
        ),
        (
            "ipam.dataDir",
            json!({ "ipam": { "subnet": "10.1.2.0/24", "dataDir": "relative" } }),
        ),
        ("clusterCIDRs", json!({ "clusterCIDRs": ["x"] })),
        ("args.cni.mac", json!({ "args": { "cni": { "mac": "zz" } } })),
        ("ips", json!({ "runtimeConfig": { "ips": ["10.7.7.7"] } })),
        (
            "prevResult",
            json!({ "prevResult": { "ips": [{ "address": 1 }] } }),
        ),
    ] {
        let error = parse(&with(changes.clone())).unwrap_err();
        assert_eq!(error.code(), 7, "{changes}: {error}");
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}

#[test]
fn versions_and_json_have_their_codes() {
    assert_eq!(
        parse(&with(json!({ "cniVersion": "0.2.0" }))).unwrap_err().code(),
        1
    );
    assert_eq!(parse(&with(json!({ "isGateway": "yes" }))).unwrap_err().code(), 6);
    let header = Header::parse(b"{\"cniVersion\":\"0.3.1\",\"name\":\"net\"}").unwrap();
    assert_eq!(header.require("CHECK", Version::V0_4_0).unwrap_err().code(), 1);
    for version in Version::ALL {
        assert!(parse(&with(json!({ "cniVersion": version.as_str() }))).is_ok());
    }
}

#[test]
fn wishes_of_the_runtime_are_read_from_all_three_places() {
    let args = CniArgs {
        ip: Some("10.1.2.9/24".into()),
        mac: Some("0a:00:00:00:00:01".into()),
        ..CniArgs::default()
    };
    let config = with(
        json!({ "args": { "cni": { "ips": ["10.1.2.8"] } }, "runtimeConfig": { "mac": "0a:00:00:00:00:02" } }),
    );
    let network = Network::parse(config.to_string().as_bytes(), &args).unwrap();
    assert_eq!(network.mac.unwrap().to_string(), "0a:00:00:00:00:02");
    assert_eq!(network.ipam.requested.len(), 2);
}

/// Any JSON, with our field names often enough to reach the rules behind them.
fn any_json() -> impl Strategy<Value = Value> {
    let words = proptest::sample::select(vec![
        "cniVersion",
        "1.1.0",
        "name",
        "net",
        "ipam",
        "subnet",
        "10.0.0.0/8",
        "::/0",
        "ranges",
        "rangeStart",
        "10.0.0.9",
        "routes",
        "dst",
        "gw",
        "mtu",
        "vlan",
        "bridge",
        "runtimeConfig",
        "ips",
        "mac",
        "prevResult",
        "interfaces",
        "dataDir",
        "clusterCIDRs",
        "args",
        "cni",
        "255.255.255.255/1",
        "ffff::/128",
    ]);
    let key = prop_oneof![words.clone().prop_map(str::to_owned), ".{0,6}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..10)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::parse(&bytes);
        let _ = Network::parse(&bytes, &CniArgs::default());
    }

    #[test]
    fn no_json_panics(changes in any_json(), ip in ".{0,12}") {
        let text = changes.to_string();
        let _ = Header::parse(text.as_bytes());
        let args = CniArgs { ip: Some(ip), ..CniArgs::default() };
        let _ = Network::parse(text.as_bytes(), &args);
        if changes.is_object() {
            let _ = Network::parse(with(changes).to_string().as_bytes(), &args);
        }
    }
}
