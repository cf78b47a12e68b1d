//! What every plugin of this kind has to do: run against ours, and against the stock `bridge` and `host-local`
//! (see `harness`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::unix::fs::symlink;

use harness::{Host, Namespace, address, address_number, on_host, ours, reference};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.1.0/24";

#[test]
fn add_wires_a_pod() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let (a, b) = (Namespace::new(), Namespace::new());
        let result = host.add(&config, "a", &a);
        let other = host.add(&config, "b", &b);
        let gateway: IpAddr = [10, 99, 1, 1].into();
        host.namespace.serve((gateway, 7).into());
        b.serve((address(&other), 7).into());
        assert_eq!(
            a.ask((gateway, 7).into()),
            address(&result),
            "the gateway sees the pod's address"
        );
        assert_eq!(
            a.ask((address(&other), 7).into()),
            address(&result),
            "so does another pod"
        );
        assert!(a.ip("route").contains("default via 10.99.1.1 dev eth0"));
        let container = &result["interfaces"][2];
        assert_eq!(container["name"], "eth0");
        assert_eq!(container["sandbox"], a.path().to_str().unwrap());
        assert!(
            a.ip("link show eth0")
                .contains(container["mac"].as_str().unwrap())
        );
        let port = result["interfaces"][1]["name"].as_str().unwrap();
        assert!(
            host.namespace
                .program("bridge", &format!("-d link show dev {port}"))
                .contains("hairpin on")
        );
        assert_eq!(host.namespace.read("/proc/sys/net/ipv4/ip_forward"), "1");
    });
}

#[test]
fn a_pod_reaches_itself_through_the_bridge() {
    on_host(|host| {
        let pod = Namespace::new();
        let result = host.add(&host.config(SUBNET), "a", &pod);
        // What a service address that leads back to the same pod does, with a plain destination translation.
        host.namespace.program("nft", "add table ip t");
        host.namespace.program(
            "nft",
            "add chain ip t pre { type nat hook prerouting priority -100 ; }",
        );
        host.namespace.program(
            "nft",
            "add chain ip t post { type nat hook postrouting priority 100 ; }",
        );
        host.namespace.program(
            "nft",
            &format!(
                "add rule ip t pre ip daddr 10.200.0.1 dnat to {}",
                address(&result)
            ),
        );
        host.namespace
            .program("nft", "add rule ip t post ct status dnat masquerade");
        pod.serve((address(&result), 7).into());
        pod.ask("10.200.0.1:7".parse().unwrap());
    });
}

#[test]
fn del_leaves_nothing() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["ipMasq"] = json!(true);
        config["ipam"]["ranges"][0][0]["rangeStart"] = json!("10.99.1.9");
        config["ipam"]["ranges"][0][0]["rangeEnd"] = json!("10.99.1.9");
        for container in ["a", "b", "c"] {
            let pod = Namespace::new();
            // The range has a single address: the DEL before must have freed it.
            assert_eq!(
                address(&host.add(&config, container, &pod)),
                IpAddr::from([10, 99, 1, 9])
            );
            host.del(&config, container, pod.path().to_str().unwrap());
            assert_eq!(host.veths(), [""; 0]);
            assert!(
                !pod.ip("link").contains("eth0"),
                "the interface is gone though the namespace lives"
            );
            assert!(
                !host
                    .namespace
                    .program("nft", "list ruleset")
                    .contains("10.99.1.9")
            );
        }
    });
}

#[test]
fn del_works_twice_and_without_a_namespace() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["ipam"]["ranges"][0][0]["rangeStart"] = json!("10.99.1.9");
        config["ipam"]["ranges"][0][0]["rangeEnd"] = json!("10.99.1.9");
        let pod = Namespace::new();
        let path = pod.path().to_str().unwrap().to_owned();
        host.del(&config, "never-added", &path);
        host.add(&config, "a", &pod);
        host.del(&config, "a", &path);
        host.del(&config, "a", &path);
        host.add(&config, "b", &pod);
        drop(pod);
        host.del(&config, "b", &path);
        let pod = Namespace::new();
        host.add(&config, "c", &pod);
        drop(pod);
        host.del(&config, "c", "");
        host.add(&config, "d", &Namespace::new());
    });
}

#[test]
fn a_second_add_is_refused_and_harms_nothing() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let pod = Namespace::new();
        let result = host.add(&config, "a", &pod);
        let path = pod.path().to_str().unwrap();
        host.call("ADD", &config, "a", path).error();
        host.call("ADD", &config, "another", path).error();
        let gateway: IpAddr = [10, 99, 1, 1].into();
        host.namespace.serve((gateway, 7).into());
        assert_eq!(pod.ask((gateway, 7).into()), address(&result));
        assert_eq!(host.veths().len(), 1);
    });
}

