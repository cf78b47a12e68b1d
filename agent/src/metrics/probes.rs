//! Probes of containers (`/metrics/probes`). A series lives as long as the probe: it is gone with the container.

use std::time::Duration;

use gantry_agent_core::probe::{Outcome, ProbeKind};
use gantry_chassis::metrics::{DEFAULT_BUCKETS, Level, Registrar};
use k8s_openapi::api::core::v1::Pod;
use prometheus::{HistogramVec, IntCounterVec};

use super::unseen;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct ProbeMetrics {
    total: IntCounterVec,
    seconds: HistogramVec,
}

/// The series of one probe; dropping it removes them.
#[derive(Debug)]
pub(crate) struct ProbeSeries {
    metrics: ProbeMetrics,
    kind: &'static str,
    container: String,
    pod: String,
    namespace: String,
    uid: String,
}

const RESULTS: [&str; 3] = ["successful", "failed", "unknown"];

impl ProbeMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        Self {
            total: series.level(Level::Beta).counters(
                "prober_probe_total",
                "Cumulative number of a liveness, readiness or startup probe for a container by result.",
                &["probe_type", "result", "container", "pod", "namespace", "pod_uid"],
            ),
            seconds: series.histograms(
                "prober_probe_duration_seconds",
                "Duration in seconds for a probe response.",
                &["probe_type", "container", "pod", "namespace"],
                DEFAULT_BUCKETS,
            ),
        }
    }

    /// The series of a probe that begins.
    pub(crate) fn of(&self, pod: &Pod, container: &str, kind: ProbeKind) -> ProbeSeries {
        let kind = match kind {
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Startup => "Startup",
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        ProbeSeries {
            metrics: self.clone(),
            kind,
            container: container.to_owned(),
            pod: text(&pod.metadata.name),
            namespace: text(&pod.metadata.namespace),
            uid: text(&pod.metadata.uid),
        }
    }
}

impl ProbeSeries {
    /// A run has ended; `None`: nothing was found out. Failures have no duration, as in kubelet: it would mostly be
    /// the probe's timeout.
    pub(crate) fn ran(&self, outcome: Option<Outcome>, took: Duration) {
        let result = match outcome {
            Some(Outcome::Success) => "successful",
            Some(Outcome::Failure) => "failed",
            None => "unknown",
        };
        self.metrics.total.with_label_values(&self.labels(result)).inc();
        if outcome != Some(Outcome::Failure) {
            self.metrics
                .seconds
                .with_label_values(&self.duration_labels())
                .observe(took.as_secs_f64());
        }
    }

    fn labels<'a>(&'a self, result: &'a str) -> [&'a str; 6] {
        let Self {
            kind,
            container,
            pod,
            namespace,
            uid,
            ..
        } = self;
        [kind, result, container, pod, namespace, uid]
    }

    fn duration_labels(&self) -> [&str; 4] {
        [self.kind, &self.container, &self.pod, &self.namespace]
    }
}

impl Drop for ProbeSeries {
    fn drop(&mut self) {
        // An error means that there was no such run.
        for result in RESULTS {
            let _ = self.metrics.total.remove_label_values(&self.labels(result));
        }
        let _ = self.metrics.seconds.remove_label_values(&self.duration_labels());
    }
}

impl Default for ProbeMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn series_come_with_runs_and_go_with_the_probe() {
        let registry = Registry::new();
        let metrics = ProbeMetrics::new(Registrar::new(&registry));
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".to_owned());
        let probe = metrics.of(&pod, "c", ProbeKind::Liveness);
        let other = metrics.of(&pod, "d", ProbeKind::Liveness);
        probe.ran(Some(Outcome::Success), Duration::from_millis(3));
        probe.ran(Some(Outcome::Failure), Duration::from_secs(1));
        other.ran(None, Duration::from_millis(1));
        let text = || String::from_utf8(gantry_chassis::metrics::encode(&registry).unwrap()).unwrap();
        let before = text();
        let line = "container=\"c\",namespace=\"\",pod=\"p\",pod_uid=\"\",probe_type=\"Liveness\",result=\"failed\"} 1";
        assert!(before.contains(line), "{before}");
        assert!(before.contains("prober_probe_duration_seconds_count{container=\"c\",namespace=\"\",pod=\"p\",probe_type=\"Liveness\"} 1"));
        drop(probe);
        let after = text();
        assert!(
            !after.contains("container=\"c\"") && after.contains("container=\"d\""),
            "{after}"
        );
        drop(other);
        assert_eq!(text(), "");
    }
}
