//! A node, two backends, a client pod and an outside client, each in a network namespace of its own.
//!
//! ```text
//!   outside 192.0.2.100 ── 192.0.2.1 node 10.244.1.1 (cni0, br_netfilter) ─┬─ client 10.244.1.2
//!                                                                          ├─ a 10.244.1.10
//!                                                                          └─ b 10.244.1.11
//! ```
//!
//! The same in IPv6: fd00:192:: for 192.0.2., fd00:244:: for 10.244.1. with the last numbers in hexadecimal digits.
//!
//! On the node is our core and table, or a real kube-proxy (see [`crate::reference`]).

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use gantry_nft::Family;
use gantry_proxy::programmer::Programmer;
use gantry_proxy::table::{Found, Layout, Masquerading, NodePorts, Pods, Table};
use gantry_proxy_core::{Event, NodeFacts, Remembered};

use crate::host::{Host, connect, way};
use crate::reference::Reference;

/// The service proxy of the node.
#[derive(Debug)]
pub(crate) enum Proxy {
    /// Ours, without its shell.
    Ours(Box<Programmer>),
    /// The reference.
    Reference(Box<Reference>),
}

impl Proxy {
    /// Starts the one that is tested.
    fn start(node: &Host, layout: Layout) -> Self {
        match std::env::var_os("GANTRY_REFERENCE_PROXY") {
            Some(program) => {
                let program = PathBuf::from(program);
                Self::Reference(Box::new(Reference::start(node, &program, layout, facts(layout))))
            }
            None => {
                let mut ours = node.run(|| Programmer::open(layout).unwrap());
                ours.set_facts(facts(layout));
                ours.sync().unwrap();
                Self::Ours(Box::new(ours))
            }
        }
    }

    /// For tests of our own table, which are all below `ours::`.
    pub(crate) fn ours(&mut self) -> &mut Programmer {
        match self {
            Self::Ours(programmer) => programmer,
            Self::Reference(_) => panic!("a test of our table, not of services: leave out ours::"),
        }
    }
}

/// The hosts, and the proxy on the node.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) node: Host,
    pub(crate) client: Host,
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) outside: Host,
    layout: Layout,
}

impl Rig {
    /// Builds the hosts and an empty table.
    pub(crate) fn new() -> Self {
        Self::with(NodePorts::Listed)
    }

    /// The same with another way to serve node ports.
    pub(crate) fn with(node_ports: NodePorts) -> Self {
        Self::laid_out(Layout { node_ports, ..LAYOUT })
    }

    /// The same with any layout.
    pub(crate) fn laid_out(layout: Layout) -> Self {
        let node = Host::new("node");
        // Neighbours are found at once, without a querier.
        node.ip(&["link", "add", "cni0", "type", "bridge", "mcast_snooping", "0"]);
        for address in ["10.244.1.1/24", "fd00:244::1/64"] {
            node.ip(&["addr", "add", address, "dev", "cni0"]);
        }
        node.ip(&["link", "set", "cni0", "up"]);
        let pod = |role, last: &str| {
            let host = Host::new(role);
            let port = format!("to-{role}");
            let ways = [("10.244.1.", "24"), ("fd00:244::", "64")];
            connect(&node, &host, &port, &ways.map(|(net, bits)| way(net, last, bits)));
            node.ip(&["link", "set", &port, "master", "cni0"]);
            node.ip(&["link", "set", &port, "type", "bridge_slave", "hairpin", "on"]);
            host
        };
        let client = pod("client", "2");
        let (a, b) = (pod("a", "10"), pod("b", "11"));
        let outside = outside_of(&node);
        set_sysctls(&node);
        a.serve("a", 8080);
        b.serve("b", 8080);
        Self {
            proxy: Proxy::start(&node, layout),
            node,
            client,
            a,
            b,
            outside,
            layout,
        }
    }

