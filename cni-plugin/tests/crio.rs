//! As CRI-O calls a plugin: through its library ocicni, which hands over a configuration list, follows ADD by CHECK and sends GC
//! when CRI-O starts. Against ours and against the stock `bridge`, `portmap` and `bandwidth` in a chain: `hack/packets --crio`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Answer, Host, Namespace, on_host, ours, reference};
use serde_json::{Value, json};

mod harness;

/// One gateway and five pods.
const SUBNETS: [&str; 2] = ["10.99.1.0/29", "fd00:99::/125"];
/// CRI-O's burst for every limited pod, in bits.
const BURST: u64 = (1 << 35) - 9;

/// The directories of ocicni, filled by `configure`.
struct Crio<'a> {
    host: &'a Host,
    dir: tempfile::TempDir,
}

impl<'a> Crio<'a> {
    fn new(host: &'a Host) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "conf", "cache"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { host, dir }
    }

    /// On a host that has all of it.
    fn ready(host: &'a Host, version: &str) -> Self {
        let crio = Self::new(host);
        crio.configure(version);
        crio.install();
        crio
    }

    fn configure(&self, version: &str) {
        let mut plugin = self.host.config(SUBNETS[0]);
        plugin["ipam"]["ranges"] = json!(SUBNETS.map(|subnet| [json!({ "subnet": subnet })]));
        let plugins = if reference().is_some() {
            json!([
                plugin,
                { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } },
                { "type": "bandwidth", "capabilities": { "bandwidth": true } },
            ])
        } else {
            plugin["type"] = json!("gantry-cni");
            plugin["capabilities"] = json!({ "portMappings": true, "bandwidth": true, "cgroupPath": true,
                "io.kubernetes.cri.pod-annotations": true });
            json!([plugin])
        };
        let list = json!({ "cniVersion": version, "name": "net", "plugins": plugins });
        std::fs::write(self.dir.path().join("conf/10-net.conflist"), list.to_string()).unwrap();
    }

    fn install(&self) {
        let bin = self.dir.path().join("bin");
        let Some(directory) = reference() else {
            return symlink(ours(), bin.join("gantry-cni")).unwrap();
        };
        for name in ["bridge", "host-local", "portmap", "bandwidth"] {
            symlink(directory.join(name), bin.join(name)).unwrap();
        }
    }

    fn call(&self, verb: &str, pods: &[&Value]) -> Answer {
        let mut process = Command::new(PathBuf::from(
            std::env::var_os("GANTRY_OCICNI").expect("hack/packets --crio sets it"),
        ));
        process.arg(verb).arg(self.dir.path());
        process.stdin(Stdio::piped()).stdout(Stdio::piped());
        self.host.call_process(process, &json!(pods).to_string())
    }

    /// A call that has to succeed: the addresses of each pod.
    fn done(&self, verb: &str, pods: &[&Value]) -> Vec<Vec<IpAddr>> {
        let answer = self.call(verb, pods);
        assert!(answer.ok, "{verb}: {}", answer.stdout);
        let lines = answer.stdout.lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn refused(&self, verb: &str, pods: &[&Value]) -> String {
        let answer = self.call(verb, pods);
        assert!(!answer.ok, "{verb}: {}", answer.stdout);
        answer.stdout
    }

    /// What ocicni remembers of pods.
    fn remembered(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("cache/results")).map_or(0, Iterator::count)
    }
}

/// A pod as CRI-O describes it, with what its configuration asks for. Its identifier has 64 digits.
fn pod(name: &str, namespace: &Namespace, wishes: &Value) -> Value {
    let mut config = json!({ "CgroupPath": "/kubepods/pod1",
        "io.kubernetes.cri.pod-annotations": { "example.org/a": "b" } });
    config
        .as_object_mut()
        .unwrap()
        .extend(wishes.as_object().unwrap().clone());
    json!({
        "Name": name, "Namespace": "default", "UID": "0000-1111", "ID": name.repeat(64), "NetNS": namespace.path(),
        "Networks": [], "RuntimeConfig": { "net": config }
    })
}

