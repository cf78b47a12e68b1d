//! Images: what was asked for and how long pulls took.

use std::time::Duration;

use gantry_chassis::metrics::Registrar;
use prometheus::{HistogramVec, IntCounterVec};

use super::unseen;

const SECONDS: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The sizes that pulls are told apart by: from more than so many bytes.
const SIZES: [(u64, &str); 12] = [
    (100 * GIB, "GT100GB"),
    (60 * GIB, "60GB-100GB"),
    (40 * GIB, "40GB-60GB"),
    (30 * GIB, "30GB-40GB"),
    (20 * GIB, "20GB-30GB"),
    (10 * GIB, "10GB-20GB"),
    (5 * GIB, "5GB-10GB"),
    (GIB, "1GB-5GB"),
    (500 * MIB, "500MB-1GB"),
    (100 * MIB, "100MB-500MB"),
    (10 * MIB, "10MB-100MB"),
    (0, "0-10MB"),
];

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct ImageMetrics {
    pull_seconds: HistogramVec,
    requests: IntCounterVec,
}

/// What came of the wish for an image. `None`: nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnsureImage {
    /// The pull policy in lower case.
    pub(crate) policy: &'static str,
    /// It was there already.
    pub(crate) present: Option<bool>,
    /// It had to be pulled.
    pub(crate) pulled: Option<bool>,
}

impl ImageMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        Self {
            pull_seconds: series.histograms(
                "kubelet_image_pull_duration_seconds",
                "Duration in seconds to pull an image.",
                &["image_size_in_bytes"],
                SECONDS,
            ),
            requests: series.counters(
                "kubelet_image_manager_ensure_image_requests_total",
                "Number of ensure-image requests processed by the kubelet.",
                &["pull_policy", "present_locally", "pull_required"],
            ),
        }
    }

    /// An image of this size was pulled, waiting for its turn included.
    pub(crate) fn pulled(&self, size_bytes: u64, took: Duration) {
        self.pull_seconds
            .with_label_values(&[size_label(size_bytes)])
            .observe(took.as_secs_f64());
    }

    /// Somebody wanted an image.
    pub(crate) fn ensured(&self, wish: EnsureImage) {
        let text = |known: Option<bool>| match known {
            None => "unknown",
            Some(true) => "true",
            Some(false) => "false",
        };
        self.requests
            .with_label_values(&[wish.policy, text(wish.present), text(wish.pulled)])
            .inc();
    }
}

impl Default for ImageMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}

fn size_label(bytes: u64) -> &'static str {
    let found = SIZES.iter().find(|(above, _)| bytes > *above);
    found.map_or("N/A", |(_, label)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_labels() {
        for (bytes, label) in [
            (0, "N/A"),
            (1, "0-10MB"),
            (10 * MIB, "0-10MB"),
            (10 * MIB + 1, "10MB-100MB"),
            (3 * GIB, "1GB-5GB"),
            (u64::MAX, "GT100GB"),
        ] {
            assert_eq!(size_label(bytes), label, "{bytes}");
        }
    }
}
