//! A node, two backends, a client pod and an outside client, each in a network namespace of its own.
//!
//! ```text
//!   outside 192.0.2.100 ── 192.0.2.1 node 10.244.1.1 (cni0, br_netfilter) ─┬─ client 10.244.1.2
//!                                                                          ├─ a 10.244.1.10
//!                                                                          └─ b 10.244.1.11
//! ```
//!
//! The same in IPv6: fd00:192:: for 192.0.2., fd00:244:: for 10.244.1. with the last numbers in hexadecimal digits.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gantry_nft::Family;
use gantry_proxy::programmer::Programmer;
use gantry_proxy::table::{Found, Layout, Masquerading, NodePorts, Pods, Table};
use gantry_proxy_core::{Event, NodeFacts, Remembered};

/// How long an answer may take before a packet counts as dropped.
const PATIENCE: Duration = Duration::from_millis(600);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A backend answered: its name, and the client's address as it saw it.
    Answer(String, String),
    /// Reset or port unreachable.
    Refused,
    /// Nothing came back.
    Nothing,
}

impl Outcome {
    /// Which backend answered.
    pub(crate) fn backend(&self) -> &str {
        match self {
            Self::Answer(name, _) => name,
            other => panic!("no answer but {other:?}"),
        }
    }

    /// Whom the backend saw.
    pub(crate) fn seen(&self) -> &str {
        match self {
            Self::Answer(_, seen) => seen,
            other => panic!("no answer but {other:?}"),
        }
    }
}

/// A network namespace that is deleted with this value.
#[derive(Debug)]
pub(crate) struct Host {
    netns: String,
}

