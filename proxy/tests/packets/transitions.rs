//! Changes under traffic: no connection attempt and no datagram is lost, and hardly one is late.
//!
//! A client attempts one connection after the other while the proxy writes one change after the other. Both keep step, and stay below
//! the number of ports of a client: one that is used again within the time-outs of the tracked connection before is lost now and then
//! with no change at all.

use std::io::{ErrorKind, Result};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gantry_proxy::programmer::Programmer;
use gantry_proxy_core::{Event, Policy, Service};
use rustix::net::sockopt;

use crate::objects::*;
use crate::rig::{Host, Rig};

const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.0.2.1:30080";
const ATTEMPTS_EACH: u32 = 10;
/// A packet that is lost is sent again after a second: an attempt that took longer was late.
const PATIENCE: Duration = Duration::from_millis(900);
/// Until a first packet has been sent a third time.
const CONNECT: Duration = Duration::from_millis(3500);
/// Attempts of one run that may be late: on a busy machine a server, too, loses a first packet now and then.
const LATE: u32 = 2;

/// A client's traffic.
struct Traffic {
    to: &'static str,
    attempt: fn(SocketAddr) -> Result<()>,
    /// Whether there are times without an endpoint.
    may_be_refused: bool,
}

fn tcp(to: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect_timeout(&to, CONNECT)?;
    // Closed by a reset: no port is left in TIME_WAIT.
    Ok(sockopt::set_socket_linger(stream, Some(Duration::ZERO))?)
}

fn udp(to: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    socket.recv(&mut [0; 64]).map(drop)
}

/// A second datagram is sent if the first is not answered: a flow that is under way to an endpoint that goes is ended.
fn udp_again(to: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(PATIENCE / 2))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    match socket.recv(&mut [0; 64]) {
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            socket.send(b"?")?;
            socket.recv(&mut [0; 64]).map(drop)
        }
        other => other.map(drop),
    }
}

impl Traffic {
    fn run(&self, attempts: &AtomicU32, updates: &AtomicU32, wanted: u32) {
        let to = self.to.parse().unwrap();
        let mut late = 0;
        while attempts.load(Ordering::Relaxed) < wanted * ATTEMPTS_EACH {
            if attempts.load(Ordering::Relaxed) > updates.load(Ordering::Relaxed) * ATTEMPTS_EACH {
                std::thread::yield_now();
                continue;
            }
            let start = Instant::now();
            let result = (self.attempt)(to);
            late += u32::from(start.elapsed() > PATIENCE);
            assert!(late <= LATE, "{}: {late} attempts were late", self.to);
            match result {
                Ok(()) => {}
                Err(e) if self.may_be_refused && e.kind() == ErrorKind::ConnectionRefused => {}
                Err(e) => panic!("{} attempt {}: {e}", self.to, attempts.load(Ordering::Relaxed)),
            }
            attempts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes a number of changes while a client is busy.
fn change_under_traffic(
    client: &Host,
    proxy: &mut Programmer,
    traffic: &Traffic,
    wanted: u32,
    change: impl Fn(u32) -> Vec<Event>,
) {
    let (updates, attempts) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| client.run(|| traffic.run(&attempts, &updates, wanted)));
        for update in 1..=wanted {
            for event in change(update) {
                proxy.apply(event);
            }
            proxy.sync().unwrap();
            if update % 50 == 0 {
                proxy.tidy().unwrap();
                proxy.look_again();
            }
            updates.store(update, Ordering::Relaxed);
            // Not much faster than the client, unless it has failed.
            let done = (update * ATTEMPTS_EACH).saturating_sub(5 * ATTEMPTS_EACH);
            let deadline = Instant::now() + Duration::from_secs(5);
            while attempts.load(Ordering::Relaxed) < done && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert!(
                attempts.load(Ordering::Relaxed) >= done,
                "the client has lost an attempt after update {update}"
            );
        }
    });
}

fn started(of: Service) -> Rig {
    let mut rig = Rig::new();
    rig.apply([service(of), endpoints(&[A, B])]);
    rig
}

fn with(secs: u32, external: Policy, internal: Policy) -> Event {
    service(Service {
        affinity_secs: NonZeroU32::new(secs),
        external,
        internal,
        ..web()
    })
}

const SETS: [&[&str]; 4] = [&[A], &[A, B], &[B], &[B, A]];

#[test]
fn tcp_while_endpoints_change() {
    let mut rig = started(web());
    let traffic = Traffic {
        to: VIP,
        attempt: tcp,
        may_be_refused: false,
    };
    change_under_traffic(&rig.client, &mut rig.proxy, &traffic, 2000, |i| {
        vec![endpoints(SETS[i as usize % SETS.len()])]
    });
    rig.check();
}

#[test]
fn udp_while_endpoints_change() {
    let mut rig = started(web());
    for (from_outside, to) in [(false, VIP), (true, NODE_PORT)] {
        let client = if from_outside { &rig.outside } else { &rig.client };
        let traffic = Traffic {
            to,
            attempt: udp_again,
            may_be_refused: false,
        };
        change_under_traffic(client, &mut rig.proxy, &traffic, 500, |i| {
            vec![endpoints(SETS[i as usize % SETS.len()])]
        });
    }
    rig.check();
}

#[test]
fn the_last_endpoint_goes_and_comes_back() {
    let mut rig = started(web());
    for (attempt, to) in [
        (tcp as fn(SocketAddr) -> Result<()>, VIP),
        (udp_again, VIP),
        (tcp, NODE_PORT),
    ] {
        let traffic = Traffic {
            to,
            attempt,
            may_be_refused: true,
        };
        let client = if to == VIP { &rig.client } else { &rig.outside };
        change_under_traffic(client, &mut rig.proxy, &traffic, 400, |i| {
            vec![endpoints(if i % 2 == 0 { &[A] } else { &[] })]
        });
    }
    rig.check();
}

#[test]
fn policies_change() {
    let mut rig = started(web());
    for (attempt, to) in [
        (tcp as fn(SocketAddr) -> Result<()>, VIP),
        (tcp, NODE_PORT),
        (udp, NODE_PORT),
    ] {
        let traffic = Traffic {
            to,
            attempt,
            may_be_refused: false,
        };
        let client = if to == VIP { &rig.client } else { &rig.outside };
        change_under_traffic(client, &mut rig.proxy, &traffic, 400, |i| {
            let policy = if i % 2 == 0 {
                Policy::Cluster
            } else {
                Policy::Local
            };
            vec![with(0, policy, policy)]
        });
    }
    rig.check();
}

#[test]
fn affinity_is_switched_and_endpoints_change_with_it() {
    let mut rig = started(web());
    for (attempt, to) in [
        (tcp as fn(SocketAddr) -> Result<()>, VIP),
        (udp_again, VIP),
        (tcp, NODE_PORT),
    ] {
        let traffic = Traffic {
            to,
            attempt,
            may_be_refused: false,
        };
        let client = if to == VIP { &rig.client } else { &rig.outside };
        change_under_traffic(client, &mut rig.proxy, &traffic, 400, |i| {
            let secs = [0, 3600, 3600, 60][i as usize % 4];
            vec![
                with(secs, Policy::Cluster, Policy::Cluster),
                endpoints(SETS[i as usize / 4 % SETS.len()]),
            ]
        });
    }
    rig.check();
}
