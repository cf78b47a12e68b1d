//! The process: processor time, memory, files, network.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

/// `process_cpu_seconds_total`, `process_resident_memory_bytes` and their kin, read from procfs at each scrape.
#[derive(Debug)]
pub struct Process {
    descriptions: Vec<Desc>,
    ticks_per_second: f64,
    page_bytes: f64,
    boot_seconds: f64,
    /// Show this one alone.
    only: Option<&'static str>,
}

/// What a scrape reads.
struct Sample {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    start_seconds: f64,
    open_fds: f64,
    max_fds: f64,
    max_virtual_bytes: f64,
    received_bytes: f64,
    sent_bytes: f64,
}

const NAMES: [(&str, &str); 9] = [
    (
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ),
    ("process_resident_memory_bytes", "Resident memory size in bytes."),
    ("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    (
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    ),
    ("process_open_fds", "Number of open file descriptors."),
    ("process_max_fds", "Maximum number of open file descriptors."),
    (
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
    ),
    (
        "process_network_receive_bytes_total",
        "Number of bytes received by the process over the network.",
    ),
    (
        "process_network_transmit_bytes_total",
        "Number of bytes sent by the process over the network.",
    ),
];

impl Process {
    /// Reads what never changes.
    #[must_use]
    pub fn new() -> Self {
        let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot
            .lines()
            .find_map(|l| l.strip_prefix("btime "))
            .and_then(|v| v.trim().parse().ok());
        let describe = |(name, help): (&str, &str)| {
            Desc::new(name.into(), help.into(), vec![], Default::default()).expect("constant names are valid")
        };
        #[expect(clippy::cast_precision_loss, reason = "both are small numbers")]
        Self {
            descriptions: NAMES.map(describe).to_vec(),
            ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
            page_bytes: rustix::param::page_size() as f64,
            boot_seconds: boot.unwrap_or(0.0),
            only: None,
        }
    }

    /// Only `process_start_time_seconds`, which every page of counters needs.
    #[must_use]
    pub fn start_only() -> Self {
        let only = "process_start_time_seconds";
        let mut process = Self::new();
        process
            .descriptions
            .retain(|description| description.fq_name == only);
        process.only = Some(only);
        process
    }

    /// proc_pid_stat(5): utime, stime, starttime, vsize and rss are fields 14, 15, 22, 23 and 24.
    fn sample(&self) -> Option<Sample> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The command (field 2) may hold spaces: count from its closing parenthesis.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let (max_fds, max_virtual_bytes) = limits();
        let (received_bytes, sent_bytes) = traffic().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a count of file descriptors")]
        Some(Sample {
            cpu_seconds: (field(14)? + field(15)?) / self.ticks_per_second,
            resident_bytes: field(24)? * self.page_bytes,
            virtual_bytes: field(23)?,
            start_seconds: self.boot_seconds + field(22)? / self.ticks_per_second,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            max_fds,
            max_virtual_bytes,
            received_bytes,
            sent_bytes,
        })
    }
}

/// getrlimit(2): files and address space; without a limit the largest number, as Go's client library shows it.
fn limits() -> (f64, f64) {
    use rustix::process::{Resource, getrlimit};
    #[expect(clippy::cast_precision_loss, reason = "a limit, shown as a float")]
    let current = |resource| getrlimit(resource).current.unwrap_or(u64::MAX) as f64;
    (current(Resource::Nofile), current(Resource::As))
}

/// proc_pid_net(5): bytes in and out of the process's network namespace.
fn traffic() -> Option<(f64, f64)> {
    let netstat = std::fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = netstat.lines().filter(|line| line.starts_with("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let mut pairs = names
            .split_ascii_whitespace()
            .zip(values.split_ascii_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(s) = self.sample() else { return vec![] };
        let values = [
            s.cpu_seconds,
            s.resident_bytes,
            s.virtual_bytes,
            s.start_seconds,
            s.open_fds,
            s.max_fds,
            s.max_virtual_bytes,
            s.received_bytes,
            s.sent_bytes,
        ];
        NAMES
            .iter()
            .zip(values)
            .filter(|((name, _), _)| self.only.is_none_or(|only| only == *name))
            .map(|((name, help), value)| family(name, help, value))
            .collect()
    }
}

fn family(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut metric = Metric::default();
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    if name.ends_with("_total") {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
        family.set_field_type(MetricType::COUNTER);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
        family.set_field_type(MetricType::GAUGE);
    }
    family.set_metric(vec![metric]);
    family
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, Registry, TextEncoder};

    use super::*;

    #[test]
    fn this_process_has_memory_files_and_a_start() {
        let registry = Registry::new();
        registry
            .register(Box::new(Process::new()))
            .expect("registered once");
        let mut body = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut body)
            .expect("encodes");
        let body = String::from_utf8(body).expect("text");
        for (name, _) in NAMES {
            let value: f64 = body
                .lines()
                .find_map(|l| l.strip_prefix(&format!("{name} ")))
                .and_then(|v| v.parse().ok())
                .unwrap_or_else(|| panic!("{name} is missing in {body}"));
            assert!(value >= 0.0);
            assert!(name.ends_with("_total") || value > 0.0, "{name} is 0");
        }
    }
}
