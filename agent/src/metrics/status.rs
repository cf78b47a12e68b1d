//! Status of pods: how long the API server takes to have it.

use std::time::Duration;

use gantry_chassis::metrics::Registrar;
use prometheus::Histogram;

use super::unseen;

const SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct StatusMetrics {
    seconds: Histogram,
}

impl StatusMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        Self {
            seconds: series.histogram(
                "kubelet_pod_status_sync_duration_seconds",
                "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is successfully updated for that pod, even if multiple intevening changes to pod status occur.",
                SECONDS,
            ),
        }
    }

    /// The API server has the newest status, so long after the first change that it did not have.
    pub(crate) fn synced(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Default for StatusMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}
