//! Events for users, seen from the API server: the whole program in a network namespace. Needs root.
//!
//! With `GANTRY_REFERENCE_PROXY` set to a kube-proxy the same tests run on that, which proves them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

#[allow(dead_code, reason = "made for the packet tests, which ask for more")]
#[path = "packets/api.rs"]
mod api;
mod netns;

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use api::{Api, Kind};
use netns::Netns;
use serde_json::{Value, json};

/// What the program has to do takes it milliseconds, and the reference seconds.
const PATIENCE: Duration = Duration::from_secs(30);
const NODE: &str = "n";
const ADDRESS: &str = "192.0.2.1";

/// A node with an API server, in a network namespace of its own.
struct Node {
    netns: Netns,
    api: Api,
    dir: tempfile::TempDir,
}

/// The program, which ends with this value.
struct Proxy(Child);

impl Node {
    fn new() -> Self {
        let netns = Netns::new("node");
        for args in [
            &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"][..],
            &["address", "add", &format!("{ADDRESS}/24"), "dev", "eth0"],
            &["link", "set", "eth0", "up"],
        ] {
            netns.ip(args);
        }
        let node = Self {
            api: netns.run(Api::start),
            netns,
            dir: tempfile::tempdir().unwrap(),
        };
        let address = json!([{"type": "InternalIP", "address": ADDRESS}]);
        node.api.put(
            Kind::Node,
            NODE,
            json!({"metadata": {}, "spec": {}, "status": {"addresses": address}}),
        );
        let ranges = json!({"metadata": {}, "spec": {"cidrs": ["10.96.0.0/16"]}});
        node.api.put(Kind::ServiceCidr, "kubernetes", ranges);
        node
    }

    fn listen(&self, port: u16) -> TcpListener {
        self.netns.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap())
    }

    /// Starts the program, which fails for good where a port of its own is taken.
    fn start(&self) -> Proxy {
        let cluster = json!({"name": "c", "cluster": {"server": self.api.url()}});
        let context = json!({"name": "c", "context": {"cluster": "c"}});
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster], "contexts": [context],
        });
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": NODE,
            "bindAddressHardFail": true,
            "clientConnection": {"kubeconfig": self.dir.path().join("kubeconfig"), "contentType": "application/json"},
            "clusterCIDR": "10.244.0.0/16",
            // The host's limits are not a test's to change.
            "conntrack": {"maxPerCore": 0},
        });
        for (name, content) in [("kubeconfig", kubeconfig), ("config", config)] {
            std::fs::write(self.dir.path().join(name), content.to_string()).unwrap();
        }
        let program = std::env::var_os("GANTRY_REFERENCE_PROXY");
        let program = program.map_or_else(
            || PathBuf::from(env!("CARGO_BIN_EXE_gantry-proxy")),
            PathBuf::from,
        );
        let log = File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(self.dir.path().join("config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Proxy(self.netns.run(|| command.spawn().unwrap()))
    }

    /// The event with this reason, once it was told.
    fn event(&self, reason: &str) -> Value {
        self.wait(reason, || self.api.event(reason))
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not in {PATIENCE:?}\n{}",
                std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end_of(&self, proxy: &mut Proxy) -> ExitStatus {
        self.wait("the end of the program", || proxy.0.try_wait().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_reference() -> bool {
    std::env::var_os("GANTRY_REFERENCE_PROXY").is_some()
}

/// What all events of this program have in common.
fn assert_is_of_the_proxy(event: &Value, is_warning: bool) {
    assert_eq!(event["type"], if is_warning { "Warning" } else { "Normal" });
    assert_eq!(event["reportingController"], "kube-proxy");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(event["reportingInstance"], format!("kube-proxy-{host}"));
    assert_eq!(event["related"], Value::Null);
}

fn assert_regards_the_node(event: &Value) {
    assert_eq!(
        event["regarding"],
        json!({"apiVersion": "v1", "kind": "Node", "name": NODE})
    );
    assert_eq!(event["action"], "StartKubeProxy");
    assert_eq!(event["metadata"]["namespace"], "default");
}

#[test]
fn the_start_is_told() {
    let node = Node::new();
    let _proxy = node.start();
    let event = node.event("Starting");
    assert_is_of_the_proxy(&event, false);
    assert_regards_the_node(&event);
    assert!(["", "null"].contains(&event["note"].to_string().trim_matches('"')));
}

#[test]
fn a_port_that_is_taken_ends_the_program_and_is_told() {
    for (port, reason) in [
        (10256, "FailedToStartProxierHealthcheck"),
        (10249, "FailedToStartMetricServer"),
    ] {
        let node = Node::new();
        let _taken = node.listen(port);
        let mut proxy = node.start();
        assert!(!node.end_of(&mut proxy).success());
        if is_reference() {
            // It ends before the event that it records is on its way.
            continue;
        }
        let event = node.event(reason);
        assert_is_of_the_proxy(&event, true);
        assert_regards_the_node(&event);
        let note = event["note"].as_str().unwrap().to_lowercase();
        assert!(
            note.contains(&port.to_string()) && note.contains("address already in use"),
            "{note}"
        );
    }
}

#[test]
fn a_health_check_that_cannot_be_served_is_told() {
    let node = Node::new();
    let _taken = node.listen(31999);
    let service = json!({
        "metadata": {},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"],
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "healthCheckNodePort": 31999,
            "ports": [{"name": "p", "protocol": "TCP", "port": 80, "nodePort": 31080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.9", "ipMode": "VIP"}]}},
    });
    node.api.put(Kind::Service, "ns/web", service);
    let _proxy = node.start();
    let event = node.event("FailedToStartServiceHealthcheck");
    assert_is_of_the_proxy(&event, true);
    assert_eq!(
        event["regarding"],
        json!({"apiVersion": "v1", "kind": "Service", "namespace": "ns", "name": "web"})
    );
    assert_eq!(event["action"], "Listen");
    assert_eq!(event["metadata"]["namespace"], "ns");
    let note = event["note"].as_str().unwrap();
    let start = "node n failed to start healthcheck \"ns/web\" on port 31999: ";
    assert!(
        note.starts_with(start) && note.to_lowercase().contains("address already in use"),
        "{note}"
    );
}
