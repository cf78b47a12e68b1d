//! What services cost a connection: the time that its first packet and the answer to it take.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType, sockopt};

use super::Bench;
use crate::figures::{Figures, percentile};

/// Connections in a row; the kernel's port numbers last for more.
const CONNECTIONS: usize = 5000;
const FEW: usize = 50;

impl Bench {
    /// Connects from the node to services that answer, by turns, and each time to the server itself, too: what else happens to
    /// the machine happens to both. The median in microseconds.
    pub(super) fn first_packets(&self, at: &str, services: &[SocketAddr], figures: &mut Figures) -> f64 {
        let (mut times, mut direct) = self.connect_times(services);
        let mut added: Vec<_> = times
            .iter()
            .zip(&direct)
            .map(|(service, direct)| service.saturating_sub(*direct))
            .collect();
        let mut add = |what: &str, times: &mut [Duration], part| {
            let micros = percentile(times, part).as_secs_f64() * 1e6;
            figures.add(&format!("at {at}: {what}"), micros, "us", "");
            micros
        };
        let median = add("first packet, p50", &mut times, 0.5);
        add("first packet, p99", &mut times, 0.99);
        add("the same past all services, p50", &mut direct, 0.5);
        add("what a service adds, p50", &mut added, 0.5);
        median
    }

    /// Through services and past them.
    fn connect_times(&self, services: &[SocketAddr]) -> (Vec<Duration>, Vec<Duration>) {
        let measure = |to: SocketAddr| connect(to).expect("it answers");
        self.node.run(|| {
            let turns = services.iter().cycle().take(self.extent.of(CONNECTIONS, FEW));
            turns
                .map(|service| (measure(*service), measure(self.server)))
                .unzip()
        })
    }
}

/// How long it takes to connect. Closed by a reset, so that no port is left in TIME_WAIT.
fn connect(to: SocketAddr) -> rustix::io::Result<Duration> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let start = Instant::now();
    net::connect(&socket, &to)?;
    let took = start.elapsed();
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    Ok(took)
}