#[test]
fn parallel_adds_get_distinct_addresses() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let pods: Vec<_> = (0..50).map(|_| Namespace::new()).collect();
        let results: Vec<Value> = std::thread::scope(|scope| {
            let one = |(number, pod)| {
                let config = &config;
                scope.spawn(move || host.add(config, &format!("c{number}"), pod))
            };
            let calls: Vec<_> = pods.iter().enumerate().map(one).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let addresses: HashSet<_> = results.iter().map(address).collect();
        assert_eq!(addresses.len(), 50);
        assert_eq!(host.veths().len(), 50);
    });
}

#[test]
fn an_exhausted_range_says_so_and_recovers() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["ipam"]["ranges"][0][0]["rangeEnd"] = json!("10.99.1.3");
        let pods: Vec<_> = (0..3).map(|_| Namespace::new()).collect();
        host.add(&config, "a", &pods[0]);
        host.add(&config, "b", &pods[1]);
        let error = host
            .call("ADD", &config, "c", pods[2].path().to_str().unwrap())
            .error();
        assert!(
            error["msg"].as_str().unwrap().contains("10.99.1.1-10.99.1.3"),
            "{error}"
        );
        // The runtime calls DEL after a failed ADD: the stock plugin leaves its veth until then, ours does not (own.rs).
        host.del(&config, "c", pods[2].path().to_str().unwrap());
        host.del(&config, "a", pods[0].path().to_str().unwrap());
        host.add(&config, "c", &pods[2]);
    });
}

#[test]
fn bad_input_is_answered_with_an_error_object() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let pod = Namespace::new();
        let netns = pod.path().to_str().unwrap();
        let usual = [("CNI_CONTAINERID", "a"), ("CNI_NETNS", netns)];
        let call = |command, stdin: &str, more: &[(&str, &str)]| {
            host.call_with(command, stdin, &[&usual, more].concat()).error()["code"]
                .as_u64()
                .unwrap()
        };
        let good = config.to_string();
        for stdin in [
            "",
            "{",
            "[]",
            "\"x\"",
            "{\"name\": 3}",
            "\u{0}\u{ff}",
            &"[".repeat(20_000),
        ] {
            assert_eq!(call("ADD", stdin, &[]), 6, "{stdin:.20}");
        }
        assert_eq!(call("ADD", &good.replace("1.0.0", "9.9.9"), &[]), 1);
        assert_eq!(call("ADD", &good.replace("\"net\"", "\"../net\""), &[]), 7);
        assert_eq!(call("FROBNICATE", &good, &[]), 4);
        for missing in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert_eq!(call("ADD", &good, &[(missing, "")]), 4, "{missing}");
        }
        for (name, value) in [
            ("CNI_CONTAINERID", "../a"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "much-too-long-for-it"),
        ] {
            assert_eq!(call("ADD", &good, &[(name, value)]), 4, "{value}");
        }
        call("ADD", &good, &[("CNI_NETNS", "/run/netns/there-is-none")]);
        call("ADD", &good, &[("CNI_NETNS", "/etc/passwd")]);
        call("ADD", &good.replace("10.99.1.0/24", "10.99.1.0"), &[]);
    });
}

#[test]
fn each_version_has_its_result_and_passes_check() {
    on_host(|host| {
        for (number, version) in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"].into_iter().enumerate() {
            let mut config = host.config(SUBNET);
            config["cniVersion"] = json!(version);
            let pod = Namespace::new();
            let container = format!("c{number}");
            let result = host.add(&config, &container, &pod);
            assert_eq!(result["cniVersion"], version);
            assert_eq!(
                result["ips"][0].get("version").is_some(),
                version < "1.0.0",
                "{result}"
            );
            assert_eq!(result["ips"][0]["interface"], 2);
            assert_eq!(result["ips"][0]["gateway"], "10.99.1.1");
            config["prevResult"] = result;
            let check = host.call("CHECK", &config, &container, pod.path().to_str().unwrap());
            assert_eq!(check.ok, version != "0.3.1", "{check:?}");
            host.del(&config, &container, pod.path().to_str().unwrap());
        }
        let versions = host
            .call_with("VERSION", "{\"cniVersion\":\"1.1.0\"}", &[])
            .result();
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            assert!(
                versions["supportedVersions"]
                    .as_array()
                    .unwrap()
                    .contains(&json!(version))
            );
        }
    });
}

