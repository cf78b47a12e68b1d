//! Our Node: its name, how it came up, and the certificates of the agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gantry_chassis::metrics::{Level, Registrar};
use jiff::Timestamp;
use prometheus::{Gauge, IntCounter};

use super::unseen;
use crate::config::Config;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct NodeMetrics {
    before_agent: Gauge,
    before_registration: Gauge,
    registration: Gauge,
    after_registration: Gauge,
    total: Gauge,
    startup: Arc<Mutex<Startup>>,
}

/// What has happened so far; each once.
#[derive(Debug)]
struct Startup {
    begun: Instant,
    /// Seconds since the machine's boot when the agent began.
    uptime: Option<f64>,
    tried: Option<Instant>,
    registered: Option<Instant>,
    ready: bool,
}

impl NodeMetrics {
    pub(super) fn new(series: Registrar<'_>, config: &Config) -> Self {
        series
            .counts(
                "kubelet_node_name",
                "The node's name. The count is always 1.",
                &["node"],
            )
            .with_label_values(&[&config.node_name])
            .set(1);
        let version = if crate::process::is_cgroup_v2() { 2 } else { 1 };
        series
            .count("kubelet_cgroup_version", "cgroup version on the hosts.")
            .set(version);
        series
            .counts(
                "kubelet_metrics_provider",
                "Metrics provider used by kubelet to collect container stats. Values can be 'cadvisor' and 'cri'",
                &["provider"],
            )
            .with_label_values(&["cadvisor"])
            .set(1);
        // Of kubelet's dynamic configuration, which is gone; its dashboard still reads it.
        series
            .level(Level::Own)
            .count(
                "kubelet_node_config_error",
                "Always 0: an agent whose configuration is in error does not start.",
            )
            .set(0);
        Self::startup(series)
    }

    fn startup(series: Registrar<'_>) -> Self {
        let gauge = |part: &str, help: &str| {
            series.gauge(
                &format!("kubelet_node_startup_{part}duration_seconds"),
                &format!("Duration in seconds of node startup {help}."),
            )
        };
        let uptime = std::fs::read_to_string("/proc/uptime").ok();
        let uptime = uptime.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
        Self {
            before_agent: gauge("pre_kubelet_", "before kubelet starts"),
            before_registration: gauge("pre_registration_", "before registration"),
            registration: gauge("registration_", "during registration"),
            after_registration: gauge("post_registration_", "after registration"),
            total: gauge("", "in total"),
            startup: Arc::new(Mutex::new(Startup {
                begun: Instant::now(),
                uptime,
                tried: None,
                registered: None,
                ready: false,
            })),
        }
    }

    /// The agent is about to register the node.
    pub(crate) fn registers(&self) {
        self.with(|startup| {
            startup.tried.get_or_insert_with(Instant::now);
        });
    }

    /// The Node was made: it had not been there before.
    pub(crate) fn registered(&self) {
        self.with(|startup| {
            let (Some(tried), None) = (startup.tried, startup.registered) else {
                return;
            };
            let now = *startup.registered.insert(Instant::now());
            if let Some(uptime) = startup.uptime {
                self.before_agent.set(uptime);
            }
            let before = tried.duration_since(startup.begun);
            self.before_registration.set(before.as_secs_f64());
            self.registration.set(now.duration_since(tried).as_secs_f64());
        });
    }

    /// The Node is Ready.
    pub(crate) fn ready(&self) {
        self.with(|startup| {
            let (Some(registered), false) = (startup.registered, startup.ready) else {
                return;
            };
            startup.ready = true;
            self.after_registration.set(registered.elapsed().as_secs_f64());
            if let Some(uptime) = startup.uptime {
                self.total.set(uptime + startup.begun.elapsed().as_secs_f64());
            }
        });
    }

    fn with(&self, work: impl FnOnce(&mut Startup)) {
        work(&mut self.startup.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Default for NodeMetrics {
    fn default() -> Self {
        unseen(Self::startup)
    }
}

/// The agent's certificates. How long they are valid is read at the scrape (see [`super::state`]).
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    /// The client certificate could not be renewed.
    pub(crate) client_failures: IntCounter,
    /// The serving certificate could not be renewed.
    pub(crate) server_failures: IntCounter,
}

impl Certificates {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        let help = "Counter of certificate renewal errors.";
        Self {
            client_failures: series
                .counter("kubelet_certificate_manager_client_expiration_renew_errors", help),
            server_failures: series.counter("kubelet_server_expiration_renew_errors", help),
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        unseen(Self::new)
    }
}

/// Whole seconds until then; negative when it has passed, infinite without a certificate.
pub(super) fn seconds_left(expires: Option<Timestamp>, now: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds of years")]
    expires.map_or(f64::INFINITY, |at| (at.as_second() - now.as_second()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_measured_once() {
        let node = NodeMetrics::default();
        node.ready();
        node.registered();
        assert_eq!(node.total.get(), 0.0, "nothing before the first try");
        node.registers();
        node.registered();
        node.ready();
        let total = node.total.get();
        assert!(total > 0.0 && node.before_agent.get() > 0.0);
        node.ready();
        assert_eq!(node.total.get(), total);
    }

    #[test]
    fn time_left_may_be_negative_or_endless() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(seconds_left(Some(at(100)), at(40)), 60.0);
        assert_eq!(seconds_left(Some(at(40)), at(100)), -60.0);
        assert_eq!(seconds_left(None, at(0)), f64::INFINITY);
    }
}
