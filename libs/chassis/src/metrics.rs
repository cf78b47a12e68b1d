//! Prometheus text, and the metrics that every process has.

use hyper::StatusCode;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Registry, TextEncoder};
use tracing::error;

use crate::http::{Answer, text, with_type};

/// The answer to a scrape of `registry`.
#[must_use]
pub fn scrape(registry: &Registry) -> Answer {
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    match encoder.encode(&registry.gather(), &mut body) {
        Ok(()) => with_type(StatusCode::OK, prometheus::TEXT_FORMAT, body),
        Err(error) => {
            error!(%error, "cannot encode the metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n")
        }
    }
}

/// `process_cpu_seconds_total`, `process_resident_memory_bytes` and their kin, read from procfs at each scrape.
#[derive(Debug)]
pub struct Process {
    descriptions: Vec<Desc>,
    ticks_per_second: f64,
    page_bytes: f64,
    boot_seconds: f64,
}

/// What a scrape reads.
struct Sample {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    start_seconds: f64,
    open_fds: f64,
}

const NAMES: [(&str, &str); 5] = [
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
        }
    }

    /// proc_pid_stat(5): utime, stime, starttime, vsize and rss are fields 14, 15, 22, 23 and 24.
    fn sample(&self) -> Option<Sample> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The command (field 2) may hold spaces: count from its closing parenthesis.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "a count of file descriptors")]
        Some(Sample {
            cpu_seconds: (field(14)? + field(15)?) / self.ticks_per_second,
            resident_bytes: field(24)? * self.page_bytes,
            virtual_bytes: field(23)?,
            start_seconds: self.boot_seconds + field(22)? / self.ticks_per_second,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        })
    }
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
        ];
        NAMES
            .iter()
            .zip(values)
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
            assert!(name == "process_cpu_seconds_total" || value > 0.0, "{name} is 0");
        }
    }
}
