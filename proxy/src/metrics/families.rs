//! The series that each address family has for itself, told apart by the label `ip_family`.

use std::time::{SystemTime, UNIX_EPOCH};

use gantry_chassis::metrics::{Level, Registrar};
use gantry_proxy_core::{Family, Ruleset};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    exponential_buckets,
};

use crate::programmer::Done;

/// All of them, for every family.
#[derive(Clone, Debug)]
pub(super) struct Series {
    durations: Durations<HistogramVec>,
    flows_deleted: IntCounterVec,
    last: GaugeVec,
    last_queued: GaugeVec,
    written: IntCounterVec,
    elements: IntGaugeVec,
    failures: IntCounterVec,
    cleanup_failures: IntCounterVec,
    repairs: IntCounterVec,
    without_local: GaugeVec,
}

/// Those of one family.
#[derive(Clone, Debug)]
pub struct FamilyMetrics {
    durations: Durations<Histogram>,
    flows_deleted: IntCounter,
    last: Gauge,
    last_queued: Gauge,
    written: IntCounter,
    elements: IntGauge,
    /// Transactions that failed.
    pub failures: IntCounter,
    /// Chains without use that could not be deleted.
    pub cleanup_failures: IntCounter,
    /// Changes of the table by others that were noticed.
    pub repairs: IntCounter,
    without_local: WithoutLocal,
}

/// How long things take.
#[derive(Clone, Debug)]
struct Durations<H> {
    all: H,
    full: H,
    partial: H,
    flows: H,
    programming: H,
    transaction: H,
}

/// Services that drop traffic because of a Local policy, by policy.
#[derive(Clone, Debug)]
struct WithoutLocal {
    internal: Gauge,
    external: Gauge,
}

impl Durations<HistogramVec> {
    fn new(r: ByFamily<'_>, own: ByFamily<'_>) -> Self {
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
            programming: r.histogram(
                "network_programming_duration_seconds",
                "In Cluster Network Programming Latency in seconds",
                &programming_buckets(),
            ),
            transaction: own.duration(
                "gantry_table_transaction_duration_seconds",
                "How long the kernel took to apply the changes of one sync",
            ),
        }
    }

    fn of(&self, label: &[&str]) -> Durations<Histogram> {
        Durations {
            all: self.all.with_label_values(label),
            full: self.full.with_label_values(label),
            partial: self.partial.with_label_values(label),
            flows: self.flows.with_label_values(label),
            programming: self.programming.with_label_values(label),
            transaction: self.transaction.with_label_values(label),
        }
    }
}

impl Series {
    pub(super) fn new(registrar: Registrar<'_>) -> Self {
        let r = ByFamily(registrar);
        let own = ByFamily(registrar.level(Level::Own));
        Self {
            durations: Durations::new(r, own),
            flows_deleted: r.counter(
                "conntrack_reconciler_deleted_entries_total",
                "Cumulative conntrack flows deleted by conntrack reconciler",
            ),
            last: r.gauge(
                "sync_proxy_rules_last_timestamp_seconds",
                "The last time proxy rules were successfully synced",
            ),
            last_queued: r.gauge(
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "The last time a sync of proxy rules was queued",
            ),
            written: own.counter(
                "gantry_elements_written_total",
                "Elements of sets and maps written",
            ),
            elements: own.count(
                "gantry_table_elements",
                "Elements of all sets and maps of the table when they were last counted",
            ),
            failures: r.counter(
                "sync_proxy_rules_nftables_sync_failures_total",
                "Cumulative proxy nftables sync failures",
            ),
            cleanup_failures: r.counter(
                "sync_proxy_rules_nftables_cleanup_failures_total",
                "Cumulative proxy nftables cleanup failures",
            ),
            repairs: own.counter(
                "gantry_table_repairs_total",
                "Changes of the table by other programs that were noticed",
            ),
            without_local: registrar.gauges(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Number of services with a Local traffic policy and no endpoints",
                &["ip_family", "traffic_policy"],
            ),
        }
    }

    /// Those of a family; from here on they are shown.
    pub(super) fn of(&self, family: Family) -> FamilyMetrics {
        let label = [family.name()];
        let without = |policy| self.without_local.with_label_values(&[family.name(), policy]);
        FamilyMetrics {
            durations: self.durations.of(&label),
            flows_deleted: self.flows_deleted.with_label_values(&label),
            last: self.last.with_label_values(&label),
            last_queued: self.last_queued.with_label_values(&label),
            written: self.written.with_label_values(&label),
            elements: self.elements.with_label_values(&label),
            failures: self.failures.with_label_values(&label),
            cleanup_failures: self.cleanup_failures.with_label_values(&label),
            repairs: self.repairs.with_label_values(&label),
            without_local: WithoutLocal {
                internal: without("internal"),
                external: without("external"),
            },
        }
    }
}

impl FamilyMetrics {
    /// Notes a finished sync.
    pub fn synced(&self, done: &Done) {
        let seconds = (done.planning + done.writing).as_secs_f64();
        let durations = &self.durations;
        durations.all.observe(seconds);
        let kind = if done.full {
            &durations.full
        } else {
            &durations.partial
        };
        kind.observe(seconds);
        durations.transaction.observe(done.writing.as_secs_f64());
        durations.flows.observe(done.ending.as_secs_f64());
        self.flows_deleted
            .inc_by(u64::try_from(done.ended).unwrap_or(u64::MAX));
        self.last.set(now_seconds());
        self.written
            .inc_by(u64::try_from(done.elements).unwrap_or(u64::MAX));
    }

    /// Notes how many elements there are, and how many services drop traffic because of a Local policy.
    #[expect(clippy::cast_precision_loss, reason = "counts of services")]
    pub fn counted(&self, ruleset: &Ruleset) {
        let elements = ruleset.elements().count();
        self.elements.set(i64::try_from(elements).unwrap_or(i64::MAX));
        let (internal, external) = ruleset.without_local();
        self.without_local.internal.set(internal as f64);
        self.without_local.external.set(external as f64);
    }

    /// Notes that something has to be done.
    pub fn queued(&self) {
        self.last_queued.set(now_seconds());
    }

    /// Notes that an endpoint change of this time is in effect.
    pub fn programmed(&self, since: SystemTime) {
        self.durations
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

/// Makes series of the reference's subsystem with the family as their label.
#[derive(Clone, Copy)]
struct ByFamily<'a>(Registrar<'a>);

impl ByFamily<'_> {
    const LABEL: [&'static str; 1] = ["ip_family"];

    fn name(name: &str) -> String {
        format!("kubeproxy_{name}")
    }

    fn duration(self, name: &str, help: &str) -> HistogramVec {
        let buckets = exponential_buckets(0.001, 2.0, 15).expect("a valid series of buckets");
        self.histogram(name, help, &buckets)
    }

    fn histogram(self, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
        self.0.histograms(&Self::name(name), help, &Self::LABEL, buckets)
    }

    fn count(self, name: &str, help: &str) -> IntGaugeVec {
        self.0.counts(&Self::name(name), help, &Self::LABEL)
    }

    fn gauge(self, name: &str, help: &str) -> GaugeVec {
        self.0.gauges(&Self::name(name), help, &Self::LABEL)
    }

    fn counter(self, name: &str, help: &str) -> IntCounterVec {
        self.0.counters(&Self::name(name), help, &Self::LABEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_programming_has_the_references_buckets() {
        assert_eq!(programming_buckets().len(), 2 + 59 + 12 + 7);
    }
}
