//! Metrics, with the reference's names where it has one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_chassis::metrics::Process;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts, Registry,
};

/// The only family programmed so far.
const IP_FAMILY: &str = "IPv4";

/// All of them, in their registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// For the scrape.
    pub registry: Registry,
    sync: Histogram,
    sync_full: Histogram,
    sync_partial: Histogram,
    programming: Histogram,
    last_sync: Gauge,
    last_queued: Gauge,
    /// Changes of endpoint slices that are not in the table yet.
    pub endpoint_changes_pending: Gauge,
    /// All changes of endpoint slices.
    pub endpoint_changes: Counter,
    /// Changes of services that are not in the table yet.
    pub service_changes_pending: Gauge,
    /// All changes of services.
    pub service_changes: Counter,
    /// Transactions that failed.
    pub failures: Counter,
    /// Answers of `/healthz` by code.
    pub healthz: CounterVec,
    /// Answers of `/livez` by code.
    pub livez: CounterVec,
    elements: Counter,
}

impl Metrics {
    /// Makes and registers all.
    ///
    /// # Errors
    /// When two have one name, which a test excludes.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = Register(&registry);
        r.add(Process::new())?;
        let build = GaugeVec::new(
            Opts::new(
                "kubernetes_build_info",
                "The version this program stands in for, and its own.",
            ),
            &["git_version", "gantry_version"],
        )?;
        build
            .with_label_values(&[crate::REFERENCE_VERSION, env!("CARGO_PKG_VERSION")])
            .set(1.0);
        r.add(build)?;
        Ok(Self {
            sync: r.duration(
                "sync_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds",
            )?,
            sync_full: r.duration(
                "sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
            )?,
            sync_partial: r.duration(
                "sync_partial_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for partial resyncs",
            )?,
            programming: r.histogram(
                "network_programming_duration_seconds",
                "In Cluster Network Programming Latency in seconds",
                programming_buckets(),
            )?,
            last_sync: r.family_gauge(
                "sync_proxy_rules_last_timestamp_seconds",
                "The last time proxy rules were successfully synced",
            )?,
            last_queued: r.family_gauge(
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "The last time a sync of proxy rules was queued",
            )?,
            endpoint_changes_pending: r.gauge("endpoint_changes_pending", "Pending endpoint changes")?,
            endpoint_changes: r.counter("endpoint_changes_total", "Cumulative endpoint changes")?,
            service_changes_pending: r.gauge("service_changes_pending", "Pending service changes")?,
            service_changes: r.counter("service_changes_total", "Cumulative service changes")?,
            failures: r.family_counter(
                "sync_proxy_rules_nftables_sync_failures_total",
                "Cumulative proxy nftables sync failures",
            )?,
            healthz: r.codes("proxy_healthz_total", "Cumulative proxy healthz HTTP status")?,
            livez: r.codes("proxy_livez_total", "Cumulative proxy livez HTTP status")?,
            elements: r.family_counter(
                "gantry_elements_written_total",
                "Elements of sets and maps written",
            )?,
            registry,
        })
    }

    /// Notes a finished sync.
    pub fn synced(&self, full: bool, elements: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        self.sync.observe(seconds);
        if full { &self.sync_full } else { &self.sync_partial }.observe(seconds);
        self.last_sync.set(now_seconds());
        #[expect(clippy::cast_precision_loss, reason = "a count of elements")]
        self.elements.inc_by(elements as f64);
        self.endpoint_changes_pending.set(0.0);
        self.service_changes_pending.set(0.0);
    }

    /// Notes that something has to be done.
    pub fn queued(&self) {
        self.last_queued.set(now_seconds());
    }

    /// Notes that an endpoint change of this time is in effect.
    pub fn programmed(&self, since: SystemTime) {
        self.programming
            .observe(since.elapsed().unwrap_or_default().as_secs_f64());
    }
}

fn now_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// The reference's: quarters up to half a second, seconds up to one minute, then coarser up to five.
fn programming_buckets() -> Vec<f64> {
    let seconds = (1..60).map(f64::from);
    let fives = (12..24).map(|n| f64::from(n * 5));
    let halves = (4..11).map(|n| f64::from(n * 30));
    [0.25, 0.5]
        .into_iter()
        .chain(seconds)
        .chain(fives)
        .chain(halves)
        .collect()
}

/// Makes metrics of the reference's subsystem and registers them.
struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn add(&self, metric: impl prometheus::core::Collector + 'static) -> Result<(), prometheus::Error> {
        self.0.register(Box::new(metric))
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("kubeproxy")
    }

    fn duration(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.histogram(name, help, prometheus::exponential_buckets(0.001, 2.0, 15)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets);
        let all = HistogramVec::new(opts, &["ip_family"])?;
        self.add(all.clone())?;
        Ok(all.with_label_values(&[IP_FAMILY]))
    }

    fn family_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let all = GaugeVec::new(Self::opts(name, help), &["ip_family"])?;
        self.add(all.clone())?;
        Ok(all.with_label_values(&[IP_FAMILY]))
    }

    fn family_counter(&self, name: &str, help: &str) -> Result<Counter, prometheus::Error> {
        let all = CounterVec::new(Self::opts(name, help), &["ip_family"])?;
        self.add(all.clone())?;
        Ok(all.with_label_values(&[IP_FAMILY]))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let gauge = Gauge::with_opts(Self::opts(&format!("sync_proxy_rules_{name}"), help))?;
        self.add(gauge.clone())?;
        Ok(gauge)
    }

    fn counter(&self, name: &str, help: &str) -> Result<Counter, prometheus::Error> {
        let counter = Counter::with_opts(Self::opts(&format!("sync_proxy_rules_{name}"), help))?;
        self.add(counter.clone())?;
        Ok(counter)
    }

    fn codes(&self, name: &str, help: &str) -> Result<CounterVec, prometheus::Error> {
        let all = CounterVec::new(Self::opts(name, help), &["code"])?;
        self.add(all.clone())?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_names_are_there() {
        let metrics = Metrics::new().unwrap();
        metrics.synced(true, 7, Duration::from_millis(3));
        let names: Vec<String> = metrics
            .registry
            .gather()
            .iter()
            .map(|f| f.name().to_owned())
            .collect();
        for name in [
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "kubeproxy_network_programming_duration_seconds",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total",
            "kubeproxy_sync_proxy_rules_service_changes_pending",
            "kubernetes_build_info",
            "process_resident_memory_bytes",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} is missing in {names:?}");
        }
        assert_eq!(programming_buckets().len(), 2 + 59 + 12 + 7);
    }
}
