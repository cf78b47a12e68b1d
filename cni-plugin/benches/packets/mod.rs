//! Throughput and latency between two pods, over what the plugin made and over a bridge and veth pairs that `ip` made.

use std::net::IpAddr;
use std::time::Duration;

use super::harness::traffic::{round_trips, throughput};
use super::harness::{Host, Namespace, address, on_host};
use super::quantile;

const SUBNET: &str = "10.99.1.0/24";
const BYTES: usize = 1 << 30;
const TRIPS: usize = 20_000;
/// The two take turns, so that a machine whose speed varies is unfair to none.
const TURNS: usize = 5;

/// Two pods and the address of the second.
struct Pair {
    from: Namespace,
    to: Namespace,
    address: IpAddr,
}

/// Prints the table.
pub(crate) fn compare() {
    println!("| between pods | throughput | round trip p50 | p99 |");
    println!("|---|---|---|---|");
    on_host(|host| {
        on_host(|bare_host| {
            let pairs = [
                ("gantry-cni", plugged(host)),
                ("bare veth and bridge", bare(bare_host)),
            ];
            let mut figures = [const { (Vec::new(), Vec::new()) }; 2];
            for _ in 0..TURNS {
                for ((_, pair), (rates, trips)) in pairs.iter().zip(&mut figures) {
                    rates.push(throughput(&pair.from, &pair.to, pair.address, BYTES));
                    trips.extend(round_trips(&pair.from, &pair.to, pair.address, TRIPS));
                }
            }
            for ((name, _), (mut rates, trips)) in pairs.iter().zip(figures) {
                rates.sort_by(f64::total_cmp);
                let rate = rates[TURNS / 2] * 8.0 / 1e9;
                let [half, most] = [50, 99].map(|percent| micros(quantile(&trips, percent)));
                println!("| {name} | {rate:.1} Gbit/s | {half} | {most} |");
            }
        });
    });
}

fn plugged(host: &Host) -> Pair {
    let config = host.config(SUBNET);
    let (from, to) = (Namespace::new(), Namespace::new());
    host.add(&config, "a", &from);
    let address = address(&host.add(&config, "b", &to));
    Pair { from, to, address }
}

fn bare(host: &Host) -> Pair {
    host.ip("link add br0 type bridge");
    host.ip("link set br0 up");
    let plug = |number: u8| {
        let pod = Namespace::new();
        let thread = pod.thread();
        host.ip(&format!(
            "link add v{number} type veth peer name eth0 netns {thread}"
        ));
        host.ip(&format!("link set v{number} master br0 up"));
        pod.ip(&format!("addr add 10.99.1.{number}/24 dev eth0"));
        pod.ip("link set eth0 up");
        pod
    };
    let (from, to) = (plug(2), plug(3));
    Pair {
        from,
        to,
        address: [10, 99, 1, 3].into(),
    }
}

fn micros(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}
