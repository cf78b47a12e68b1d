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
    /// Connects from the node to services that answer, by turns; the median in microseconds.
    pub(super) fn first_packets(&self, at: &str, services: &[SocketAddr], figures: &mut Figures) -> f64 {
        let mut direct = self.connect_times(&[self.server]);
        let mut times = self.connect_times(services);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let median = micros(percentile(&mut times, 0.5));
        let without = micros(percentile(&mut direct, 0.5));
        figures.add(&format!("at {at}: first packet, p50"), median, "us", "");
        figures.add(
            &format!("at {at}: first packet, p99"),
            micros(percentile(&mut times, 0.99)),
            "us",
            "",
        );
        figures.add(
            &format!("at {at}: the same past all services, p50"),
            without,
            "us",
            "",
        );
        median
    }

    fn connect_times(&self, to: &[SocketAddr]) -> Vec<Duration> {
        self.node.run(|| {
            let turns = to.iter().cycle().take(self.extent.of(CONNECTIONS, FEW));
            turns
                .map(|address| connect(*address).expect("a service answers"))
                .collect()
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
