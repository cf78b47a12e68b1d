use super::*;
use crate::owner::Owner;
use crate::request::CniArgs;

fn network(config: &str) -> Network {
    Network::parse(config.as_bytes(), &CniArgs::default()).unwrap()
}

const SHORT: &str =
    r#"{"cniVersion":"1.1.0","name":"net","subnet":"10.1.2.0/24","clusterCIDRs":["10.1.0.0/16"]}"#;

fn lease() -> Lease {
    Lease {
        address: "10.1.2.3/24".parse().unwrap(),
        gateway: [10, 1, 2, 1].into(),
    }
}

fn bridge(up: bool, kind: LinkKind, addresses: &[&str]) -> BridgeFacts {
    let link = Link {
        index: 7,
        mac: Some(Mac([2; 6])),
        mtu: 1400,
        up,
        promiscuous: false,
        kind,
        controller: None,
    };
    BridgeFacts {
        link,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

fn planned(network: &Network, facts: Option<&BridgeFacts>) -> Result<Plan, BridgeMismatch> {
    let owner = Owner::new("c", "eth0");
    let wanted = Wanted {
        network,
        owner,
        container: "c",
        ifname: "eth0",
        netns: Path::new("/run/netns/x"),
    };
    let facts = HostFacts {
        bridge: facts.cloned(),
        uplink_mtu: Some(1450),
        masqueraded: false,
    };
    plan(&wanted, &[lease()], &facts)
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    let kind = |step: &Step| match step {
        Step::CreateBridge { .. } => "create",
        Step::RefuseAdvertisements => "refuse-ra",
        Step::RaiseBridge { .. } => "raise",
        Step::RemoveAddress(_) => "remove",
        Step::AddGateway(_) => "gateway",
        Step::Forward { .. } => "forward",
        Step::Masquerade(_) => "masquerade",
        Step::CreateVeth { .. } => "veth",
        Step::SetPort { .. } => "port",
        Step::CreateIfb { .. } => "ifb",
        Step::Shape { .. } => "shape",
        Step::Redirect { .. } => "redirect",
        Step::ConfigurePod { .. } => "pod",
        Step::MapPorts(_) => "map-ports",
        Step::RouteLoopback => "route-loopback",
    };
    plan.steps.iter().map(kind).collect()
}

#[test]
fn the_first_pod_makes_the_bridge_and_refuses_advertisements_before_it_is_up() {
    let plan = planned(&network(SHORT), None).unwrap();
    let expected = [
        "create",
        "refuse-ra",
        "raise",
        "gateway",
        "forward",
        "masquerade",
        "veth",
        "port",
        "pod",
    ];
    assert_eq!(kinds(&plan), expected);
    assert_eq!(
        plan.steps[2],
        Step::RaiseBridge {
            promiscuous: false,
            mtu: Some(1450)
        },
        "the uplink's MTU"
    );
}

#[test]
fn the_next_pod_only_needs_its_veth() {
    let facts = bridge(true, LinkKind::Bridge, &["10.1.2.1/24", "fe80::1/64"]);
    let plan = planned(&network(SHORT), Some(&facts)).unwrap();
    assert_eq!(kinds(&plan), ["forward", "masquerade", "veth", "port", "pod"]);
    assert_eq!(
        plan.outcome.interfaces[2].mtu,
        Some(1400),
        "the bridge's MTU is the pod's"
    );
    assert_eq!(plan.outcome.interfaces[2].mac, "0a:58:0a:01:02:03");
}

#[test]
fn only_the_veth_is_taken_back() {
    let plan = planned(&network(SHORT), None).unwrap();
    let undo: Vec<_> = plan.steps.iter().filter_map(Step::undo).collect();
    assert_eq!(undo, [Undo::DeleteLink(Owner::new("c", "eth0").host_ifname())]);
}

#[test]
fn limits_are_in_force_before_the_pod_is_up_and_are_taken_back() {
    let limits = r#","ingressRate":8000000,"ingressBurst":800000,"egressRate":8000000,"egressBurst":800000}"#;
    let network = network(&SHORT.replace('}', limits));
    let facts = bridge(true, LinkKind::Bridge, &["10.1.2.1/24"]);
    let plan = planned(&network, Some(&facts)).unwrap();
    assert_eq!(
        kinds(&plan)[2..],
        ["veth", "port", "shape", "ifb", "shape", "redirect", "pod"]
    );
    let owner = Owner::new("c", "eth0");
    let undo: Vec<_> = plan.steps.iter().filter_map(Step::undo).collect();
    let devices = [owner.host_ifname(), owner.ifb_name()];
    assert_eq!(undo, devices.map(Undo::DeleteLink));
    assert_eq!(plan.outcome.interfaces[3].name, owner.ifb_name());
}

#[test]
fn a_bridge_of_someone_else_is_used_if_it_fits() {
    let network = network(SHORT);
    let empty = bridge(true, LinkKind::Bridge, &["fe80::1/64"]);
    assert_eq!(kinds(&planned(&network, Some(&empty)).unwrap())[0], "gateway");
    let down = bridge(false, LinkKind::Bridge, &["10.1.2.1/24"]);
    assert_eq!(
        kinds(&planned(&network, Some(&down)).unwrap())[..2],
        ["refuse-ra", "raise"]
    );
    let other = bridge(true, LinkKind::Bridge, &["172.17.0.1/16"]);
    let error = planned(&network, Some(&other)).unwrap_err();
    assert!(error.to_string().contains("172.17.0.1/16") && error.to_string().contains("10.1.2.1/24"));
    let mut forced = network.clone();
    forced.bridge.force_address = true;
    let plan = planned(&forced, Some(&other)).unwrap();
    assert_eq!(kinds(&plan)[..2], ["remove", "gateway"]);
    assert_eq!(
        plan.steps[0],
        Step::RemoveAddress("172.17.0.1/16".parse().unwrap())
    );
    let veth = bridge(true, LinkKind::Veth, &[]);
    assert!(matches!(
        planned(&network, Some(&veth)),
        Err(BridgeMismatch::NotABridge { .. })
    ));
}

#[test]
fn without_options_nothing_shared_but_the_bridge_is_touched() {
    let plain = r#"{"cniVersion":"0.4.0","name":"net","ipam":{"subnet":"10.1.2.0/24"}}"#;
    let plan = planned(&network(plain), None).unwrap();
    assert_eq!(
        kinds(&plan),
        ["create", "refuse-ra", "raise", "veth", "port", "pod"]
    );
    assert!(plan.outcome.routes.is_empty());
}

#[test]
fn a_configured_default_route_is_not_doubled() {
    let config = r#"{"cniVersion":"1.0.0","name":"net","isDefaultGateway":true,
        "ipam":{"subnet":"10.1.2.0/24","routes":[{"dst":"0.0.0.0/0"},{"dst":"fd00::/8"}]}}"#;
    let routes = planned(&network(config), None).unwrap().outcome.routes;
    assert_eq!(
        routes.len(),
        1,
        "no second default route, none for a family without address"
    );
    assert_eq!(routes[0].gw, Some([10, 1, 2, 1].into()));
}

#[test]
fn ports_come_last_and_127_0_0_1_only_with_its_guard() {
    let ports =
        r#","runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]}"#;
    let with_ports = |more: &str| {
        let config = SHORT.trim_end().trim_end_matches('}').to_owned() + ports + more + "}";
        planned(&network(&config), None).unwrap()
    };
    let plan = with_ports("");
    assert_eq!(kinds(&plan)[8..], ["pod", "map-ports", "route-loopback"]);
    let undo = plan.steps[9].undo();
    let owner = Owner::new("c", "eth0");
    assert_eq!(undo, Some(Undo::UnmapPorts { owner, ipv4: true }));
    assert_eq!(kinds(&with_ports(r#","snat": false"#))[8..], ["pod", "map-ports"]);
}
