//! Routes to the pods of other nodes, in network namespaces: on one link, and behind a router that knows no pods. Needs root.
//!
//! ```text
//!   a 192.0.2.1 ── 192.0.2.2 b              a 192.0.2.1 ── router ── 198.51.100.2 b
//!   pods 10.244.1.0/24, 10.244.2.0/24; in IPv6 2001:db8:1::/64, 2001:db8:2::/64 and fd00:244:0:1::/64, fd00:244:0:2::/64
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod netns;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use gantry_proxy::routes::Routes;
use gantry_proxy_core::{Node, Route};
use netns::Netns;

/// A host or a router.
struct Host(Netns);

impl Host {
    fn new(role: &str) -> Self {
        let netns = Netns::new(role);
        netns.run(|| {
            for setting in [
                "ipv4/ip_forward",
                "ipv6/conf/all/forwarding",
                "ipv6/conf/default/forwarding",
            ] {
                std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
            }
        });
        Self(netns)
    }

    fn ip(&self, args: &[&str]) -> String {
        self.0.ip(args)
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.run(work)
    }

    /// A link to another host, with addresses at both ends.
    fn link(&self, other: &Self, name: &str, own: &[&str], others: &[&str]) {
        self.ip(&[
            "link",
            "add",
            name,
            "type",
            "veth",
            "peer",
            "name",
            name,
            "netns",
            other.0.name(),
        ]);
        for (host, addresses) in [(self, own), (other, others)] {
            for address in addresses {
                host.ip(&["address", "add", address, "dev", name]);
            }
            host.ip(&["link", "set", name, "up"]);
        }
    }

    /// Sets the routes, as the main loop does.
    fn set(&self, wanted: &[Route], own: &Node) {
        let wanted: BTreeSet<Route> = wanted.iter().copied().collect();
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime
                .block_on(async { Routes::open().unwrap().set(&wanted, Some(own)).await })
                .unwrap();
        });
    }

    /// All routes of ours.
    fn routes(&self) -> String {
        self.ip(&["route", "show", "proto", "117"]) + &self.ip(&["-6", "route", "show", "proto", "117"])
    }

    /// Sends a good deal of data to a pod of `other` and reads as much back; says who it saw.
    fn talks_to(&self, other: &Self, pod: IpAddr) -> IpAddr {
        const SIZE: usize = 300_000;
        let listener = other.run(|| TcpListener::bind((pod, 0))).unwrap();
        let to = listener.local_addr().unwrap();
        let mut stream = self.run(|| connect(to));
        let (mut served, peer) = listener.accept().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut data = vec![0; SIZE];
                served.read_exact(&mut data).unwrap();
                served.write_all(&data).unwrap();
            });
            stream.write_all(&vec![7; SIZE]).unwrap();
            let mut data = vec![0; SIZE];
            stream.read_exact(&mut data).unwrap();
            assert!(data.iter().all(|byte| *byte == 7));
        });
        peer.ip()
    }
}

/// Neighbours have to be found: a first attempt may fail.
fn connect(to: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "{to}: {error}"),
        }
    }
}

/// Node 1 or 2, with one pod's addresses on its loopback interface.
fn node(host: &Host, number: u8, addresses: [&str; 2]) -> (Node, [IpAddr; 2]) {
    let pods = [format!("10.244.{number}.7"), format!("fd00:244:0:{number}::7")];
    for pod in &pods {
        host.ip(&["address", "add", pod, "dev", "lo"]);
    }
    let node = Node {
        pod_ranges: vec![
            format!("10.244.{number}.0/24").parse().unwrap(),
            format!("fd00:244:0:{number}::/64").parse().unwrap(),
        ],
        addresses: addresses.map(|address| address.parse().unwrap()).into(),
        ..Node::default()
    };
    (node, pods.map(|pod| pod.parse().unwrap()))
}

/// The routes to a node's pods.
fn to(node: &Node) -> [Route; 2] {
    [0, 1].map(|family| Route {
        to: node.pod_ranges[family],
        via: node.addresses[family],
    })
}

