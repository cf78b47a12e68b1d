//! Volumes: how long operations on them took. How many there are is read at the scrape (see [`super::state`]).

use std::time::Duration;

use gantry_chassis::metrics::Registrar;
use prometheus::{Gauge, HistogramVec, IntCounterVec};

use super::unseen;

const SECONDS: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0,
];

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct VolumeMetrics {
    seconds: HistogramVec,
    whole_seconds: HistogramVec,
    errors: IntCounterVec,
    cleaned: Gauge,
    not_cleaned: Gauge,
}

impl VolumeMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        Self {
            seconds: series.histograms(
                "storage_operation_duration_seconds",
                "Storage operation duration",
                &["volume_plugin", "operation_name", "status", "migrated"],
                SECONDS,
            ),
            whole_seconds: series.histograms(
                "volume_operation_total_seconds",
                "Storage operation end to end duration in seconds",
                &["plugin_name", "operation_name"],
                SECONDS,
            ),
            // kubelet has dropped this one for the label `status` above; its dashboard still reads it.
            errors: series.counters(
                "storage_operation_errors_total",
                "Storage operation errors",
                &["volume_plugin", "operation_name"],
            ),
            cleaned: series.gauge(
                "kubelet_orphan_pod_cleaned_volumes",
                "The total number of orphaned Pods whose volumes were cleaned in the last periodic sweep.",
            ),
            not_cleaned: series.gauge(
                "kubelet_orphan_pod_cleaned_volumes_errors",
                "The number of orphaned Pods whose volumes failed to be cleaned in the last periodic sweep.",
            ),
        }
    }

    /// `volume_mount` or `volume_unmount` of one volume has ended.
    pub(crate) fn operated(&self, plugin: &str, operation: &str, took: Duration, ok: bool) {
        let status = if ok { "success" } else { "fail-unknown" };
        self.seconds
            .with_label_values(&[plugin, operation, status, "false"])
            .observe(took.as_secs_f64());
        if ok && operation == "volume_mount" {
            self.whole_seconds
                .with_label_values(&[plugin, "overall_volume_mount"])
                .observe(took.as_secs_f64());
        }
        if !ok {
            self.errors.with_label_values(&[plugin, operation]).inc();
        }
    }

    /// What pods that are gone had left on the disk was removed, for so many pods, and for so many not.
    pub(crate) fn swept(&self, cleaned: u32, failed: u32) {
        self.cleaned.set(cleaned.into());
        self.not_cleaned.set(failed.into());
    }
}

impl Default for VolumeMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}