impl Host {
    fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let netns = format!(
            "gp-{}-{}-{role}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &netns]);
        let host = Self { netns };
        host.run(|| {
            // Addresses are of use at once.
            for what in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{what}/accept_dad"), "0").expect("IPv6");
            }
        });
        host.ip(&["link", "set", "lo", "up"]);
        host
    }

    pub(crate) fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.netns], args].concat());
    }

    /// Runs something on a thread inside the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn enter(&self) {
        let path = format!("/var/run/netns/{}", self.netns);
        let file = File::open(&path).expect("the namespace exists");
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .expect("these tests need root");
    }

    /// Waits for the first answer: neighbours have to be found, and a packet that asks for one may be lost.
    pub(crate) fn reaches(&self, to: &str) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !matches!(self.tcp(to), Outcome::Answer(..)) {
            assert!(std::time::Instant::now() < deadline, "{to} does not answer");
        }
    }

    /// Connects and reads what the backend says.
    pub(crate) fn tcp(&self, to: &str) -> Outcome {
        let to: SocketAddr = to.parse().unwrap();
        self.run(|| match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut text = String::new();
                match stream.read_to_string(&mut text) {
                    Ok(_) => answer(&text),
                    Err(e) => failure(&e),
                }
            }
            Err(e) => failure(&e),
        })
    }

    /// Sends a datagram from a port of its own and reads the backend's answer.
    pub(crate) fn udp(&self, to: &str) -> Outcome {
        self.udp_from(to, 0)
    }

    /// Sends a datagram from a given port and reads the backend's answer.
    pub(crate) fn udp_from(&self, to: &str, port: u16) -> Outcome {
        self.run(|| {
            let any = if to.starts_with('[') { "::" } else { "0.0.0.0" };
            let socket = UdpSocket::bind((any, port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to).unwrap();
            let mut buf = [0; 128];
            match socket.send(b"?").and_then(|_| socket.recv(&mut buf)) {
                Ok(len) => answer(std::str::from_utf8(&buf[..len]).unwrap()),
                Err(e) => failure(&e),
            }
        })
    }

    /// Serves TCP and UDP on a port until the process ends: says the backend's name and the client's address.
    fn serve(&self, name: &'static str, port: u16) {
        let (tcp, udp) = self.run(|| {
            let tcp = TcpListener::bind(("::", port)).unwrap();
            // A busy machine lets clients wait for the server's thread, but their connections are not to be dropped.
            rustix::net::listen(&tcp, 4096).unwrap();
            (tcp, UdpSocket::bind(("::", port)).unwrap())
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = tcp.accept() {
                // A client that has gone already is no concern of the server.
                let _ = write!(stream, "{name} {}", peer.ip().to_canonical());
            }
        });
        std::thread::spawn(move || {
            let mut buf = [0; 128];
            while let Ok((_, peer)) = udp.recv_from(&mut buf) {
                let _ = udp.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).status();
    }
}

fn answer(text: &str) -> Outcome {
    let (name, seen) = text.split_once(' ').expect("name and address");
    Outcome::Answer(name.to_owned(), seen.to_owned())
}

fn failure(error: &std::io::Error) -> Outcome {
    match error.kind() {
        // A host's own datagram is refused by its own system call.
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::PermissionDenied => {
            Outcome::Refused
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Nothing,
        other => panic!("{other}: {error}"),
    }
}

fn ip(args: &[&str]) {
    let out = Command::new("ip")
        .args(args)
        .output()
        .expect("iproute2 is installed");
    assert!(
        out.status.success(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// The hosts, and the proxy's core and table on the node.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) node: Host,
    pub(crate) client: Host,
    pub(crate) a: Host,
    pub(crate) _b: Host,
    pub(crate) outside: Host,
    pub(crate) proxy: Programmer,
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
        let outside = Host::new("outside");
        let ways = [("192.0.2.", "24"), ("fd00:192::", "64")];
        connect(
            &node,
            &outside,
            "outside",
            &ways.map(|(net, bits)| way(net, "100", bits)),
        );
        for (net, bits) in ways {
            node.ip(&["addr", "add", &format!("{net}1/{bits}"), "dev", "outside"]);
            node.ip(&["route", "add", "default", "via", &format!("{net}100")]);
        }
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
            std::fs::write("/proc/sys/net/ipv4/icmp_ratemask", "0").expect("a rate mask");
        });
        a.serve("a", 8080);
        b.serve("b", 8080);
        let proxy = node.run(|| Programmer::open(layout).unwrap());
        let mut rig = Self {
            node,
            client,
            a,
            _b: b,
            outside,
            proxy,
            layout,
        };
        rig.proxy.set_facts(facts(layout));
        rig.proxy.sync().unwrap();
        rig
    }

    /// Feeds events, programs the table, and compares it with what was meant.
    pub(crate) fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.proxy.apply(event);
        }
        self.proxy.sync().unwrap();
        self.check();
    }

    /// The kernel's table is what the planner believes.
    pub(crate) fn check(&self) {
        let found = self
            .node
            .run(|| Table::open(self.layout).unwrap().find().unwrap());
        let Found::Ours { elements, .. } = found else {
            panic!("not our table: {found:?}")
        };
        assert_eq!(elements, self.proxy.planner().ruleset().elements().collect());
    }

    /// What the kernel remembers of clients.
    pub(crate) fn remembered(&self) -> Vec<Remembered> {
        self.node
            .run(|| Table::open(self.layout).unwrap().remembered().unwrap())
    }

    /// The proxy starts again and sees these objects; what it wrote then.
    pub(crate) fn restart(&mut self, events: impl IntoIterator<Item = Event>) -> usize {
        self.proxy = self.node.run(|| Programmer::open(self.layout).unwrap());
        self.proxy.set_facts(facts(self.layout));
        for event in events {
            self.proxy.apply(event);
        }
        let written = self.proxy.sync().unwrap().elements;
        self.check();
        written
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

/// A host's address, and the node's, in a network.
fn way(net: &str, last: &str, bits: &str) -> (String, String) {
    (format!("{net}{last}/{bits}"), format!("{net}1"))
}

/// A veth pair: `port` on the node, `eth0` with addresses and default routes on the host.
fn connect(node: &Host, host: &Host, port: &str, ways: &[(String, String)]) {
    node.ip(&[
        "link",
        "add",
        port,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        &host.netns,
    ]);
    node.ip(&["link", "set", port, "up"]);
    host.ip(&["link", "set", "eth0", "up"]);
    for (address, gateway) in ways {
        host.ip(&["addr", "add", address, "dev", "eth0"]);
        host.ip(&["route", "add", "default", "via", gateway]);
    }
}
