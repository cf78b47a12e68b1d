//! A real kube-proxy on the node, fed from objects of an API of the test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gantry_nft::Family;
use gantry_proxy::table::{Layout, Masquerading, NodePorts, Pods};
use gantry_proxy_core::{
    Endpoint, EndpointState, Event, NodeFacts, Port, Protocol, Service, ServicePort, Slice,
};
use serde_json::json;

use crate::api::{Api, Kind};
use crate::host::Host;
use crate::kubernetes::{NODE, node, service, service_cidr, slice};
use crate::objects::number;

/// How long a change may take: with the start of the program seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// A service of our own: what it looks like in the table tells how far the program is.
const MARKER: &str = "marker/marker";

/// The program and what it sees.
#[derive(Debug)]
pub(crate) struct Reference {
    program: PathBuf,
    layout: Layout,
    api: Api,
    child: Child,
    dir: tempfile::TempDir,
    round: u16,
}

impl Reference {
    /// Starts it and waits for its table.
    pub(crate) fn start(on: &Host, program: &Path, layout: Layout, facts: NodeFacts) -> Self {
        let api = on.run(Api::start);
        let dir = tempfile::tempdir().unwrap();
        let cluster = json!({"name": "c", "cluster": {"server": api.url()}});
        let context = json!({"name": "c", "context": {"cluster": "c"}});
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster], "contexts": [context],
        });
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let config = configuration(layout, &facts, dir.path());
        std::fs::write(dir.path().join("config"), config.to_string()).unwrap();
        api.put(Kind::ServiceCidr, "kubernetes", service_cidr(&facts));
        api.put(Kind::Node, NODE, node(&facts));
        let child = spawn(on, program, dir.path());
        let program = program.to_owned();
        let mut reference = Self {
            program,
            layout,
            api,
            child,
            dir,
            round: 0,
        };
        reference.settle(on);
        reference
    }

    /// Puts objects in and waits until they are in the table.
    pub(crate) fn apply(&mut self, on: &Host, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.put(event);
        }
        self.settle(on);
    }

    pub(crate) fn set_facts(&mut self, on: &Host, facts: &NodeFacts) {
        self.api.put(Kind::Node, NODE, node(facts));
        self.settle(on);
    }

    /// Ends the program, changes the objects to exactly these, and starts it again.
    pub(crate) fn restart(&mut self, on: &Host, events: impl IntoIterator<Item = Event>) {
        self.end();
        for kind in [Kind::Service, Kind::EndpointSlice] {
            for name in self.api.names(kind) {
                self.api.remove(kind, &name);
            }
        }
        for event in events {
            self.put(event);
        }
        self.child = spawn(on, &self.program, self.dir.path());
        self.settle(on);
    }

    fn put(&self, event: Event) {
        match event {
            Event::Service(name, object) => self.api.put(Kind::Service, &name, service(&object)),
            Event::ServiceGone(name) => self.api.remove(Kind::Service, &name),
            Event::Slice {
                name,
                service,
                slice: object,
            } => {
                let ipv6 = self.layout.family == Family::Ipv6;
                self.api
                    .put(Kind::EndpointSlice, &name, slice(&service, &object, ipv6));
            }
            Event::SliceGone(name) => self.api.remove(Kind::EndpointSlice, &name),
            Event::ListStart(_) | Event::ListEnd(_) => {}
        }
    }

    /// Waits until all is in the table. What the program does behind the table, to connections, it does before the next round.
    fn settle(&mut self, on: &Host) {
        self.mark(on);
        self.mark(on);
    }

    /// A change of service and slice that comes last in either watch: once it is in the table, the others are.
    fn mark(&mut self, on: &Host) {
        self.round += 1;
        let (family, net, vip) = match self.layout.family {
            Family::Ipv4 => ("ip", "10.244.250.", "10.96.255.254"),
            Family::Ipv6 => ("ip6", "fd00:244::fa", "fd00:96::fffe"),
        };
        let address: std::net::IpAddr = format!("{net}{}", self.round % 90 + 10).parse().unwrap();
        let (port, name) = (1000 + self.round, "m");
        let marker = Service {
            cluster_ip: Some(vip.parse().unwrap()),
            ports: [ServicePort {
                name: name.into(),
                protocol: Protocol::Tcp,
                port: number(port),
                node_port: None,
            }]
            .into(),
            ..Service::default()
        };
        let endpoints = Slice {
            ports: [Port {
                name: name.into(),
                protocol: Protocol::Tcp,
                port: number(port),
            }]
            .into(),
            endpoints: [Endpoint::new(address, EndpointState::Ready, false)].into(),
            ..Slice::default()
        };
        self.put(Event::Slice {
            name: MARKER.into(),
            service: MARKER.into(),
            slice: endpoints,
        });
        self.put(Event::Service(MARKER.into(), marker));
        let front = format!("{vip} . tcp . {port} :");
        let backend = format!(": {address} . {port} ");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let table = on.run(|| {
                Command::new("nft")
                    .args(["list", "table", family, "kube-proxy"])
                    .output()
            });
            let table = String::from_utf8(table.unwrap().stdout).unwrap();
            if table.contains(&front) && table.contains(&backend) {
                return;
            }
            assert!(
                Instant::now() < deadline && self.child.try_wait().unwrap().is_none(),
                "the reference does not get there:\n{}\n{table}",
                std::fs::read_to_string(self.dir.path().join("log")).unwrap()
            );
        }
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

fn spawn(on: &Host, program: &Path, dir: &Path) -> Child {
    let log = File::create(dir.join("log")).unwrap();
    on.run(|| {
        Command::new(program)
            .arg("--config")
            .arg(dir.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a kube-proxy")
    })
}

fn configuration(layout: Layout, facts: &NodeFacts, dir: &Path) -> serde_json::Value {
    let (any, everywhere) = match layout.family {
        Family::Ipv4 => ("0.0.0.0", "0.0.0.0/0"),
        Family::Ipv6 => ("::", "::/0"),
    };
    let node_ports = match layout.node_ports {
        NodePorts::Listed => "primary",
        NodePorts::AnyLocal => everywhere,
    };
    let ranges: Vec<String> = facts.pod_ranges.iter().map(ToString::to_string).collect();
    let (mode, local, bit) = match layout.pods {
        Pods::Ranges => ("ClusterCIDR", json!({}), 14),
        Pods::Interface {
            name,
            whole: true,
            mark_bit,
        } => (
            "BridgeInterface",
            json!({"bridgeInterface": name.as_str()}),
            mark_bit,
        ),
        Pods::Interface {
            name,
            whole: false,
            mark_bit,
        } => (
            "InterfaceNamePrefix",
            json!({"interfaceNamePrefix": name.as_str()}),
            mark_bit,
        ),
    };
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE,
        "bindAddress": any,
        "clientConnection": {
            "kubeconfig": dir.join("kubeconfig"), "contentType": "application/json", "qps": 1000, "burst": 1000,
        },
        "clusterCIDR": ranges.join(","),
        "detectLocalMode": mode,
        "detectLocal": local,
        "nodePortAddresses": [node_ports],
        "nftables": {
            "masqueradeAll": layout.masquerading == Masquerading::Everybody,
            "masqueradeBit": bit,
            "minSyncPeriod": "0s",
            "syncPeriod": "30s",
        },
        // The host's limits are not a test's to change.
        "conntrack": {"maxPerCore": 0},
    })
}