#[test]
fn nodes_on_one_link_have_straight_routes_of_both_families() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.link(
        &b,
        "eth0",
        &["192.0.2.1/24", "2001:db8:1::1/64"],
        &["192.0.2.2/24", "2001:db8:1::2/64"],
    );
    let (one, _) = node(&a, 1, ["192.0.2.1", "2001:db8:1::1"]);
    let (two, pods) = node(&b, 2, ["192.0.2.2", "2001:db8:1::2"]);
    a.set(&to(&two), &one);
    b.set(&to(&one), &two);
    for pod in pods {
        a.talks_to(&b, pod);
    }
    let routes = a.routes();
    assert!(
        routes.contains("10.244.2.0/24 via 192.0.2.2")
            && routes.contains("fd00:244:0:2::/64 via 2001:db8:1::2"),
        "{routes}"
    );
    let all = a.ip(&["link", "show"]);
    assert!(!all.contains("gantry-tunnel"), "{all}");
    a.set(&to(&two)[1..], &one);
    let routes = a.routes();
    assert!(!routes.contains("10.244") && routes.contains("fd00"), "{routes}");
    a.set(&[], &one);
    assert_eq!(a.routes(), "", "the node is gone");
}

#[test]
fn nodes_that_share_no_link_have_a_tunnel() {
    let [a, b, router] = ["a", "b", "r"].map(Host::new);
    a.link(
        &router,
        "eth0",
        &["192.0.2.1/24", "2001:db8:1::1/64"],
        &["192.0.2.254/24", "2001:db8:1::fe/64"],
    );
    b.link(
        &router,
        "eth1",
        &["198.51.100.2/24", "2001:db8:2::2/64"],
        &["198.51.100.254/24", "2001:db8:2::fe/64"],
    );
    for (host, four, six) in [
        (&a, "192.0.2.254", "2001:db8:1::fe"),
        (&b, "198.51.100.254", "2001:db8:2::fe"),
    ] {
        for gateway in [four, six] {
            host.ip(&["route", "add", "default", "via", gateway]);
        }
    }
    let (one, _) = node(&a, 1, ["192.0.2.1", "2001:db8:1::1"]);
    let (two, pods) = node(&b, 2, ["198.51.100.2", "2001:db8:2::2"]);
    a.set(&to(&two), &one);
    b.set(&to(&one), &two);
    for (pod, own) in pods.into_iter().zip(["10.244.1.0", "fd00:244:0:1::"]) {
        let seen = a.talks_to(&b, pod);
        assert_eq!(seen.to_string(), own, "answers come back through the tunnel");
    }
    let before = a.routes();
    a.set(&to(&two), &one);
    assert_eq!(a.routes(), before, "nothing is changed twice");
    // The same after a restart on a link that both are on now.
    a.link(
        &b,
        "eth2",
        &["203.0.113.1/24", "2001:db8:3::1/64"],
        &["203.0.113.2/24", "2001:db8:3::2/64"],
    );
    let moved = Node {
        addresses: ["203.0.113.2", "2001:db8:3::2"]
            .map(|ip| ip.parse().unwrap())
            .into(),
        ..two
    };
    a.set(&to(&moved), &one);
    let (routes, links) = (a.routes(), a.ip(&["link", "show"]));
    assert!(
        routes.contains("via 203.0.113.2") && !routes.contains("encap"),
        "{routes}"
    );
    a.set(&[], &one);
    assert!(!a.ip(&["link", "show"]).contains("gantry-tunnel"), "{links}");
    assert_eq!(a.routes(), "");
}

#[test]
fn a_bridge_goes_when_nothing_is_on_it() {
    let host = Host::new("a");
    host.ip(&["link", "add", "br-pods", "type", "bridge"]);
    host.ip(&["link", "add", "pod", "type", "veth", "peer", "name", "peer"]);
    host.ip(&["link", "set", "pod", "master", "br-pods"]);
    let remove = || {
        host.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime
                .block_on(async { Routes::open().unwrap().remove_bridge("br-pods").await })
                .unwrap()
        })
    };
    assert!(!remove(), "a pod is on it");
    host.ip(&["link", "delete", "pod"]);
    assert!(remove());
    assert!(!host.ip(&["-brief", "link", "show"]).contains("br-pods"));
    assert!(remove(), "gone is gone");
}
