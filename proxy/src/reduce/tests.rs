use super::*;
use serde_json::json;

fn slice_of(conditions: serde_json::Value) -> Slice {
    let object = serde_json::from_value(json!({
        "metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"name": "", "port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "me", "conditions": conditions}],
    }))
    .unwrap();
    slice(&object, "me", false).unwrap()
}

#[test]
fn conditions_decide_about_an_endpoint() {
    let state = |conditions| slice_of(conditions).endpoints.first().map(|e| e.state);
    assert_eq!(state(json!({})), Some(EndpointState::Ready));
    assert_eq!(state(json!({"ready": false})), None);
    assert_eq!(
        state(json!({"ready": false, "serving": true, "terminating": true})),
        Some(EndpointState::ServingTerminating)
    );
    assert_eq!(
        state(json!({"ready": false, "serving": false, "terminating": true})),
        None
    );
    // publishNotReadyAddresses: the slice says ready.
    assert_eq!(
        state(json!({"ready": true, "terminating": true})),
        Some(EndpointState::Ready)
    );
    assert!(slice_of(json!({})).endpoints[0].local);
}

#[test]
fn source_ranges_guard_load_balancer_addresses_only() {
    let parse = |ranges: &[&str], ipv6| {
        let object: slim::Service = serde_json::from_value(json!({
            "spec": {"clusterIPs": ["10.0.0.1", "fd00::1"], "loadBalancerSourceRanges": ranges,
                "externalIPs": ["198.51.100.1"]},
            "status": {"loadBalancer": {"ingress": [
                {"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "lb"}]}},
        }))
        .unwrap();
        service(&object, ipv6).unwrap()
    };
    let open = parse(&[], false);
    assert_eq!(open.external_ips.len(), 2, "{open:?}");
    assert_eq!(open.restriction, None);
    let ranges = [
        " 10.1.2.3/8 ",
        "10.1.0.0/16",
        "fd00::/8",
        "192.0.2.0/24",
        "10.0.0.0",
        "x",
        "",
    ];
    let guarded = parse(&ranges, false);
    assert_eq!(guarded.external_ips, open.external_ips);
    let restriction = guarded.restriction.unwrap();
    assert_eq!(*restriction.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    let texts: Vec<_> = restriction.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!(
        parse(&ranges, true).restriction,
        None,
        "no address of that family"
    );
    assert_eq!(
        parse(&["fd00::/8"], false).restriction,
        None,
        "ranges of the other family say nothing"
    );
    assert_eq!(
        parse(&["10.0.0.0/8", "0.0.0.0/0"], false).restriction,
        None,
        "everybody"
    );
}

#[test]
fn affinity_has_the_services_time_or_the_default() {
    let secs = |spec| {
        let mut spec: serde_json::Value = spec;
        spec["clusterIP"] = "10.0.0.1".into();
        let object = serde_json::from_value(json!({ "spec": spec })).unwrap();
        service(&object, false)
            .unwrap()
            .affinity_secs
            .map(NonZeroU32::get)
    };
    let config = |timeout| json!({"clientIP": {"timeoutSeconds": timeout}});
    assert_eq!(secs(json!({"sessionAffinity": "None"})), None);
    assert_eq!(secs(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let of = |timeout| secs(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config(timeout)}));
    assert_eq!(
        [of(5), of(0), of(-1), of(1_000_000)],
        [Some(5), Some(1), Some(10_800), Some(86_400)]
    );
}

#[test]
fn services_without_an_address_are_left_out() {
    let parse = |spec| serde_json::from_value::<slim::Service>(json!({"spec": spec})).unwrap();
    assert_eq!(service(&parse(json!({"clusterIP": "None"})), false), None);
    assert_eq!(
        service(
            &parse(json!({"type": "ExternalName", "clusterIP": "10.0.0.1"})),
            false
        ),
        None
    );
    assert_eq!(service(&parse(json!({"clusterIPs": ["fd00::1"]})), false), None);
    let both = parse(
        json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
            "ports": [{"port": 80, "nodePort": 30000}, {"port": 0}, {"port": 1, "protocol": "X"}]}),
    );
    let v4 = service(&both, false).unwrap();
    assert_eq!(
        (v4.cluster_ip, v4.ports.len()),
        (Some("10.0.0.1".parse().unwrap()), 1)
    );
    assert_eq!(
        service(&both, true).unwrap().cluster_ip,
        Some("fd00::1".parse().unwrap())
    );
}

#[test]
fn addresses_that_no_pod_can_have_are_left_out() {
    let left = |family: &str, addresses: &[&str]| {
        let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
        let object: slim::EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "s"}, "addressType": family, "endpoints": endpoints,
            "ports": [{"name": "a", "port": 65536}, {"name": "b", "port": -1}, {"port": 1}, {"name": "d", "port": 65535}],
        }))
        .unwrap();
        let slice = slice(&object, "me", family == "IPv6").unwrap();
        assert_eq!(slice.ports.len(), 1, "of four ports three are none");
        slice
            .endpoints
            .iter()
            .map(|e| e.address.to_string())
            .collect::<Vec<_>>()
    };
    let v4 = [
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.5",
        "0.0.0.0",
        "255.255.255.255",
        "fd00::1",
        "pod",
        "",
        "1.2.3",
    ];
    assert_eq!(left("IPv4", &v4), [] as [&str; 0]);
    let v6 = ["::1", "fe80::1", "ff02::1", "::", "10.0.0.1", "::ffff:10.0.0.1"];
    assert_eq!(left("IPv6", &v6), [] as [&str; 0]);
    assert_eq!(
        left("IPv4", &["::ffff:10.0.0.1", "010.000.0.09"]),
        ["10.0.0.1", "10.0.0.9"],
        "as Go reads them"
    );
    assert_eq!(left("IPv6", &["fd00::1"]), ["fd00::1"]);
}

#[test]
fn hints_name_nodes_and_zones() {
    let endpoint = |hints| json!({"addresses": ["10.0.0.1"], "hints": hints});
    let object: slim::EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [
            endpoint(json!({"forZones": [{"name": "a"}]})),
            endpoint(json!({"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "other"}, {"name": "me"}]})),
            endpoint(json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "other"}]})),
            endpoint(json!({"forZones": null})),
            endpoint(json!(null)),
        ],
    }))
    .unwrap();
    let slice = slice(&object, "me", false).unwrap();
    let zones = |e: &Endpoint| {
        e.zones
            .and_then(|set| slice.zone_set(set))
            .map(|set| set.join(","))
    };
    let found: Vec<_> = slice.endpoints.iter().map(|e| (e.node_hint, zones(e))).collect();
    let wanted = [
        (NodeHint::Nobody, Some("a")),
        (NodeHint::ThisNode, Some("a,b")),
        (NodeHint::OtherNodes, Some("a")),
        (NodeHint::Nobody, None),
        (NodeHint::Nobody, None),
    ];
    assert_eq!(
        found,
        wanted.map(|(node, zones)| (node, zones.map(str::to_owned)))
    );
    assert_eq!(slice.zone_sets.len(), 2, "equal sets are kept once");
}

proptest::proptest! {
    /// Whatever an object's text fields hold, it is read without a panic, and every address is one of the family.
    #[test]
    fn any_text_is_read(text in ".*", octets in "[0-9]{1,4}(\\.[0-9]{0,4}){0,4}") {
        for text in [text, octets] {
            for ipv6 in [false, true] {
                let list = [text.clone()];
                proptest::prop_assert!(addresses(list.iter(), ipv6).all(|ip| ip.is_ipv6() == ipv6));
            }
        }
    }
}
