//! Host ports beyond the stock plugins: conflicts, crashes, repair, and what the rules must not do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use harness::ports::{mapping, with_ports};
use harness::{Answer, Host, Namespace, address, on_host, ours};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.1.0/24";
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// More steps than a plan has.
const STEPS: usize = 16;
const TABLE: &str = "gantry-hostports";

/// Dual stack, with room for two pods.
fn small(host: &Host) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "gantry-cni", "bridge": "br0",
        "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": { "dataDir": host.data.path(), "ranges": [
            [{ "subnet": SUBNET, "rangeStart": "10.99.1.8", "rangeEnd": "10.99.1.9" }],
            [{ "subnet": "fd00:99::/64" }]
        ] }
    })
}

fn http(host_port: u16) -> Value {
    json!([mapping("TCP", host_port, 7), mapping("UDP", host_port, 7)])
}

fn call(host: &Host, command: &str, config: &Value, container: &str, pod: &Namespace) -> Answer {
    faulty(host, (command, ""), config, container, pod)
}

/// With a fault, see `fault`.
fn faulty(
    host: &Host,
    (command, fault): (&str, &str),
    config: &Value,
    container: &str,
    pod: &Namespace,
) -> Answer {
    let variables = [
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", pod.path().to_str().unwrap()),
        ("GANTRY_CNI_FAULT", fault),
    ];
    host.call_plugin(&ours(), command, &config.to_string(), &variables)
}

/// The lines of the ruleset that name this container.
fn elements_of(host: &Host, container: &str) -> usize {
    let rules = host.namespace.program("nft", "list ruleset");
    rules.matches(&format!(" {container}\"")).count()
}

/// A pod that serves UDP and TCP at port 7.
fn serving(host: &Host, config: &Value, container: &str) -> (Namespace, Value) {
    let pod = Namespace::new();
    let result = call(host, "ADD", config, container, &pod).result();
    pod.serve((address(&result), 7).into());
    pod.serve_tcp((address(&result), 7).into());
    (pod, result)
}

fn wait_until_no_veth(host: &Host) {
    // The kernel tears namespaces down in the background.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !host.veths().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", host.veths());
        std::thread::yield_now();
    }
}

#[test]
fn a_port_of_a_live_pod_is_refused_and_nothing_stays() {
    on_host(|host| {
        let config = small(host);
        let (first, _) = serving(host, &with_ports(&config, &http(8080)), "first");
        let second = Namespace::new();
        let mut ports = http(8081);
        ports.as_array_mut().unwrap().push(mapping("udp", 8080, 9));
        let wanted = with_ports(&config, &ports);
        let error = call(host, "ADD", &wanted, "second", &second).error();
        assert_eq!(error["code"], 104, "{error}");
        let msg = error["msg"].as_str().unwrap();
        assert!(msg.contains("8080/udp") && msg.contains("\"first\""), "{msg}");
        assert_eq!((host.veths().len(), elements_of(host, "second")), (1, 0));
        host.namespace.ask("127.0.0.1:8080".parse().unwrap());
        assert!(call(host, "DEL", &wanted, "second", &second).ok);
        assert!(call(host, "DEL", &config, "first", &first).ok);
        call(host, "ADD", &wanted, "second", &second).result();
    });
}

#[test]
fn ports_of_a_vanished_pod_can_be_taken_and_do_not_lead_to_the_next_with_its_address() {
    on_host(|host| {
        let config = small(host);
        for (number, ports) in [http(8080), http(8081)].iter().enumerate() {
            let pod = Namespace::new();
            call(
                host,
                "ADD",
                &with_ports(&config, ports),
                &format!("gone{number}"),
                &pod,
            )
            .result();
        }
        wait_until_no_veth(host);
        assert!(elements_of(host, "gone0") > 0 && elements_of(host, "gone1") > 0);
        // One takes the port, which does not free the address.
        let (heir, _) = serving(host, &with_ports(&config, &http(8080)), "heir");
        assert_eq!(elements_of(host, "gone0"), 0);
        host.namespace.ask("127.0.0.1:8080".parse().unwrap());
        // Both addresses were taken: the other one's is given again, and nothing leads there any more.
        let (plain, _) = serving(host, &config, "plain");
        assert_eq!(elements_of(host, "gone1"), 0);
        assert!(host.namespace.is_silent("127.0.0.1:8081".parse().unwrap()));
        drop((heir, plain));
    });
}

