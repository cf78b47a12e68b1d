//! DEL and GC, killed before each of their steps: whoever comes next finds what is left, and no address has two pods meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use gantry_announce::{Announcement, Answer as Word};
use harness::daemon::listen;
use harness::ports::mapping;
use harness::{Answer, Host, Namespace, on_host, ours};
use serde_json::{Value, json};

mod harness;

/// See `fault`. DEL survives the death of the copy of itself that deletes the devices.
const STEPS: [&str; 8] = [
    "ports",
    "ports-ipv6",
    "devices",
    "child",
    "waiting",
    "announcement",
    "lease-0",
    "lease-1",
];
const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web";

/// One address of each family.
fn plain(host: &Host) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "gantry-cni", "bridge": "br0",
        "isDefaultGateway": true, "ipMasq": true, "policySocket": host.data.path().join("policy.sock"),
        "cni.dev/valid-attachments": [],
        "ipam": { "dataDir": host.data.path(), "ranges": [
            [{ "subnet": "10.99.1.0/24", "rangeStart": "10.99.1.9", "rangeEnd": "10.99.1.9" }],
            [{ "subnet": "fd00:99::/64", "rangeStart": "fd00:99::9", "rangeEnd": "fd00:99::9" }]
        ] }
    })
}

/// With all that a pod can have.
fn full(host: &Host) -> Value {
    let mut config = plain(host);
    config["runtimeConfig"] = json!({
        "portMappings": [mapping("TCP", 8080, 7)],
        "bandwidth": {
            "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000
        }
    });
    config
}

fn call(host: &Host, (command, fault): (&str, &str), config: &Value, container: &str, netns: &str) -> Answer {
    let variables = [
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", netns),
        ("CNI_ARGS", POD),
        ("GANTRY_CNI_FAULT", fault),
    ];
    host.call_plugin(&ours(), command, &config.to_string(), &variables)
}

/// A pod of whom DEL or GC was killed before a step, and what the daemon was told.
struct Killed {
    pod: Namespace,
    told: Receiver<Announcement>,
}

impl Killed {
    fn before(host: &Host, command: &str, step: &str) -> Self {
        let told = listen(&host.data.path().join("policy.sock"), Word::Enforced);
        let pod = Namespace::new();
        call(host, ("ADD", ""), &full(host), "a", path(&pod)).result();
        assert!(matches!(told.recv().unwrap(), Announcement::Attached(_)));
        let fault = format!("kill:{step}");
        let done = call(host, (command, &fault), &full(host), "a", path(&pod)).ok;
        assert_eq!(done, step == "child", "{command} before {step}");
        Self { pod, told }
    }

    /// Waits until the daemon has heard of an end.
    fn hear(&self, is_end: impl Fn(&Announcement) -> bool) {
        while !is_end(&self.told.recv_timeout(Duration::from_secs(20)).unwrap()) {}
    }

    fn has_interface(&self) -> bool {
        self.pod.ip("link").contains("eth0")
    }
}

fn path(pod: &Namespace) -> &str {
    pod.path().to_str().unwrap()
}

fn nothing_is_left(host: &Host, step: &str) {
    assert_eq!(host.devices(), [""; 0], "{step}");
    let rules = host.namespace.program("nft", "list ruleset");
    assert!(
        !rules.contains(" a\"") && !rules.contains("8080"),
        "{step}: {rules}"
    );
    // Both addresses and the port are free.
    let next = Namespace::new();
    call(host, ("ADD", ""), &full(host), "next", path(&next)).result();
    assert!(call(host, ("DEL", ""), &full(host), "next", path(&next)).ok);
}

#[test]
fn a_second_del_ends_what_a_killed_one_began() {
    for step in STEPS {
        on_host(|host| {
            let killed = Killed::before(host, "DEL", step);
            assert!(
                call(host, ("DEL", ""), &full(host), "a", path(&killed.pod)).ok,
                "{step}"
            );
            assert!(!killed.has_interface(), "{step}");
            let gone = Announcement::Detached {
                interface: "a:eth0".into(),
            };
            killed.hear(|one| *one == gone);
            nothing_is_left(host, step);
        });
    }
}

#[test]
fn gc_ends_what_a_killed_del_or_gc_began() {
    for command in ["DEL", "GC"] {
        for step in STEPS {
            on_host(|host| {
                let killed = Killed::before(host, command, step);
                assert!(call(host, ("GC", ""), &full(host), "", "").ok, "{step}");
                assert!(!killed.has_interface(), "{step}");
                killed.hear(|one| !matches!(one, Announcement::Attached(_)));
                nothing_is_left(host, step);
            });
        }
    }
}

#[test]
fn addresses_come_back_without_del_when_the_namespace_is_gone() {
    for step in STEPS {
        on_host(|host| {
            let Killed { pod, told } = Killed::before(host, "DEL", step);
            drop(pod);
            // The kernel tears namespaces down in the background.
            let deadline = Instant::now() + Duration::from_secs(20);
            while !host.veths().is_empty() {
                assert!(Instant::now() < deadline, "{:?}", host.veths());
                std::thread::yield_now();
            }
            let next = Namespace::new();
            call(host, ("ADD", ""), &full(host), "next", path(&next)).result();
            assert!(
                call(host, ("DEL", ""), &full(host), "next", path(&next)).ok,
                "{step}"
            );
            nothing_is_left(host, step);
            drop(told);
        });
    }
}

#[test]
fn no_address_has_two_pods() {
    for step in STEPS {
        on_host(|host| {
            let killed = Killed::before(host, "DEL", step);
            let other = Namespace::new();
            let added = call(host, ("ADD", ""), &plain(host), "b", path(&other));
            assert!(!(added.ok && killed.has_interface()), "{step}");
            // Whoever has the address now keeps it.
            assert!(
                call(host, ("DEL", ""), &full(host), "a", path(&killed.pod)).ok,
                "{step}"
            );
            assert_eq!(host.devices().len(), usize::from(added.ok), "{step}");
            if !added.ok {
                assert_eq!(added.error()["code"], 11, "{step}");
                call(host, ("ADD", ""), &plain(host), "b", path(&other)).result();
            }
            let addresses = other.ip("-o addr show dev eth0");
            assert!(addresses.contains("10.99.1.9/24") && addresses.contains("fd00:99::9/64"));
            assert!(
                !call(host, ("ADD", ""), &plain(host), "c", path(&killed.pod)).ok,
                "{step}"
            );
        });
    }
}
