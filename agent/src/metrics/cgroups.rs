//! Cgroups of pods: how long it takes to make, change and remove them.

use std::time::Duration;

use gantry_chassis::metrics::{DEFAULT_BUCKETS, Registrar};
use prometheus::HistogramVec;

use super::unseen;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct CgroupMetrics {
    seconds: HistogramVec,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupOperation {
    Create,
    Update,
    Destroy,
}

impl CgroupMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        Self {
            seconds: series.histograms(
                "kubelet_cgroup_manager_duration_seconds",
                "Duration in seconds for cgroup manager operations. Broken down by method.",
                &["operation_type"],
                DEFAULT_BUCKETS,
            ),
        }
    }

    /// It has ended, well or not.
    pub(crate) fn operated(&self, operation: CgroupOperation, took: Duration) {
        let label = match operation {
            CgroupOperation::Create => "create",
            CgroupOperation::Update => "update",
            CgroupOperation::Destroy => "destroy",
        };
        self.seconds
            .with_label_values(&[label])
            .observe(took.as_secs_f64());
    }
}

impl Default for CgroupMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}