#[test]
fn check_finds_what_is_damaged() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        let pod = Namespace::new();
        let path = pod.path().to_str().unwrap();
        let result = host.add(&config, "a", &pod);
        let check = |config: &Value| host.call("CHECK", config, "a", path);
        check(&config).error();
        config["prevResult"] = result.clone();
        assert!(check(&config).ok);
        let address = result["ips"][0]["address"].as_str().unwrap();
        pod.ip("route del default");
        check(&config).error();
        pod.ip("route add default via 10.99.1.1");
        assert!(check(&config).ok);
        pod.ip(&format!("addr del {address} dev eth0"));
        check(&config).error();
        pod.ip("link del eth0");
        check(&config).error();
        host.del(&config, "a", path);
    });
}

#[test]
fn the_outside_sees_the_node_and_pods_see_pods() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["ipMasq"] = json!(true);
        let outside = host.outside(SUBNET);
        outside.serve("192.0.2.2:7".parse().unwrap());
        let (a, b) = (Namespace::new(), Namespace::new());
        let first = host.add(&config, "a", &a);
        let second = host.add(&config, "b", &b);
        b.serve((address(&second), 7).into());
        assert_eq!(
            a.ask("192.0.2.2:7".parse().unwrap()),
            IpAddr::from([192, 0, 2, 1])
        );
        assert_eq!(a.ask((address(&second), 7).into()), address(&first));
    });
}

#[test]
fn without_masquerade_the_outside_sees_the_pod() {
    on_host(|host| {
        let outside = host.outside(SUBNET);
        outside.serve("192.0.2.2:7".parse().unwrap());
        let pod = Namespace::new();
        let result = host.add(&host.config(SUBNET), "a", &pod);
        assert_eq!(pod.ask("192.0.2.2:7".parse().unwrap()), address(&result));
    });
}

#[test]
fn both_families_work_at_once() {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["ipam"]["ranges"] = json!([[{ "subnet": SUBNET }], [{ "subnet": "fd00:99::/64" }]]);
        let (a, b) = (Namespace::new(), Namespace::new());
        let first = host.add(&config, "a", &a);
        let second = host.add(&config, "b", &b);
        let gateway: IpAddr = "fd00:99::1".parse().unwrap();
        for number in [0, 1] {
            let (from, to) = (address_number(&first, number), address_number(&second, number));
            b.serve((to, 7).into());
            assert_eq!(a.ask((to, 7).into()), from);
        }
        host.namespace.serve((gateway, 7).into());
        assert_eq!(a.ask((gateway, 7).into()), address_number(&first, 1));
        config["prevResult"] = first;
        assert!(host.call("CHECK", &config, "a", a.path().to_str().unwrap()).ok);
        host.del(&config, "a", a.path().to_str().unwrap());
        assert_eq!(host.veths().len(), 1);
    });
}

#[test]
fn wishes_of_the_runtime_are_granted() {
    on_host(|host| {
        let config = host.config(SUBNET);
        let pod = Namespace::new();
        let netns = pod.path().to_str().unwrap();
        let args = "IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.99.1.77;MAC=0a:00:00:00:00:09";
        let usual = [("CNI_CONTAINERID", "a"), ("CNI_NETNS", netns), ("CNI_ARGS", args)];
        let mut wish = config.clone();
        wish["args"] = json!({ "cni": { "mac": "0a:00:00:00:00:09" } });
        let result = host.call_with("ADD", &wish.to_string(), &usual).result();
        assert_eq!(address(&result), IpAddr::from([10, 99, 1, 77]));
        assert!(pod.ip("link show eth0").contains("0a:00:00:00:00:09"));
        let other = Namespace::new();
        let usual = [
            ("CNI_CONTAINERID", "b"),
            ("CNI_NETNS", other.path().to_str().unwrap()),
            usual[2],
        ];
        host.call_with("ADD", &config.to_string(), &usual).error();
    });
}

#[test]
fn as_loopback_it_sets_lo_up() {
    on_host(|host: &Host| {
        let plugin = host.data.path().join("loopback");
        let real = reference().map_or_else(ours, |directory| directory.join("loopback"));
        symlink(real, &plugin).unwrap();
        let pod = Namespace::new();
        let path = pod.path().to_owned();
        let usual = [
            ("CNI_CONTAINERID", "a"),
            ("CNI_IFNAME", "lo"),
            ("CNI_NETNS", path.to_str().unwrap()),
        ];
        let mut config = json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" });
        let call = |command, config: &Value| host.call_plugin(&plugin, command, &config.to_string(), &usual);
        let result = call("ADD", &config).result();
        assert_eq!(address(&result), IpAddr::from([127, 0, 0, 1]));
        assert!(pod.ip("link show lo").contains("LOOPBACK,UP"));
        config["prevResult"] = result;
        assert!(call("CHECK", &config).ok);
        assert!(call("DEL", &config).ok);
        call("CHECK", &config).error();
        drop(pod);
        assert!(call("DEL", &config).ok);
    });
}