#[test]
fn pods_come_stay_over_restarts_and_go() {
    // GC and STATUS are of 1.1.0, what gantry-proxy writes is 1.0.0, and CHECK is as old as 0.4.0.
    for version in ["1.1.0", "1.0.0", "0.4.0"] {
        on_host(|host| {
            let crio = Crio::ready(host, version);
            let namespaces = [Namespace::new(), Namespace::new()];
            // Of other users of the library: CRI-O makes host ports itself.
            let ports = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "" }]);
            let a = pod("a", &namespaces[0], &json!({ "PortMappings": ports }));
            let b = pod("b", &namespaces[1], &json!({}));
            crio.done("status", &[]);
            crio.done("gc", &[]);
            let addresses = crio.done("add", &[&a, &b]);
            // A new process each time, as after CRI-O's restart.
            crio.done("gc", &[&a, &b]);
            assert_eq!(crio.done("check", &[&a, &b]), addresses);
            assert_eq!(addresses.concat().len(), 4, "{addresses:?}");
            for address in &addresses[0] {
                namespaces[0].serve((*address, 7).into());
                let seen = namespaces[1].ask((*address, 7).into());
                assert!(addresses[1].contains(&seen), "{seen} of {addresses:?}");
            }
            namespaces[0].serve_tcp((addresses[0][0], 80).into());
            let outside = host.outside(SUBNETS[0]);
            outside.ask_tcp("192.0.2.1:8080".parse().unwrap());
            crio.done("del", &[&a]);
            crio.done("del", &[&a]);
            drop(namespaces);
            crio.done("del", &[&b]);
            assert_eq!(crio.remembered(), 0);
            // The stock plugin leaves the host's end to the kernel, which takes its time.
            let deadline = Instant::now() + Duration::from_secs(5);
            while host.devices().len() > 1 {
                assert!(
                    Instant::now() < deadline,
                    "only the way outside stays: {:?}",
                    host.devices()
                );
            }
        });
    }
}

#[test]
fn gc_removes_what_crio_does_not_know() {
    on_host(|host| {
        let crio = Crio::ready(host, "1.1.0");
        let [a, b, c] = [Namespace::new(), Namespace::new(), Namespace::new()];
        let pods =
            [("a", &a), ("b", &b), ("c", &c)].map(|(name, namespace)| pod(name, namespace, &json!({})));
        crio.done("add", &[&pods[0], &pods[1], &pods[2]]);
        crio.done("gc", &[&pods[1], &pods[2]]);
        let has = |namespace: &Namespace| namespace.ip("link").contains("eth0");
        assert_eq!([&a, &b, &c].map(has), [false, true, true]);
        crio.done("gc", &[&pods[1]]);
        assert_eq!([&a, &b, &c].map(has), [false, true, false]);
        // CRI-O forgets a pod whose DEL failed, for instance while the plugin was replaced.
        std::fs::remove_dir_all(crio.dir.path().join("cache/results")).unwrap();
        crio.done("gc", &[]);
        // The stock plugins have no GC of their own.
        assert_eq!(
            (has(&b), host.devices().len()),
            (reference().is_some(), usize::from(reference().is_some()))
        );
    });
}

#[test]
fn the_burst_of_crio_makes_a_limit_that_check_knows() {
    on_host(|host| {
        let crio = Crio::ready(host, "1.1.0");
        let namespace = Namespace::new();
        let limits = json!({ "IngressRate": 16_000_000, "IngressBurst": BURST, "EgressRate": 16_000_000, "EgressBurst": BURST });
        let a = pod("a", &namespace, &json!({ "Bandwidth": limits }));
        let address = crio.done("add", &[&a])[0][0];
        let listed = host.namespace.program("tc", "qdisc show");
        // Shown as `limit`; a queue for longer than its burst is shown as `lat`.
        let short = |line: &&str| line.contains("tbf 1: ") && line.contains(" limit ");
        assert_eq!(listed.lines().filter(short).count(), 2, "{listed}");
        namespace.serve((address, 7).into());
        host.namespace.ask((address, 7).into());
        crio.done("del", &[&a]);
        assert!(host.devices().is_empty());
    });
}

#[test]
fn a_full_range_is_named_and_a_pod_without_network_is_deleted() {
    on_host(|host| {
        let crio = Crio::ready(host, "1.1.0");
        let namespaces: Vec<_> = (0..6).map(|_| Namespace::new()).collect();
        let names = ["a", "b", "c", "d", "e", "f"].iter();
        let pods: Vec<_> = names
            .zip(&namespaces)
            .map(|(name, namespace)| pod(name, namespace, &json!({})))
            .collect();
        let pods: Vec<_> = pods.iter().collect();
        crio.done("add", &pods[..5]);
        let error = crio.refused("add", &pods[5..]);
        assert!(
            error.contains("default_f") && error.contains("10.99.1.1-10.99.1.6"),
            "{error}"
        );
        crio.done("del", &pods[5..]);
        crio.done("del", &pods[..1]);
        crio.done("add", &pods[5..]);
        crio.done("del", &pods[1..]);
        assert_eq!((host.devices().len(), crio.remembered()), (0, 0));
    });
}

#[test]
fn the_network_is_there_once_configuration_and_plugin_are() {
    on_host(|host| {
        let crio = Crio::new(host);
        let missing = "no CNI configuration file";
        assert!(crio.refused("status", &[]).contains(missing));
        crio.configure("1.1.0");
        assert!(
            crio.refused("status", &[]).contains(missing),
            "the plugin is asked for its versions"
        );
        crio.install();
        crio.done("status", &[]);
    });
}
