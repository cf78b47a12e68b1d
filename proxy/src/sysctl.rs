//! Kernel settings that services need, written only where they differ.

use std::path::Path;
use std::time::Duration;

use gantry_proxy_core::Families;
use tracing::{info, warn};

use crate::config::Conntrack;

/// The reference's upper limit for `nf_conntrack_max`.
const CONNTRACK_LIMIT: u64 = 1_048_576;
/// Where the kernel shows its network settings. A container may read them here and write them elsewhere, if at all.
pub const NET: &str = "/proc/sys/net";

/// True if the kernel has IPv6, switched on or off.
pub fn knows_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// True if the kernel has IPv6 and it is not switched off: the reference's rule.
pub fn has_ipv6() -> bool {
    knows_ipv6() && read(&Path::new(NET).join("ipv6/conf/all/disable_ipv6")) != Some(1)
}

/// Writes the settings below `net`, which is [`NET`] or the same elsewhere. What cannot be written is logged: the proxy works with what
/// is there. Forwarding of IPv6 is left to who gives pods addresses of it: a host that begins to forward no longer learns its own routes
/// from advertisements.
pub fn apply(conntrack: &Conntrack, families: Families, net: &Path) {
    // Without these no packet passes; a host where they cannot be set may still have them right elsewhere.
    set(&net.join("ipv4/ip_forward"), 1);
    if net.join("bridge").exists() {
        set(&net.join("bridge/bridge-nf-call-iptables"), 1);
        if families == Families::Both {
            set(&net.join("bridge/bridge-nf-call-ip6tables"), 1);
        }
    }
    let tracking = net.join("netfilter");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(max) = conntrack_max(conntrack, processors) {
        at_least(&tracking.join("nf_conntrack_max"), max);
        at_least(&tracking.join("nf_conntrack_buckets"), max / 4);
    }
    let timeouts = [
        (
            "nf_conntrack_tcp_timeout_established",
            conntrack.tcp_established_timeout.0,
        ),
        (
            "nf_conntrack_tcp_timeout_close_wait",
            conntrack.tcp_close_wait_timeout.0,
        ),
        ("nf_conntrack_udp_timeout", conntrack.udp_timeout.0),
        ("nf_conntrack_udp_timeout_stream", conntrack.udp_stream_timeout.0),
    ];
    for (name, timeout) in timeouts
        .into_iter()
        .filter(|(_, timeout)| *timeout >= Duration::from_secs(1))
    {
        set(&tracking.join(name), timeout.as_secs());
    }
    if conntrack.tcp_be_liberal {
        set(&tracking.join("nf_conntrack_tcp_be_liberal"), 1);
    }
}

/// The wanted table size: `maxPerCore` for each processor but at least `min`; `None` leaves the system's.
fn conntrack_max(conntrack: &Conntrack, processors: usize) -> Option<u64> {
    if conntrack.max_per_core == 0 {
        return None;
    }
    let scaled = u64::from(conntrack.max_per_core) * processors as u64;
    Some(scaled.max(conntrack.min.into()).min(CONNTRACK_LIMIT))
}

fn set(path: &Path, value: u64) {
    if read(path) != Some(value) {
        write(path, value);
    }
}

fn at_least(path: &Path, value: u64) {
    if read(path).is_none_or(|present| present < value) {
        write(path, value);
    }
}

fn read(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn write(path: &Path, value: u64) {
    match std::fs::write(path, value.to_string()) {
        Ok(()) => info!(path = %path.display(), value, "kernel setting changed"),
        Err(error) => warn!(path = %path.display(), value, %error, "kernel setting cannot be changed"),
    }
}

/// Sets how ready the kernel is to end this process when memory runs out.
pub fn set_oom_score(score: i32) {
    let path = "/proc/self/oom_score_adj";
    let present = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok());
    if present != Some(score)
        && let Err(error) = std::fs::write(path, score.to_string())
    {
        info!(score, %error, "oomScoreAdj cannot be set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_conntrack_table_follows_the_reference() {
        let wanted = |max_per_core, min, processors| {
            conntrack_max(
                &Conntrack {
                    max_per_core,
                    min,
                    ..Conntrack::default()
                },
                processors,
            )
        };
        assert_eq!(wanted(0, 131_072, 8), None);
        assert_eq!(wanted(32_768, 131_072, 2), Some(131_072));
        assert_eq!(wanted(32_768, 131_072, 8), Some(262_144));
        assert_eq!(wanted(32_768, 131_072, 640), Some(CONNTRACK_LIMIT));
    }
}
