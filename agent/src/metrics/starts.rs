//! How long pods take to start: kubelet's three views of the whole, and ours of its parts.

use std::time::Duration;

use gantry_chassis::metrics::{Level, Registrar};
use prometheus::{Gauge, Histogram, HistogramVec};

use super::{START_SECONDS, unseen};

/// Buckets of the parts, in seconds: most are milliseconds, an image may take minutes.
const PHASE_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct StartMetrics {
    seconds: Histogram,
    sli_seconds: Histogram,
    total_seconds: Histogram,
    first_network: Gauge,
    phases: HistogramVec,
}

/// A part of a pod's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for the node to let one more pod start.
    Queue,
    /// Having the image of a container on the node, by its pull policy.
    Image,
    /// Directories, cgroup and volumes.
    Volumes,
    /// Making the sandbox, without its network.
    Sandbox,
    /// The sandbox's network.
    Network,
    /// Making a container, its configuration included.
    Create,
    /// Starting a container.
    Start,
    /// From the status that shows the pod running to the API server's answer.
    Status,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Queue,
        Self::Image,
        Self::Volumes,
        Self::Sandbox,
        Self::Network,
        Self::Create,
        Self::Start,
        Self::Status,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Image => "image",
            Self::Volumes => "volumes",
            Self::Sandbox => "sandbox",
            Self::Network => "network",
            Self::Create => "create",
            Self::Start => "start",
            Self::Status => "status",
        }
    }
}

impl StartMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        // In kubelet these two are vectors without labels, which look the same.
        let made = Self {
            seconds: series.histogram(
                "kubelet_pod_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
                START_SECONDS,
            ),
            sli_seconds: series.histogram(
                "kubelet_pod_start_sli_duration_seconds",
                "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
                START_SECONDS,
            ),
            total_seconds: series.histogram(
                "kubelet_pod_start_total_duration_seconds",
                "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
                START_SECONDS,
            ),
            first_network: series.level(Level::Internal).gauge(
                "kubelet_first_network_pod_start_sli_duration_seconds",
                "Duration in seconds to start the first network pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
            ),
            phases: series.level(Level::Own).histograms(
                "gantry_pod_start_phase_duration_seconds",
                "Duration in seconds of the parts of a pod's first start: queue, image, volumes, sandbox, network, create, start, status.",
                &["phase"],
                PHASE_SECONDS,
            ),
        };
        for phase in Phase::ALL {
            // Shown from the beginning, so that a rate of the first pod has a zero to start from.
            let _ = made.phases.with_label_values(&[phase.as_str()]);
        }
        made
    }

    /// The pod runs, so long after the agent first saw it.
    pub(crate) fn runs(&self, after: Duration) {
        self.seconds.observe(after.as_secs_f64());
    }

    /// The API server showed that all containers run, so long after the pod's creation; `without`: of that, images and
    /// init containers. Only pods without storage of their own count for the SLI.
    pub(crate) fn seen_running(&self, after: Duration, without: Duration, start: SliStart) {
        self.total_seconds.observe(after.as_secs_f64());
        if start.stateful {
            return;
        }
        let sli = after.saturating_sub(without).as_secs_f64();
        self.sli_seconds.observe(sli);
        // Zero until the first one; a start is never that quick.
        if start.own_network && self.first_network.get() == 0.0 {
            self.first_network.set(sli);
        }
    }

    /// A part of a start is over.
    pub(crate) fn phase(&self, phase: Phase, took: Duration) {
        self.phases
            .with_label_values(&[phase.as_str()])
            .observe(took.as_secs_f64());
    }
}

/// Which pods count where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SliStart {
    /// It mounts other volumes than those of the API and emptyDir.
    pub(crate) stateful: bool,
    /// It has a network of its own.
    pub(crate) own_network: bool,
}

impl Default for StartMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sli_is_without_images_and_without_stateful_pods() {
        let metrics = StartMetrics::default();
        let secs = Duration::from_secs;
        let pod = SliStart {
            stateful: false,
            own_network: true,
        };
        metrics.seen_running(secs(7), secs(4), pod);
        metrics.seen_running(secs(9), secs(0), pod);
        metrics.seen_running(
            secs(20),
            secs(0),
            SliStart {
                stateful: true,
                ..pod
            },
        );
        assert_eq!(metrics.total_seconds.get_sample_count(), 3);
        assert_eq!(metrics.sli_seconds.get_sample_count(), 2);
        assert_eq!(metrics.sli_seconds.get_sample_sum(), 12.0);
        assert_eq!(metrics.first_network.get(), 3.0);
    }
}
