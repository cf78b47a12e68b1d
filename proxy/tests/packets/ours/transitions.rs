//! Changes under traffic: no connection attempt is lost, and of UDP clients none for longer than one datagram.
//!
//! A client attempts one connection after the other while the proxy writes one change after the other, and both keep step. With
//! `GANTRY_UPDATES=20000` there are so many changes where they are random.

use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gantry_proxy_core::{Event, Policy, Service};
use rustix::net::{self, AddressFamily, SocketType, sockopt};

use crate::objects::*;
use crate::rig::Rig;

const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.0.2.1:30080";
const ATTEMPTS_EACH: u32 = 10;
/// How many updates the proxy may be ahead of the client.
const AHEAD: u32 = 5;
/// A TCP packet that is lost is sent again after a second.
const PATIENCE: Duration = Duration::from_millis(900);
/// Addresses of each client, and ports of each address. The kernel would choose a port again while the connection that had it is
/// still tracked, and a new one then goes where that went.
const ADDRESSES: u8 = 8;
const PORTS: u32 = 50_000;
/// Each backend has so many addresses, from [`A`] on by turns.
const BACKENDS: [&str; 6] = [A, B, "10.244.1.12", "10.244.1.13", "10.244.1.14", "10.244.1.15"];

/// Where from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// A pod, to the ClusterIP.
    Pod,
    /// From outside, to the node port.
    Outside,
}

impl Client {
    fn to(self) -> SocketAddr {
        let to = match self {
            Self::Pod => VIP,
            Self::Outside => NODE_PORT,
        };
        to.parse().unwrap()
    }

    fn address(self, number: u8) -> Ipv4Addr {
        match self {
            Self::Pod => Ipv4Addr::new(10, 244, 1, 128 + number),
            Self::Outside => Ipv4Addr::new(192, 0, 2, 128 + number),
        }
    }

    /// The source of an attempt.
    fn from(self, attempt: u32) -> SocketAddr {
        let number = (attempt / PORTS) % u32::from(ADDRESSES);
        let port = 10_000 + attempt % PORTS;
        let address = self.address(u8::try_from(number).unwrap());
        SocketAddr::new(address.into(), u16::try_from(port).unwrap())
    }
}

/// What a client does, from where to where.
type Attempt = fn(SocketAddr, SocketAddr) -> Result<()>;

pub(super) fn tcp(from: SocketAddr, to: SocketAddr) -> Result<()> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    net::bind(&socket, &from)?;
    // That of connecting, too; it is "in progress" then.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    net::connect(&socket, &to)?;
    // Closed by a reset: no port is left in TIME_WAIT.
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

fn udp(from: SocketAddr, to: SocketAddr) -> Result<()> {
    datagrams(from, to, &[PATIENCE])
}

/// A second datagram is sent if the first is not answered: a flow that is under way to an endpoint that goes is ended.
fn udp_again(from: SocketAddr, to: SocketAddr) -> Result<()> {
    datagrams(from, to, &[PATIENCE / 2, PATIENCE])
}

fn datagrams(from: SocketAddr, to: SocketAddr, waits: &[Duration]) -> Result<()> {
    let socket = std::net::UdpSocket::bind(from)?;
    socket.connect(to)?;
    for wait in waits {
        socket.set_read_timeout(Some(*wait))?;
        socket.send(b"?")?;
        match socket.recv(&mut [0; 64]) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            other => return other.map(drop),
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// A client's traffic.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    pub(super) client: Client,
    pub(super) attempt: Attempt,
    /// Whether there are times without an endpoint.
    pub(super) may_be_refused: bool,
}

/// How far client and proxy are.
#[derive(Default)]
struct Step {
    attempts: AtomicU32,
    updates: AtomicU32,
    /// Nothing more is to be done, or the client has failed.
    over: AtomicBool,
}

/// Ends the other side, too, when this one ends.
struct Over<'a>(&'a Step);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Traffic {
    fn run(&self, step: &Step) {
        let _over = Over(step);
        let mut attempt = 0;
        loop {
            let wanted = step.updates.load(Ordering::Relaxed) * ATTEMPTS_EACH;
            if attempt > wanted {
                if step.over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::yield_now();
                continue;
            }
            match (self.attempt)(self.client.from(attempt), self.client.to()) {
                Ok(()) => {}
                Err(e) if self.may_be_refused && e.kind() == ErrorKind::ConnectionRefused => {}
                Err(e) => panic!(
                    "{} attempt {attempt}, update {}: {e}",
                    self.client.to(),
                    wanted / ATTEMPTS_EACH
                ),
            }
            attempt += 1;
            step.attempts.store(attempt, Ordering::Relaxed);
        }
    }
}

/// Writes changes, as long as there is one more, while a client is busy; how many there were.
pub(super) fn change_under_traffic(
    rig: &mut Rig,
    traffic: &Traffic,
    mut change: impl FnMut(u32) -> Option<Vec<Event>>,
) -> u32 {
    let client = match traffic.client {
        Client::Pod => &rig.client,
        Client::Outside => &rig.outside,
    };
    let proxy = rig.proxy.ours();
    let step = Step::default();
    std::thread::scope(|scope| {
        let _over = Over(&step);
        let busy = scope.spawn(|| client.run(|| traffic.run(&step)));
        let mut updates = 0;
        while let Some(events) = change(updates + 1) {
            updates += 1;
            for event in events {
                proxy.apply(event);
            }
            proxy.sync().unwrap();
            if updates % 50 == 0 {
                proxy.tidy().unwrap();
                proxy.look_again();
            }
            step.updates.store(updates, Ordering::Relaxed);
            // Not much faster than the client.
            let done = updates.saturating_sub(AHEAD) * ATTEMPTS_EACH;
            while step.attempts.load(Ordering::Relaxed) < done && !step.over.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            if step.over.load(Ordering::Relaxed) {
                break;
            }
        }
        step.over.store(true, Ordering::Relaxed);
        busy.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        updates
    })
}