#[test]
fn a_failure_at_any_step_leaves_no_port() {
    for step in 0..STEPS {
        let done = std::cell::Cell::new(false);
        on_host(|host| {
            let config = with_ports(&small(host), &http(8080));
            let pod = Namespace::new();
            let answer = faulty(host, ("ADD", &format!("fail:{step}")), &config, "a", &pod);
            if answer.ok {
                assert!(step > 12, "the plan has more steps than {step}");
                done.set(true);
                return;
            }
            answer.error();
            assert_eq!((host.veths(), elements_of(host, "a")), (vec![], 0), "step {step}");
            call(host, "ADD", &config, "b", &pod).result();
        });
        if done.get() {
            return;
        }
    }
}

#[test]
fn the_ports_of_an_add_killed_at_any_step_go_with_del_and_are_free_without_it() {
    for step in 6..STEPS {
        on_host(|host| {
            let config = with_ports(&small(host), &http(8080));
            let (pod, lost) = (Namespace::new(), Namespace::new());
            faulty(host, ("ADD", &format!("kill:{step}")), &config, "a", &pod);
            for _ in 0..2 {
                assert!(call(host, "DEL", &config, "a", &pod).ok);
                assert_eq!((host.veths(), elements_of(host, "a")), (vec![], 0), "step {step}");
            }
            faulty(host, ("ADD", &format!("kill:{step}")), &config, "lost", &lost);
            drop(lost);
            wait_until_no_veth(host);
            call(host, "ADD", &config, "b", &pod).result();
            assert_eq!(elements_of(host, "lost"), 0, "step {step}");
            assert!(elements_of(host, "b") > 0);
        });
    }
}

