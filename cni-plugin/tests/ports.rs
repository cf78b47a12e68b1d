//! Host ports as the stock plugins have them too: run on ours, and on `bridge` with `portmap` to prove the tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::net::{IpAddr, SocketAddr};

use harness::ports::mapping;
use harness::{Host, Namespace, address, address_number, on_host};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.1.0/24";
/// The host's address towards the outside, see `Host::outside`.
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn both(host_port: u16, pod_port: u16) -> Value {
    json!([
        mapping("tcp", host_port, pod_port),
        mapping("udp", host_port, pod_port)
    ])
}

/// A pod with ports that serves UDP and TCP at port 7 of each of its addresses.
fn serving(host: &Host, config: &Value, ports: &Value, container: &str) -> (Namespace, Value) {
    let pod = Namespace::new();
    let result = host.add_ports(config, ports, container, &pod);
    for number in 0..result["ips"].as_array().unwrap().len() {
        let at: SocketAddr = (address_number(&result, number), 7).into();
        pod.serve(at);
        pod.serve_tcp(at);
    }
    (pod, result)
}

#[test]
fn every_way_leads_to_the_pod() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let outside = host.outside(SUBNET);
        let (pod, _) = serving(host, &config, &both(8080, 7), "a");
        let other = Namespace::new();
        host.add(&config, "b", &other);
        let at = SocketAddr::new(HOST, 8080);
        assert_eq!(outside.ask(at), OUTSIDE, "the pod sees clients outside");
        assert_eq!(outside.ask_tcp(at), OUTSIDE);
        for own in [HOST, [10, 99, 1, 1].into(), [127, 0, 0, 1].into()] {
            let at = SocketAddr::new(own, 8080);
            host.namespace.ask(at);
            host.namespace.ask_tcp(at);
        }
        for namespace in [&pod, &other] {
            namespace.ask(at);
            namespace.ask_tcp(at);
        }
        let path = host.namespace.read("/proc/sys/net/ipv4/conf/br0/route_localnet");
        assert_eq!(path, "1");
    });
}

#[test]
fn sctp_arrives_too() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let outside = host.outside(SUBNET);
        let pod = Namespace::new();
        host.add_ports(&config, &json!([mapping("sctp", 9999, 38412)]), "a", &pod);
        assert_eq!(outside.sctp_arrives(HOST, 9999, &pod), Some(38412));
    });
}

#[test]
fn a_host_address_is_the_only_one() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let outside = host.outside(SUBNET);
        host.ip("addr add 192.0.2.9/32 dev lo");
        outside.ip("route add 192.0.2.9 via 192.0.2.1");
        let mut ports = both(8080, 7);
        for port in ports.as_array_mut().unwrap() {
            port["hostIP"] = json!("192.0.2.9");
        }
        let (_pod, _) = serving(host, &config, &ports, "a");
        let mut unspecified = both(8081, 7);
        unspecified[0]["hostIP"] = json!("0.0.0.0");
        unspecified[1]["hostIP"] = json!("::");
        let (_other, _) = serving(host, &config, &unspecified, "b");
        let at: SocketAddr = "192.0.2.9:8080".parse().unwrap();
        assert_eq!(outside.ask_tcp(at), OUTSIDE);
        host.namespace.ask(at);
        assert!(outside.is_silent((HOST, 8080).into()));
        assert!(host.namespace.is_silent("127.0.0.1:8080".parse().unwrap()));
        outside.ask_tcp((HOST, 8081).into());
        let silent = outside.try_udp(0, (HOST, 8081).into(), std::time::Duration::from_millis(500));
        assert_eq!(silent, None, "an address of the other family is none here");
    });
}

#[test]
fn destinations_elsewhere_are_left_alone() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let outside = host.outside(SUBNET);
        outside.ip("link set lo up");
        outside.ip("addr add 198.51.100.9/32 dev lo");
        host.ip("route add 198.51.100.9 via 192.0.2.2");
        let elsewhere: SocketAddr = "198.51.100.9:8080".parse().unwrap();
        outside.serve(elsewhere);
        outside.serve_tcp(elsewhere);
        // Nobody serves in the pod: what is led there is not answered.
        let (pod, other) = (Namespace::new(), Namespace::new());
        host.add_ports(&config, &both(8080, 7), "a", &pod);
        let result = host.add(&config, "b", &other);
        assert_eq!(other.ask(elsewhere), address(&result));
        assert_eq!(other.ask_tcp(elsewhere), address(&result));
        host.namespace.ask(elsewhere);
    });
}