/// A service with two endpoints that are reached already, and clients and backends with many addresses.
pub(super) fn started(of: Service) -> Rig {
    let mut rig = Rig::new();
    for (client, host) in [(Client::Pod, &rig.client), (Client::Outside, &rig.outside)] {
        for number in 0..ADDRESSES {
            host.ip(&[
                "addr",
                "add",
                &format!("{}/24", client.address(number)),
                "dev",
                "eth0",
            ]);
        }
    }
    for (number, address) in BACKENDS.iter().enumerate().skip(2) {
        let host = if number % 2 == 0 { &rig.a } else { &rig.b };
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
    }
    // Who looks for a neighbour may lose a packet.
    for address in BACKENDS {
        rig.node.reaches(&format!("{address}:8080"));
    }
    rig.apply([service(of), endpoints(&[A, B])]);
    rig
}

/// Without UDP no flow is looked for after each change.
pub(super) fn tcp_only(service: Service) -> Service {
    Service {
        ports: service.ports.into_iter().take(1).collect(),
        ..service
    }
}

pub(super) fn with(secs: u32, external: Policy, internal: Policy) -> Event {
    service(Service {
        affinity_secs: NonZeroU32::new(secs),
        external,
        internal,
        ..web()
    })
}

/// One client after the other, each through as many changes.
fn each_through(rig: &mut Rig, traffic: &[Traffic], wanted: u32, change: impl Fn(u32) -> Vec<Event>) {
    for traffic in traffic {
        let start = Instant::now();
        change_under_traffic(rig, traffic, |update| (update <= wanted).then(|| change(update)));
        println!("{wanted} changes in {:?}", start.elapsed());
    }
    rig.check();
}

/// Three clients with different ways to connect.
fn clients(may_be_refused: bool, attempts: [(Client, Attempt); 3]) -> [Traffic; 3] {
    attempts.map(|(client, attempt)| Traffic {
        client,
        attempt,
        may_be_refused,
    })
}

/// How many random changes.
fn updates(usual: u32) -> u32 {
    let asked = std::env::var("GANTRY_UPDATES").ok();
    asked.map_or(usual, |text| text.parse().expect("GANTRY_UPDATES is a number"))
}

/// A number that looks random: the same for each run.
pub(super) fn random(number: u32) -> u32 {
    let mut x = number.wrapping_mul(0x9E37_79B9) ^ 0x5bd1_e995;
    for shift in [15, 13, 16] {
        x = (x ^ (x >> shift)).wrapping_mul(0x85EB_CA6B);
    }
    x >> 8
}

/// Some of the backends, at least one.
pub(super) fn some_backends(number: u32) -> Vec<&'static str> {
    some_of(&BACKENDS, number)
}

/// The same without those that answer datagrams from their first address.
fn some_datagram_backends(number: u32) -> Vec<&'static str> {
    some_of(&BACKENDS[..2], number)
}

fn some_of(backends: &[&'static str], number: u32) -> Vec<&'static str> {
    let chosen = random(number) % ((1 << backends.len()) - 1) + 1;
    let numbered = backends.iter().enumerate();
    numbered
        .filter(|(bit, _)| chosen >> bit & 1 == 1)
        .map(|(_, address)| *address)
        .collect()
}

#[test]
fn tcp_while_endpoints_change() {
    let mut rig = started(tcp_only(web()));
    let traffic = Traffic {
        client: Client::Pod,
        attempt: tcp,
        may_be_refused: false,
    };
    each_through(&mut rig, &[traffic], updates(2000), |i| {
        vec![endpoints(&some_backends(i))]
    });
}

#[test]
fn udp_while_endpoints_change() {
    let mut rig = started(web());
    let traffic = [Client::Pod, Client::Outside].map(|client| Traffic {
        client,
        attempt: udp_again,
        may_be_refused: false,
    });
    each_through(&mut rig, &traffic, updates(1000) / 2, |i| {
        vec![endpoints(&some_datagram_backends(i))]
    });
}

#[test]
fn the_last_endpoint_goes_and_comes_back() {
    let mut rig = started(web());
    let traffic = clients(
        true,
        [
            (Client::Pod, tcp),
            (Client::Pod, udp_again),
            (Client::Outside, tcp),
        ],
    );
    each_through(&mut rig, &traffic, 400, |i| {
        vec![endpoints(if i % 2 == 0 { &[A] } else { &[] })]
    });
}

#[test]
fn policies_change() {
    let mut rig = started(web());
    let traffic = clients(
        false,
        [(Client::Pod, tcp), (Client::Outside, tcp), (Client::Outside, udp)],
    );
    each_through(&mut rig, &traffic, 400, |i| {
        let policy = if i % 2 == 0 {
            Policy::Cluster
        } else {
            Policy::Local
        };
        vec![with(0, policy, policy)]
    });
}

#[test]
fn affinity_is_switched_and_endpoints_change_with_it() {
    let mut rig = started(web());
    let traffic = clients(
        false,
        [
            (Client::Pod, tcp),
            (Client::Pod, udp_again),
            (Client::Outside, tcp),
        ],
    );
    each_through(&mut rig, &traffic, 400, |i| {
        let secs = [0, 3600, 3600, 60][i as usize % 4];
        vec![
            with(secs, Policy::Cluster, Policy::Cluster),
            endpoints(&some_datagram_backends(i / 4)),
        ]
    });
}
