//! Metrics, with the reference's names where it has one.

use std::time::{SystemTime, UNIX_EPOCH};

use gantry_chassis::metrics::{Level, Registrar, Version, standard};
use gantry_kubeapi::Requests;
use gantry_proxy_core::Ruleset;
use prometheus::{
    Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    exponential_buckets,
};

use crate::programmer::Done;

/// The only family programmed so far.
const IP_FAMILY: &str = "IPv4";

/// All of them, in their registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// For the scrape.
    pub registry: Registry,
    syncs: Syncs,
    /// Changes of objects.
    pub changes: Changes,
    /// Transactions that failed.
    pub failures: IntCounter,
    /// Chains without use that could not be deleted.
    pub cleanup_failures: IntCounter,
    /// Changes of the table by others that were noticed.
    pub repairs: IntCounter,
    elements: IntGauge,
    /// Answers of `/healthz` by code.
    pub healthz: IntCounterVec,
    /// Answers of `/livez` by code.
    pub livez: IntCounterVec,
    /// What `/healthz` of the metrics' port said, for `/metrics/slis`.
    pub slis: Slis,
    /// Requests to the API server.
    pub requests: Requests,
    without_local: GaugeVec,
}

/// Health checks as service level indicators.
#[derive(Clone, Debug)]
pub struct Slis {
    /// For the scrape.
    pub registry: Registry,
    health: IntGaugeVec,
    checks: IntCounterVec,
}

/// How long syncs take.
#[derive(Clone, Debug)]
struct Syncs {
    all: Histogram,
    full: Histogram,
    partial: Histogram,
    flows: Histogram,
    flows_deleted: IntCounter,
    programming: Histogram,
    transaction: Histogram,
    last: Gauge,
    last_queued: Gauge,
    elements: IntCounter,
}

/// Changes of objects, and those that are not in the table yet.
#[derive(Clone, Debug)]
pub struct Changes {
    /// All changes of endpoint slices.
    pub endpoints: IntCounter,
    /// Those that wait.
    pub endpoints_pending: IntGauge,
    /// All changes of services.
    pub services: IntCounter,
    /// Those that wait.
    pub services_pending: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes and registers all. Must be called inside a tokio runtime for its tasks to be counted.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let version = Version {
            kubernetes: crate::REFERENCE_VERSION,
            own: env!("CARGO_PKG_VERSION"),
        };
        standard(&registry, version);
        let r = Series(Registrar::new(&registry));
        Self {
            syncs: Syncs::new(r),
            changes: Changes::new(r),
            failures: r.counter(
                "sync_proxy_rules_nftables_sync_failures_total",
                "Cumulative proxy nftables sync failures",
            ),
            cleanup_failures: r.counter(
                "sync_proxy_rules_nftables_cleanup_failures_total",
                "Cumulative proxy nftables cleanup failures",
            ),
            healthz: r.codes("proxy_healthz_total", "Cumulative proxy healthz HTTP status"),
            livez: r.codes("proxy_livez_total", "Cumulative proxy livez HTTP status"),
            without_local: r.0.gauges(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Number of services with a Local traffic policy and no endpoints",
                &["ip_family", "traffic_policy"],
            ),
            repairs: r.own().counter(
                "gantry_table_repairs_total",
                "Changes of the table by other programs that were noticed",
            ),
            elements: r.own().count(
                "gantry_table_elements",
                "Elements of all sets and maps of the table when they were last counted",
            ),
            slis: Slis::new(),
            requests: Requests::new(r.0),
            registry,
        }
    }

    /// Notes a finished sync.
    pub fn synced(&self, done: &Done) {
        let Syncs {
            all,
            full,
            partial,
            flows,
            flows_deleted,
            transaction,
            last,
            elements,
            programming: _,
            last_queued: _,
        } = &self.syncs;
        let seconds = (done.planning + done.writing).as_secs_f64();
        all.observe(seconds);
        if done.full { full } else { partial }.observe(seconds);
        transaction.observe(done.writing.as_secs_f64());
        flows.observe(done.ending.as_secs_f64());
        flows_deleted.inc_by(u64::try_from(done.ended).unwrap_or(u64::MAX));
        last.set(now_seconds());
        elements.inc_by(u64::try_from(done.elements).unwrap_or(u64::MAX));
        self.changes.settled();
    }

    /// Notes how many elements there are, and how many services drop traffic because of a Local policy.
    pub fn counted(&self, ruleset: &Ruleset) {
        let elements = ruleset.elements().count();
        self.elements.set(i64::try_from(elements).unwrap_or(i64::MAX));
        let (internal, external) = ruleset.without_local();
        for (policy, count) in [("internal", internal), ("external", external)] {
            #[expect(clippy::cast_precision_loss, reason = "a count of services")]
            self.without_local
                .with_label_values(&[IP_FAMILY, policy])
                .set(count as f64);
        }
    }

    /// Notes that something has to be done.
    pub fn queued(&self) {
        self.syncs.last_queued.set(now_seconds());
    }

    /// Notes that an endpoint change of this time is in effect.
    pub fn programmed(&self, since: SystemTime) {
        self.syncs
            .programming
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

impl Slis {
    fn new() -> Self {
        let registry = Registry::new();
        let series = Registrar::new(&registry).level(Level::Stable);
        Self {
            health: series.counts(
                "kubernetes_healthcheck",
                "This metric records the result of a single healthcheck.",
                &["name", "type"],
            ),
            checks: series.counters(
                "kubernetes_healthchecks_total",
                "This metric records the results of all healthcheck.",
                &["name", "type", "status"],
            ),
            registry,
        }
    }

    /// Somebody asked, and was answered.
    pub fn pinged(&self) {
        self.health.with_label_values(&["ping", "healthz"]).set(1);
        self.checks
            .with_label_values(&["ping", "healthz", "success"])
            .inc();
    }
}

impl Syncs {
    fn new(r: Series<'_>) -> Self {
        Self {
            all: r.duration(
                "sync_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds",
            ),
            full: r.duration(
                "sync_full_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for full resyncs",
            ),
            partial: r.duration(
                "sync_partial_proxy_rules_duration_seconds",
                "SyncProxyRules latency in seconds for partial resyncs",
            ),
            flows: r.duration(
                "conntrack_reconciler_sync_duration_seconds",
                "ReconcileConntrackFlowsLatency latency in seconds",
            ),
            flows_deleted: r.counter(
                "conntrack_reconciler_deleted_entries_total",
                "Cumulative conntrack flows deleted by conntrack reconciler",
            ),
            transaction: r.own().duration(
                "gantry_table_transaction_duration_seconds",
                "How long the kernel took to apply the changes of one sync",
            ),
            programming: r.histogram(
                "network_programming_duration_seconds",
                "In Cluster Network Programming Latency in seconds",
                &programming_buckets(),
            ),
            last: r.gauge(
                "sync_proxy_rules_last_timestamp_seconds",
                "The last time proxy rules were successfully synced",
            ),
            last_queued: r.gauge(
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "The last time a sync of proxy rules was queued",
            ),
            elements: r.own().counter(
                "gantry_elements_written_total",
                "Elements of sets and maps written",
            ),
        }
    }
}

impl Changes {
    fn new(r: Series<'_>) -> Self {
        let name = |what: &str| format!("kubeproxy_sync_proxy_rules_{what}");
        let counter = |what: &str, help| r.0.counter(&name(what), help);
        let pending = |what: &str, help| r.0.count(&name(what), help);
        Self {
            endpoints: counter(
                "endpoint_changes_total",
                "Cumulative proxy rules Endpoint changes",
            ),
            endpoints_pending: pending("endpoint_changes_pending", "Pending proxy rules Endpoint changes"),
            services: counter("service_changes_total", "Cumulative proxy rules Service changes"),
            services_pending: pending("service_changes_pending", "Pending proxy rules Service changes"),
        }
    }

    /// Nothing waits.
    pub fn settled(&self) {
        self.endpoints_pending.set(0);
        self.services_pending.set(0);
    }
}

/// Makes series of the reference's subsystem, for the family that is programmed.
#[derive(Clone, Copy)]
struct Series<'a>(Registrar<'a>);