#[test]
fn gc_is_about_its_network_and_the_dead() {
    on_host(|host| {
        let config = small(host);
        let mut other = config.clone();
        (other["name"], other["bridge"]) = (json!("other"), json!("br1"));
        other["ipam"]["ranges"] = json!([[{ "subnet": "10.99.2.0/24" }]]);
        let pods: Vec<_> = (0..3).map(|_| Namespace::new()).collect();
        let vanished = Namespace::new();
        call(host, "ADD", &with_ports(&config, &http(1)), "valid", &pods[0]).result();
        call(host, "ADD", &with_ports(&config, &http(2)), "invalid", &pods[1]).result();
        call(host, "ADD", &with_ports(&other, &http(3)), "foreign", &pods[2]).result();
        let result = call(host, "ADD", &with_ports(&other, &http(4)), "dead", &vanished).result();
        drop(vanished);
        let veth = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(20);
        while host.veths().contains(&veth) {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let mut gc = config.clone();
        gc["cni.dev/valid-attachments"] = json!([{ "containerID": "valid", "ifname": "eth0" }]);
        assert!(call(host, "GC", &gc, "", &pods[0]).ok);
        let left = ["valid", "invalid", "foreign", "dead"].map(|name| elements_of(host, name) > 0);
        assert_eq!(left, [true, false, true, false]);
    });
}

#[test]
fn check_names_the_port_that_is_lost() {
    on_host(|host| {
        let mut config = with_ports(&small(host), &http(8080));
        let (pod, result) = serving(host, &config, "a");
        config["prevResult"] = result;
        assert!(call(host, "CHECK", &config, "a", &pod).ok);
        let nft = |words: &str| host.namespace.program("nft", words);
        nft(&format!("delete element ip {TABLE} ports {{ udp . 8080 }}"));
        let error = call(host, "CHECK", &config, "a", &pod).error();
        assert_eq!(error["code"], 101);
        assert!(error["msg"].as_str().unwrap().contains("8080/udp"), "{error}");
        nft(&format!("delete table ip {TABLE}"));
        assert_eq!(call(host, "CHECK", &config, "a", &pod).error()["code"], 101);
    });
}

#[test]
fn the_rules_do_not_grow_and_parallel_adds_lose_nothing() {
    on_host(|host| {
        let mut config = small(host);
        config["ipam"]["ranges"] = json!([[{ "subnet": SUBNET }], [{ "subnet": "fd00:99::/64" }]]);
        let pods: Vec<_> = (0..20_u16).map(|_| Namespace::new()).collect();
        std::thread::scope(|scope| {
            for (number, pod) in (0_u16..).zip(&pods) {
                let config = with_ports(&config, &http(8000 + number));
                scope.spawn(move || call(host, "ADD", &config, &format!("c{number}-"), pod).result());
            }
        });
        for number in 0..20 {
            // Two ports for each family; sources are two ranges in IPv4 and one in IPv6.
            assert_eq!(elements_of(host, &format!("c{number}-")), 7, "{number}");
        }
        let rules = host
            .namespace
            .program("nft", &format!("-s list table ip {TABLE}"));
        assert_eq!(rules.matches("dnat").count(), 2, "{rules}");
        assert_eq!(rules.matches("masquerade fully-random").count(), 1, "{rules}");
        assert_eq!(rules.matches("chain ").count(), 5, "{rules}");
        std::thread::scope(|scope| {
            for (number, pod) in pods.iter().enumerate() {
                let config = &config;
                scope.spawn(move || assert!(call(host, "DEL", config, &format!("c{number}-"), pod).ok));
            }
        });
        let rules = host.namespace.program("nft", "list ruleset");
        assert!(!rules.contains("elements"), "{rules}");
    });
}

#[test]
fn a_table_of_another_version_is_replaced_and_keeps_its_ports() {
    on_host(|host| {
        let config = small(host);
        let (old, _) = serving(host, &with_ports(&config, &http(8080)), "old");
        let listed = host.namespace.program("nft", &format!("list table ip {TABLE}"));
        let file = host.data.path().join("table.nft");
        let (_, rest) = listed.split_once("comment \"gantry-cni").unwrap();
        let (_, rest) = rest.split_once('\n').unwrap();
        let text = format!("delete table ip {TABLE}\ntable ip {TABLE} {{\ncomment \"older\"\n{rest}");
        std::fs::write(&file, text).unwrap();
        host.namespace.program("nft", &format!("-f {}", file.display()));
        let (new, _) = serving(host, &with_ports(&config, &http(8081)), "new");
        let replaced = host.namespace.program("nft", &format!("list table ip {TABLE}"));
        assert!(replaced.contains("comment \"gantry-cni"), "{replaced}");
        for port in [8080, 8081] {
            host.namespace.ask(SocketAddr::new([127, 0, 0, 1].into(), port));
        }
        drop((old, new));
    });
}

#[test]
fn pods_do_not_reach_what_listens_on_the_hosts_loopback() {
    on_host(|host| {
        let config = with_ports(&small(host), &http(8080));
        let pod = Namespace::new();
        call(host, "ADD", &config, "a", &pod).result();
        let hidden: SocketAddr = "127.0.0.1:9".parse().unwrap();
        host.namespace.serve(hidden);
        // What an attacker does in a pod: 127.0.0.1 is no longer its own.
        pod.program("sysctl", "-qw net.ipv4.conf.all.route_localnet=1");
        pod.ip("link set lo up");
        pod.ip("addr del 127.0.0.1/8 dev lo");
        pod.ip("route add 127.0.0.1/32 via 10.99.1.1 dev eth0 src 10.99.1.8");
        assert!(pod.is_silent(hidden));
        // Proof that the guard is what keeps it out.
        host.namespace
            .program("nft", &format!("flush chain ip {TABLE} guard"));
        pod.ask(hidden);
    });
}

#[test]
fn only_what_comes_through_a_host_port_is_masqueraded() {
    on_host(|host| {
        let config = with_ports(&small(host), &http(8080));
        let (_pod, result) = serving(host, &config, "a");
        let other = Namespace::new();
        let own = call(host, "ADD", &small(host), "b", &other).result();
        let gateway: IpAddr = [10, 99, 1, 1].into();
        let target = address(&result);
        assert_eq!(other.ask((target, 7).into()), address(&own), "straight");
        assert_eq!(
            other.ask(SocketAddr::new(gateway, 8080)),
            gateway,
            "the host port"
        );
        // A service of the same port, as a proxy makes it.
        let nft = |words: &str| host.namespace.program("nft", words);
        nft("add table ip t");
        nft("add chain ip t pre { type nat hook prerouting priority -100 ; }");
        nft(&format!(
            "add rule ip t pre ip daddr 10.200.0.1 udp dport 8080 dnat to {target}:7"
        ));
        let service: SocketAddr = "10.200.0.1:8080".parse().unwrap();
        assert_eq!(other.ask(service), address(&own), "the service");
    });
}

#[test]
fn pods_of_a_bridge_need_no_netfilter_for_bridges() {
    on_host(|host| {
        let config = with_ports(&small(host), &http(8080));
        let (pod, _) = serving(host, &config, "a");
        let other = Namespace::new();
        call(host, "ADD", &small(host), "b", &other).result();
        // Only where the kernel module is loaded is there something to switch off.
        if host
            .namespace
            .run(|| std::path::Path::new("/proc/sys/net/bridge").exists())
        {
            host.namespace
                .program("sysctl", "-qw net.bridge.bridge-nf-call-iptables=0");
        }
        for namespace in [&pod, &other] {
            namespace.ask_tcp("10.99.1.1:8080".parse().unwrap());
        }
    });
}

#[test]
fn sources_are_translated_as_configured() {
    on_host(|host| {
        let outside = host.outside(SUBNET);
        let at = |port| SocketAddr::new(HOST, port);
        for (container, port, field, value) in [("all", 8080, "masqAll", true), ("none", 8081, "snat", false)]
        {
            let mut config = with_ports(&small(host), &http(port));
            config[field] = json!(value);
            let (pod, _) = serving(host, &config, container);
            let seen = outside.ask_tcp(at(port));
            let expected: IpAddr = if value { [10, 99, 1, 1] } else { [192, 0, 2, 2] }.into();
            assert_eq!(seen, expected, "{container}");
            let loopback = SocketAddr::new([127, 0, 0, 1].into(), port);
            assert_eq!(host.namespace.is_silent(loopback), !value, "{container}");
            assert!(call(host, "DEL", &config, container, &pod).ok);
        }
    });
}

#[test]
fn a_pod_whose_wishes_are_refused_can_be_deleted() {
    on_host(|host| {
        let config = with_ports(&small(host), &json!([mapping("icmp", 1, 1)]));
        let pod = Namespace::new();
        let error = call(host, "ADD", &config, "a", &pod).error();
        assert_eq!(error["code"], 7);
        assert!(call(host, "DEL", &config, "a", &pod).ok);
    });
}

#[test]
fn ipv6_loopback_stays_with_the_host() {
    on_host(|host| {
        let config = with_ports(&small(host), &http(8080));
        let (_pod, _) = serving(host, &config, "a");
        let own: SocketAddr = "[::1]:8080".parse().unwrap();
        host.namespace.serve(own);
        assert_eq!(host.namespace.ask(own), own.ip());
    });
}
