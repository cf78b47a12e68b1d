//! Requests to the agent's own server, and its health checks (`/metrics/slis`).

use std::time::Instant;

use gantry_chassis::metrics::{DEFAULT_BUCKETS, Level, Registrar};
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::unseen;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    inflight: IntGaugeVec,
    web_sockets: IntCounterVec,
    health: IntGaugeVec,
    health_checks: IntCounterVec,
}

/// Which port was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// The authenticated one.
    Secure,
    /// `readOnlyPort`.
    ReadOnly,
}

/// A request being answered; over when dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    metrics: HttpMetrics,
    labels: [&'static str; 4],
    begun: Instant,
}

const LABELS: &[&str] = &["method", "path", "server_type", "long_running"];
const METHODS: &[&str] = &[
    "OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT",
];

/// First elements of paths that count by name; two elements for `/metrics/...`.
const PATHS: &[&str] = &[
    "attach",
    "checkpoint",
    "configz",
    "containerLogs",
    "debug",
    "exec",
    "flagz",
    "healthz",
    "logs",
    "metrics",
    "metrics/cadvisor",
    "metrics/probes",
    "metrics/resource",
    "pods",
    "portForward",
    "run",
    "runningpods",
    "stats",
    "statusz",
];

impl HttpMetrics {
    pub(super) fn new(series: Registrar<'_>, slis: Registrar<'_>) -> Self {
        let slis = slis.level(Level::Stable);
        Self {
            requests: series.counters(
                "kubelet_http_requests_total",
                "Number of the http requests received since the server started",
                LABELS,
            ),
            seconds: series.histograms(
                "kubelet_http_requests_duration_seconds",
                "Duration in seconds to serve http requests",
                LABELS,
                DEFAULT_BUCKETS,
            ),
            inflight: series.counts(
                "kubelet_http_inflight_requests",
                "Number of the inflight http requests",
                LABELS,
            ),
            web_sockets: series.counters(
                "kubelet_websocket_streaming_requests_total",
                "Total number of WebSocket streaming requests (exec/attach/portforward) received by the kubelet.",
                &["subresource"],
            ),
            health: slis.counts(
                "kubernetes_healthcheck",
                "This metric records the result of a single healthcheck.",
                &["name", "type"],
            ),
            health_checks: slis.counters(
                "kubernetes_healthchecks_total",
                "This metric records the results of all healthcheck.",
                &["name", "type", "status"],
            ),
        }
    }

    /// A request has come.
    #[must_use]
    pub(crate) fn begins(&self, method: &str, path: &str, port: Port) -> Counted {
        let method = METHODS.iter().find(|m| **m == method).unwrap_or(&"other");
        let path = bucket(path);
        let server = match port {
            Port::Secure => "readwrite",
            Port::ReadOnly => "readonly",
        };
        let long = if matches!(path, "exec" | "attach" | "debug") {
            "true"
        } else {
            "false"
        };
        let labels = [*method, path, server, long];
        self.requests.with_label_values(&labels).inc();
        self.inflight.with_label_values(&labels).inc();
        Counted {
            metrics: self.clone(),
            labels,
            begun: Instant::now(),
        }
    }

    /// A session whose protocol over WebSocket ends here: `exec`, `attach` or `portforward`.
    pub(crate) fn web_socket(&self, subresource: &str) {
        self.web_sockets.with_label_values(&[subresource]).inc();
    }

    /// One of the checks of `/healthz` was made.
    pub(crate) fn checked(&self, name: &str, healthy: bool) {
        self.health
            .with_label_values(&[name, "healthz"])
            .set(healthy.into());
        let status = if healthy { "success" } else { "error" };
        self.health_checks
            .with_label_values(&[name, "healthz", status])
            .inc();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.inflight.with_label_values(&self.labels).dec();
        self.metrics
            .seconds
            .with_label_values(&self.labels)
            .observe(self.begun.elapsed().as_secs_f64());
    }
}

fn bucket(path: &str) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut parts = path.splitn(3, '/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    let root = match second {
        Some(second) if first == "metrics" => &path[..first.len() + 1 + second.len()],
        _ => first,
    };
    PATHS.iter().find(|known| **known == root).unwrap_or(&"other")
}

impl Default for HttpMetrics {
    fn default() -> Self {
        unseen(|series| Self::new(series, series))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_few() {
        for (path, label) in [
            ("/metrics", "metrics"),
            ("/metrics/cadvisor", "metrics/cadvisor"),
            ("/metrics/slis", "other"),
            ("/containerLogs/ns/pod/c", "containerLogs"),
            ("/stats/summary", "stats"),
            ("/", "other"),
            ("", "other"),
            ("/../etc", "other"),
        ] {
            assert_eq!(bucket(path), label, "{path}");
        }
    }

    #[test]
    fn a_request_is_in_flight_until_it_is_dropped() {
        let metrics = HttpMetrics::default();
        let request = metrics.begins("PATCH", "/exec/ns/pod/c", Port::Secure);
        let labels = ["other", "exec", "readwrite", "true"];
        assert_eq!(metrics.inflight.with_label_values(&labels).get(), 1);
        drop(request);
        assert_eq!(metrics.inflight.with_label_values(&labels).get(), 0);
        assert_eq!(metrics.seconds.with_label_values(&labels).get_sample_count(), 1);
    }
}
