//! Series of network policies. The reference has none: kube-proxy does not enforce them.

use std::time::Duration;

use gantry_chassis::metrics::Registrar;
use gantry_policy_core::{SetName, Table};
use prometheus::{Histogram, IntCounter, IntGauge, Registry, exponential_buckets};

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct PolicyMetrics {
    sync_seconds: Histogram,
    ended: IntCounter,
    restricted: IntGauge,
    chains: IntGauge,
    /// Writes that failed.
    pub(super) failures: IntCounter,
    /// Tables that others changed and that were made again.
    pub(super) repairs: IntCounter,
}

impl PolicyMetrics {
    /// Makes and registers all.
    pub(super) fn new(registry: &Registry) -> Self {
        let series = Registrar::new(registry);
        let buckets = exponential_buckets(0.0005, 2.0, 15).unwrap_or_default();
        Self {
            sync_seconds: series.histogram(
                "gantry_policy_sync_duration_seconds",
                "Time to bring the tables of network policies to the present state, in seconds.",
                &buckets,
            ),
            ended: series.counter(
                "gantry_policy_ended_connections_total",
                "Connections ended because a network policy denies them now.",
            ),
            restricted: series.count(
                "gantry_policy_restricted_addresses",
                "Addresses of this node's pods that some network policy restricts.",
            ),
            chains: series.count(
                "gantry_policy_chains",
                "Distinct lists of what network policies allow to this node's pods.",
            ),
            failures: series.counter(
                "gantry_policy_sync_failures_total",
                "Attempts to bring the tables of network policies to the present state that failed.",
            ),
            repairs: series.counter(
                "gantry_policy_repairs_total",
                "Tables of network policies that were made again because another program changed them.",
            ),
        }
    }

    pub(super) fn ended(&self, count: usize) {
        self.ended.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(super) fn synced(&self, took: Duration, table: &Table) {
        self.sync_seconds.observe(took.as_secs_f64());
        let size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        let own = table
            .sets
            .get(&SetName::Own)
            .map_or(0, std::collections::BTreeSet::len);
        self.restricted.set(size(own));
        self.chains.set(size(table.chains.len()));
    }
}
