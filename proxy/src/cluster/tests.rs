use super::*;
use crate::config::{File, Settings};

/// A configuration that says this; the node is `me`.
fn settings(change: impl FnOnce(&mut File)) -> Settings {
    let mut file = File::default();
    file.client_connection.kubeconfig = "/k".to_owned();
    change(&mut file);
    Settings::new(file, Some("me"), "").expect("valid")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn networks(list: &[&str]) -> Vec<IpNetwork> {
    list.iter().map(|n| n.parse().expect("a network")).collect()
}

/// A cluster with one node, `me`.
fn cluster(addresses: &[&str]) -> Cluster {
    let mut cluster = Cluster::default();
    node(&mut cluster, addresses);
    cluster
}

fn node(cluster: &mut Cluster, addresses: &[&str]) {
    let node = Node {
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        pod_ranges: networks(&["10.244.1.0/24"]),
        ..Node::default()
    };
    assert!(cluster.apply(Input::Node("me".into(), Some(node))).is_none());
}

const LOCAL: [&str; 6] = [
    "127.0.0.1",
    "192.0.2.1",
    "198.51.100.7",
    "10.244.1.1",
    "::1",
    "fd00::1",
];

fn node_addresses(cluster: &Cluster, settings: &Settings, family: Family) -> Vec<String> {
    let local = LOCAL.map(ip);
    let facts = cluster.facts(settings, &local, family);
    facts.node_addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn node_ports_follow_the_nodes_addresses() {
    let primary = settings(|_| {});
    let mut cluster = cluster(&["192.0.2.1", "fd00::1"]);
    assert_eq!(node_addresses(&cluster, &primary, Family::Ipv4), ["192.0.2.1"]);
    assert_eq!(node_addresses(&cluster, &primary, Family::Ipv6), ["fd00::1"]);
    node(&mut cluster, &["192.0.2.77"]);
    assert_eq!(
        node_addresses(&cluster, &primary, Family::Ipv4),
        ["192.0.2.77"],
        "a new address, without a restart"
    );
    let bound = settings(|file| file.bind_address = "198.51.100.7".to_owned());
    assert_eq!(node_addresses(&cluster, &bound, Family::Ipv4), ["198.51.100.7"]);
}

#[test]
fn ranges_choose_among_the_hosts_addresses() {
    let cluster = cluster(&["192.0.2.1"]);
    let ranges = settings(|file| {
        file.node_port_addresses = vec!["192.0.2.0/24".to_owned(), "198.51.100.0/24".to_owned()];
    });
    assert_eq!(
        node_addresses(&cluster, &ranges, Family::Ipv4),
        ["192.0.2.1", "198.51.100.7"]
    );
    let listen = cluster.listen_addresses(&ranges, &LOCAL.map(ip), Family::Ipv4);
    assert_eq!(listen, [ip("192.0.2.1"), ip("198.51.100.7")]);
    let any = settings(|file| file.node_port_addresses = vec!["0.0.0.0/0".to_owned()]);
    assert_eq!(
        node_addresses(&cluster, &any, Family::Ipv4),
        ["10.244.1.1", "192.0.2.1", "198.51.100.7"],
        "all but loopback"
    );
    assert_eq!(
        cluster.listen_addresses(&any, &[], Family::Ipv4),
        [ip("0.0.0.0")],
        "one server for all"
    );
}

#[test]
fn a_family_without_an_address_of_the_node_is_served_on_all_local_ones() {
    let primary = settings(|_| {});
    let cluster = cluster(&["192.0.2.1"]);
    assert_eq!(node_addresses(&cluster, &primary, Family::Ipv6), ["fd00::1"]);
    assert_eq!(cluster.listen_addresses(&primary, &[], Family::Ipv6), [ip("::")]);
    let looks = Family::ALL.map(|family| cluster.looks_at_host(&primary, family));
    assert_eq!(looks, [false, true]);
}

#[test]
fn families_are_compared_once_the_node_has_addresses() {
    let settings = settings(|file| file.cluster_cidr = "fd00:244::/56".to_owned());
    let mut cluster = cluster(&[]);
    assert_eq!(cluster.check_families(&settings, Families::Both), None);
    node(&mut cluster, &["192.0.2.1"]);
    let told = cluster.check_families(&settings, Families::Both);
    assert!(matches!(told, Some(Ok(misfits)) if misfits.len() == 1));
    let refused = cluster.check_families(&settings, Families::Ipv4Only);
    assert!(matches!(refused, Some(Err(Misfit::OtherFamily { .. }))));
    node(&mut cluster, &["fd00::1"]);
    let refused = cluster.check_families(&settings, Families::Ipv4Only);
    assert_eq!(refused, Some(Err(Misfit::Unsupported(Family::Ipv6))));
}

#[test]
fn service_ranges_come_and_go() {
    let settings = settings(|_| {});
    let mut cluster = cluster(&["192.0.2.1"]);
    let mut set = |name: &str, ranges: Option<&[&str]>| {
        cluster.apply(Input::ServiceRanges(name.into(), ranges.map(networks)));
        cluster.facts(&settings, &[], Family::Ipv4).service_ranges
    };
    set("kubernetes", Some(&["10.96.0.0/16", "fd00:1::/112"]));
    assert_eq!(
        set("more", Some(&["10.100.0.0/24"])),
        networks(&["10.96.0.0/16", "10.100.0.0/24"])
    );
    assert_eq!(set("kubernetes", None), networks(&["10.100.0.0/24"]));
}
