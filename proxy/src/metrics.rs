//! Metrics, with the reference's names where it has one.

mod families;

use gantry_chassis::metrics::{Level, Registrar, Version, standard};
use gantry_kubeapi::Requests;
use gantry_proxy_core::Family;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

pub use families::FamilyMetrics;
use families::Series;

/// All of them, in their registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// For the scrape.
    pub registry: Registry,
    families: Series,
    /// Changes of objects.
    pub changes: Changes,
    /// Answers of `/healthz` by code.
    pub healthz: IntCounterVec,
    /// Answers of `/livez` by code.
    pub livez: IntCounterVec,
    /// What `/healthz` of the metrics' port said, for `/metrics/slis`.
    pub slis: Slis,
    /// Requests to the API server.
    pub requests: Requests,
}

/// Health checks as service level indicators.
#[derive(Clone, Debug)]
pub struct Slis {
    /// For the scrape.
    pub registry: Registry,
    health: IntGaugeVec,
    checks: IntCounterVec,
}

/// Changes of objects, and those that are not in the tables yet.
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
        let r = Registrar::new(&registry);
        let codes = |name, help| r.counters(name, help, &["code"]);
        Self {
            families: Series::new(r),
            changes: Changes::new(r),
            healthz: codes(
                "kubeproxy_proxy_healthz_total",
                "Cumulative proxy healthz HTTP status",
            ),
            livez: codes(
                "kubeproxy_proxy_livez_total",
                "Cumulative proxy livez HTTP status",
            ),
            slis: Slis::new(),
            requests: Requests::new(r),
            registry,
        }
    }

    /// The series of a family; from here on they are shown.
    #[must_use]
    pub fn of(&self, family: Family) -> FamilyMetrics {
        self.families.of(family)
    }
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

impl Changes {
    fn new(r: Registrar<'_>) -> Self {
        let name = |what: &str| format!("kubeproxy_sync_proxy_rules_{what}");
        let counter = |what: &str, help| r.counter(&name(what), help);
        let pending = |what: &str, help| r.count(&name(what), help);
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

#[cfg(test)]
mod tests {
    use gantry_proxy_core::Ruleset;

    use super::*;
    use crate::programmer::Done;

    #[test]
    fn the_references_names_are_there() {
        let metrics = Metrics::new();
        for family in Family::ALL {
            let of_family = metrics.of(family);
            of_family.synced(&Done {
                elements: 7,
                full: true,
                ..Done::default()
            });
            of_family.counted(&Ruleset::default());
        }
        let found = metrics.registry.gather();
        for name in [
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "kubeproxy_network_programming_duration_seconds",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
            "kubeproxy_gantry_table_elements",
            "kubeproxy_gantry_table_transaction_duration_seconds",
        ] {
            let series = found.iter().find(|f| f.name() == name).expect(name);
            for family in Family::ALL {
                let is_of_family = |m: &prometheus::proto::Metric| {
                    m.get_label()
                        .iter()
                        .any(|l| l.name() == "ip_family" && l.value() == family.name())
                };
                assert!(series.get_metric().iter().any(is_of_family), "{name} of {family}");
            }
        }
        for name in [
            "kubeproxy_sync_proxy_rules_endpoint_changes_total",
            "kubeproxy_sync_proxy_rules_service_changes_pending",
            "kubernetes_build_info",
            "process_resident_memory_bytes",
        ] {
            assert!(found.iter().any(|f| f.name() == name), "{name} is missing");
        }
    }
}
