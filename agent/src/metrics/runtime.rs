//! Calls of the container runtime, and how the picture of what it runs is kept current.
//!
//! kubelet polls the runtime once a second (PLEG); dashboards and alerts read how long that takes. Here it is the slow
//! full list, which repairs what the runtime's events miss: it counts under the same names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_chassis::metrics::{DEFAULT_BUCKETS, Registrar};
use jiff::Timestamp;
use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, exponential_buckets};

use super::unseen;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeMetrics {
    operations: IntCounterVec,
    errors: IntCounterVec,
    seconds: HistogramVec,
    sandbox_seconds: HistogramVec,
    sandbox_errors: IntCounterVec,
    picture: Picture,
}

/// How the picture of what runs is kept current.
#[derive(Debug, Clone)]
struct Picture {
    relist_seconds: Histogram,
    relist_interval: Histogram,
    pod_relist_seconds: Histogram,
    last_seen: Gauge,
    stream_opened: IntCounter,
    stream_failed: IntCounter,
    event_latency: Histogram,
}

impl Picture {
    fn new(series: Registrar<'_>) -> Self {
        // Events are merged as they come and never dropped.
        let _ = series.counter(
            "kubelet_pleg_discard_events",
            "The number of discard events in PLEG.",
        );
        Self {
            relist_seconds: series.histogram(
                "kubelet_pleg_relist_duration_seconds",
                "Duration in seconds for relisting pods in PLEG.",
                DEFAULT_BUCKETS,
            ),
            relist_interval: series.histogram(
                "kubelet_pleg_relist_interval_seconds",
                "Interval in seconds between relisting in PLEG.",
                DEFAULT_BUCKETS,
            ),
            pod_relist_seconds: series.histogram(
                "kubelet_pleg_pod_relist_duration_seconds",
                "Duration in seconds for relisting a single pod in PLEG.",
                DEFAULT_BUCKETS,
            ),
            last_seen: series.gauge(
                "kubelet_pleg_last_seen_seconds",
                "Timestamp in seconds when PLEG was last seen active.",
            ),
            stream_opened: series.counter(
                "kubelet_evented_pleg_connection_success_count",
                "The number of times a streaming client was obtained to receive CRI Events.",
            ),
            stream_failed: series.counter(
                "kubelet_evented_pleg_connection_error_count",
                "The number of errors encountered during the establishment of streaming connection with the CRI runtime.",
            ),
            event_latency: series.histogram(
                "kubelet_evented_pleg_connection_latency_seconds",
                "The latency of streaming connection with the CRI runtime, measured in seconds.",
                DEFAULT_BUCKETS,
            ),
        }
    }

    fn seen(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_seen.set(now.as_secs_f64().trunc());
    }
}

impl RuntimeMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        let by_type = ["operation_type"];
        let by_handler = ["runtime_handler"];
        let buckets = exponential_buckets(0.005, 2.5, 14).expect("a valid series of buckets");
        Self {
            operations: series.counters(
                "kubelet_runtime_operations_total",
                "Cumulative number of runtime operations by operation type.",
                &by_type,
            ),
            errors: series.counters(
                "kubelet_runtime_operations_errors_total",
                "Cumulative number of runtime operation errors by operation type.",
                &by_type,
            ),
            seconds: series.histograms(
                "kubelet_runtime_operations_duration_seconds",
                "Duration in seconds of runtime operations. Broken down by operation type.",
                &by_type,
                &buckets,
            ),
            sandbox_seconds: series.histograms(
                "kubelet_run_podsandbox_duration_seconds",
                "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
                &by_handler,
                DEFAULT_BUCKETS,
            ),
            sandbox_errors: series.counters(
                "kubelet_run_podsandbox_errors_total",
                "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
                &by_handler,
            ),
            picture: Picture::new(series),
        }
    }

    /// A call of this CRI method has ended.
    pub(crate) fn called(&self, method: &str, took: Duration, failed: bool) {
        let kind = [operation_type(method)];
        self.operations.with_label_values(&kind).inc();
        self.seconds.with_label_values(&kind).observe(took.as_secs_f64());
        if failed {
            self.errors.with_label_values(&kind).inc();
        }
    }

    /// A call that was answered counts as failed all the same: a command that said no, as kubelet counts it.
    pub(crate) fn said_no(&self, method: &str) {
        self.errors.with_label_values(&[operation_type(method)]).inc();
    }

    /// A sandbox was made, or not.
    pub(crate) fn sandbox_run(&self, handler: &str, took: Duration, failed: bool) {
        self.sandbox_seconds
            .with_label_values(&[handler])
            .observe(took.as_secs_f64());
        if failed {
            self.sandbox_errors.with_label_values(&[handler]).inc();
        }
    }

    /// A list of everything was tried.
    pub(crate) fn relist_tried(&self, took: Duration) {
        self.picture.relist_seconds.observe(took.as_secs_f64());
    }

    /// Everything was listed; `pause` passed since the list before.
    pub(crate) fn relisted(&self, pause: Option<Duration>) {
        if let Some(pause) = pause {
            self.picture.relist_interval.observe(pause.as_secs_f64());
        }
        self.picture.seen();
    }

    /// One pod was listed.
    pub(crate) fn pod_relisted(&self, took: Duration) {
        self.picture.pod_relist_seconds.observe(took.as_secs_f64());
    }

    /// The stream of events is open.
    pub(crate) fn stream_opened(&self) {
        self.picture.stream_opened.inc();
        self.picture.seen();
    }

    /// The stream of events could not be opened.
    pub(crate) fn stream_failed(&self) {
        self.picture.stream_failed.inc();
    }

    /// An event came that the runtime made at this time, in nanoseconds since 1970.
    pub(crate) fn event(&self, made: i64) {
        let late = Timestamp::now().as_nanosecond() - i128::from(made);
        let late = Duration::from_nanos(u64::try_from(late).unwrap_or(0));
        self.picture.event_latency.observe(late.as_secs_f64());
        self.picture.seen();
    }
}

impl Default for RuntimeMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}

/// kubelet's name of a CRI method: snake case, with `PodSandbox` as one word.
fn operation_type(method: &str) -> String {
    if method == "UpdateContainerResources" {
        return "update_container".to_owned();
    }
    let mut name = String::with_capacity(method.len() + 4);
    for c in method.replace("PodSandbox", "Podsandbox").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_kubelets_names() {
        for (method, name) in [
            ("RunPodSandbox", "run_podsandbox"),
            ("ListPodSandbox", "list_podsandbox"),
            ("PodSandboxStatus", "podsandbox_status"),
            ("UpdateContainerResources", "update_container"),
            ("ReopenContainerLog", "reopen_container_log"),
            ("ImageFsInfo", "image_fs_info"),
            ("RuntimeConfig", "runtime_config"),
            ("ExecSync", "exec_sync"),
            ("Version", "version"),
        ] {
            assert_eq!(operation_type(method), name);
        }
    }
}