#[test]
fn a_udp_client_that_goes_on_asking_is_answered_by_the_pod_of_the_day() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let outside = host.outside(SUBNET);
        // Something that makes the kernel track connections before the port is mapped.
        let first = Namespace::new();
        host.add_ports(&config, &both(1, 7), "first", &first);
        let at = SocketAddr::new(HOST, 8080);
        assert_eq!(
            outside.try_udp(4000, at, std::time::Duration::from_millis(300)),
            None
        );
        for container in ["a", "b"] {
            let (pod, _) = serving(host, &config, &both(8080, 7), container);
            assert_eq!(outside.ask_from(4000, at), Some(OUTSIDE), "{container}");
            host.del_ports(&config, &both(8080, 7), container, pod.path().to_str().unwrap());
            assert_eq!(
                outside.try_udp(4000, at, std::time::Duration::from_millis(300)),
                None
            );
        }
    });
}

#[test]
fn del_leads_nothing_to_the_pod_any_more() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let ports = both(8080, 7);
        let (pod, result) = serving(host, &config, &ports, "a");
        let (other, _) = serving(host, &config, &both(8081, 7), "b");
        let path = pod.path().to_str().unwrap();
        for _ in 0..2 {
            host.del_ports(&config, &ports, "a", path);
            let rules = host.namespace.program("nft", "list ruleset");
            assert!(!rules.contains(&address(&result).to_string()), "{rules}");
        }
        assert!(host.namespace.is_silent("127.0.0.1:8080".parse().unwrap()));
        host.namespace.ask_tcp("127.0.0.1:8081".parse().unwrap());
        drop(other);
    });
}

#[test]
fn both_families_have_the_ports() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["ipam"]["ranges"] = json!([[{ "subnet": SUBNET }], [{ "subnet": "fd00:99::/64" }]]);
        let outside = host.outside(SUBNET);
        let link = outside_link(host);
        host.ip(&format!("addr add 2001:db8::1/64 dev {link} nodad"));
        outside.ip("addr add 2001:db8::2/64 dev up0 nodad");
        let ports = both(8080, 7);
        let (pod, result) = serving(host, &config, &ports, "a");
        let other = Namespace::new();
        host.add(&config, "b", &other);
        let at: SocketAddr = "[2001:db8::1]:8080".parse().unwrap();
        outside.ip("route add fd00:99::/64 via 2001:db8::1");
        assert_eq!(outside.ask(at), "2001:db8::2".parse::<IpAddr>().unwrap());
        assert_eq!(outside.ask_tcp(at), "2001:db8::2".parse::<IpAddr>().unwrap());
        assert_eq!(outside.ask_tcp((HOST, 8080).into()), OUTSIDE);
        host.namespace.ask_tcp(at);
        for namespace in [&pod, &other] {
            namespace.ask_tcp(at);
            namespace.ask_tcp((HOST, 8080).into());
        }
        host.del_ports(&config, &ports, "a", pod.path().to_str().unwrap());
        let rules = host.namespace.program("nft", "list ruleset");
        assert!(
            !rules.contains(&address_number(&result, 1).to_string()),
            "{rules}"
        );
    });
}

/// The host's end of the link to the outside: the only veth that is not of a pod.
fn outside_link(host: &Host) -> String {
    let names = host.veths();
    names.into_iter().find(|name| name.starts_with("out")).unwrap()
}

#[test]
fn check_knows_the_ports() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let ports = both(8080, 7);
        let (pod, result) = serving(host, &config, &ports, "a");
        let who = ("a", pod.path().to_str().unwrap());
        assert!(host.check_ports(&config, &ports, who, &result).ok);
        host.namespace.program("nft", "flush ruleset");
        host.check_ports(&config, &ports, who, &result).error();
    });
}