impl Series<'_> {
    fn name(name: &str) -> String {
        format!("kubeproxy_{name}")
    }

    /// Series that the reference does not have.
    fn own(self) -> Self {
        Self(self.0.level(Level::Own))
    }

    fn count(self, name: &str, help: &str) -> IntGauge {
        let all = self.0.counts(&Self::name(name), help, &["ip_family"]);
        all.with_label_values(&[IP_FAMILY])
    }

    fn duration(self, name: &str, help: &str) -> Histogram {
        let buckets = exponential_buckets(0.001, 2.0, 15).expect("a valid series of buckets");
        self.histogram(name, help, &buckets)
    }

    fn histogram(self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let all = self
            .0
            .histograms(&Self::name(name), help, &["ip_family"], buckets);
        all.with_label_values(&[IP_FAMILY])
    }

    fn gauge(self, name: &str, help: &str) -> Gauge {
        let all = self.0.gauges(&Self::name(name), help, &["ip_family"]);
        all.with_label_values(&[IP_FAMILY])
    }

    fn counter(self, name: &str, help: &str) -> IntCounter {
        let all = self.0.counters(&Self::name(name), help, &["ip_family"]);
        all.with_label_values(&[IP_FAMILY])
    }

    fn codes(self, name: &str, help: &str) -> IntCounterVec {
        self.0.counters(&Self::name(name), help, &["code"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_names_are_there() {
        let metrics = Metrics::new();
        metrics.synced(&Done {
            elements: 7,
            full: true,
            ..Done::default()
        });
        metrics.counted(&Ruleset::default());
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
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
            "kubeproxy_gantry_table_elements",
            "kubeproxy_gantry_table_transaction_duration_seconds",
            "kubernetes_build_info",
            "process_resident_memory_bytes",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} is missing in {names:?}");
        }
        assert_eq!(programming_buckets().len(), 2 + 59 + 12 + 7);
    }
}