    /// Feeds events, programs the table, and compares it with what was meant.
    pub(crate) fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        match &mut self.proxy {
            Proxy::Ours(ours) => {
                for event in events {
                    ours.apply(event);
                }
                ours.sync().unwrap();
                self.check();
            }
            Proxy::Reference(reference) => reference.apply(&self.node, events),
        }
    }

    /// True if the reference is what is tested.
    pub(crate) fn is_reference(&self) -> bool {
        matches!(self.proxy, Proxy::Reference(_))
    }

    /// Sets what the node knows.
    pub(crate) fn set_facts(&mut self, facts: NodeFacts) {
        match &mut self.proxy {
            Proxy::Ours(ours) => {
                ours.set_facts(facts);
                ours.sync().unwrap();
                self.check();
            }
            Proxy::Reference(reference) => reference.set_facts(&self.node, &facts),
        }
    }

    /// Our kernel's table is what the planner believes.
    pub(crate) fn check(&self) {
        let Proxy::Ours(ours) = &self.proxy else { return };
        let found = self
            .node
            .run(|| Table::open(self.layout).unwrap().find().unwrap());
        let Found::Ours { elements, .. } = found else {
            panic!("not our table: {found:?}")
        };
        assert_eq!(elements, ours.planner().ruleset().elements().collect());
    }

    /// What our table remembers of clients.
    pub(crate) fn remembered(&self) -> Vec<Remembered> {
        self.node
            .run(|| Table::open(self.layout).unwrap().remembered().unwrap())
    }

    /// How many clients are remembered, those of each of a service's ports on their own.
    pub(crate) fn clients(&self) -> usize {
        match &self.proxy {
            Proxy::Ours(_) => self.remembered().len(),
            Proxy::Reference(_) => self.table().matches(" expires ").count(),
        }
    }

    /// Has all clients forgotten.
    pub(crate) fn forget_clients(&self) {
        let sets = match &self.proxy {
            Proxy::Ours(_) => vec![("map", "affinity".to_owned()), ("map", "np-affinity".to_owned())],
            Proxy::Reference(_) => {
                let table = self.table();
                let names = table
                    .lines()
                    .filter_map(|line| line.trim().strip_prefix("set affinity-"));
                let names = names.filter_map(|rest| rest.split(' ').next());
                names.map(|name| ("set", format!("affinity-{name}"))).collect()
            }
        };
        for (kind, set) in sets {
            self.on_node("nft", &["flush", kind, self.family(), "kube-proxy", &set]);
        }
    }

    fn family(&self) -> &'static str {
        match self.layout.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        }
    }

    /// The table as another program shows it.
    pub(crate) fn table(&self) -> String {
        self.on_node("nft", &["list", "table", self.family(), "kube-proxy"])
    }

    /// The proxy starts again and sees these objects. What ours wrote then.
    pub(crate) fn restart(&mut self, events: impl IntoIterator<Item = Event>) -> Option<usize> {
        match &mut self.proxy {
            Proxy::Ours(ours) => {
                **ours = self.node.run(|| Programmer::open(self.layout).unwrap());
                ours.set_facts(facts(self.layout));
                for event in events {
                    ours.apply(event);
                }
                let written = ours.sync().unwrap().elements;
                self.check();
                Some(written)
            }
            Proxy::Reference(reference) => {
                reference.restart(&self.node, events);
                None
            }
        }
    }

    /// The same while nothing has changed: ours writes nothing.
    pub(crate) fn restart_in_peace(&mut self, events: impl IntoIterator<Item = Event>) {
        let written = self.restart(events);
        assert!(matches!(written, None | Some(0)), "a restart writes {written:?}");
    }

    /// What a program in the node's namespace prints.
    pub(crate) fn on_node(&self, program: &str, args: &[&str]) -> String {
        self.node.run(|| {
            let out = Command::new(program).args(args).output().expect("program runs");
            assert!(
                out.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            String::from_utf8(out.stdout).unwrap()
        })
    }
}

/// A host beyond a link of the node.
pub(crate) fn outside_of(node: &Host) -> Host {
    let outside = Host::new("outside");
    let ways = [("192.0.2.", "24"), ("fd00:192::", "64")];
    let hosts = ways.map(|(net, bits)| way(net, "100", bits));
    connect(node, &outside, "outside", &hosts);
    for (net, bits) in ways {
        node.ip(&["addr", "add", &format!("{net}1/{bits}"), "dev", "outside"]);
        node.ip(&["route", "add", "default", "via", &format!("{net}100")]);
    }
    outside
}

pub(crate) fn set_sysctls(node: &Host) {
    node.run(|| {
        for sysctl in [
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
            "net/bridge/bridge-nf-call-iptables",
            "net/bridge/bridge-nf-call-ip6tables",
        ] {
            std::fs::write(format!("/proc/sys/{sysctl}"), "1").expect(sysctl);
        }
        // Who is refused is always told.
        for limit in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
            std::fs::write(format!("/proc/sys/net/{limit}"), "0").expect(limit);
        }
    });
}

/// What most tests use.
pub(crate) const LAYOUT: Layout = Layout {
    family: Family::Ipv4,
    node_ports: NodePorts::Listed,
    masquerading: Masquerading::NotPods,
    pods: Pods::Ranges,
};

/// What the node knows; the pods' ranges only where they are told by them.
pub(crate) fn facts(layout: Layout) -> NodeFacts {
    let [pods, services, node] = match layout.family {
        Family::Ipv4 => ["10.244.0.0/16", "10.96.0.0/16", "192.0.2.1"],
        Family::Ipv6 => ["fd00:244::/32", "fd00:96::/112", "fd00:192::1"],
    };
    let tells = layout.pods == Pods::Ranges && layout.masquerading != Masquerading::Nobody;
    let node: IpAddr = node.parse().unwrap();
    NodeFacts {
        pod_ranges: tells.then(|| pods.parse().unwrap()).into_iter().collect(),
        service_ranges: vec![services.parse().unwrap()],
        node_addresses: vec![node],
        node_ip: Some(node),
        ..NodeFacts::default()
    }
}
