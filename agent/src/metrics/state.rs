//! Gauges that are read from the agent's state when they are scraped.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{Metrics, node::seconds_left};
use crate::{bootstrap, runtime::PodCache, stats::Stats, volumes::Volumes};

/// What the runtime holds, as far as the agent knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// Pods with a sandbox that is ready.
    pub(crate) pods: u32,
    /// Containers made and not started.
    pub(crate) created: u32,
    /// Containers that run.
    pub(crate) running: u32,
    /// Containers that have ended and are still there.
    pub(crate) exited: u32,
    /// Containers of which the runtime does not know what they do.
    pub(crate) unknown: u32,
}

impl Metrics {
    /// `kubelet_running_*`: what runs.
    pub(crate) fn read_runtime(&self, cache: PodCache) {
        let containers = cache.clone();
        self.series().reading(
            "kubelet_running_pods",
            "Number of pods that have a running pod sandbox",
            &[],
            move || vec![(vec![], cache.running().pods.into())],
        );
        self.series().reading(
            "kubelet_running_containers",
            "Number of containers currently running",
            &["container_state"],
            move || {
                let running = containers.running();
                let states = [
                    ("created", running.created),
                    ("exited", running.exited),
                    ("running", running.running),
                    ("unknown", running.unknown),
                ];
                let present = states.into_iter().filter(|(_, count)| *count > 0);
                present
                    .map(|(state, count)| (vec![state.to_owned()], count.into()))
                    .collect()
            },
        );
    }

    /// `volume_manager_total_volumes`: what is wanted and what is there.
    pub(crate) fn read_volumes(&self, volumes: Volumes) {
        self.series().reading(
            "volume_manager_total_volumes",
            "Number of volumes in Volume Manager",
            &["plugin_name", "state"],
            move || {
                let label = |(plugin, wanted, there): (&str, u32, u32)| {
                    [
                        ("actual_state_of_world", there),
                        ("desired_state_of_world", wanted),
                    ]
                    .map(|(state, count)| (vec![plugin.to_owned(), state.to_owned()], count.into()))
                };
                volumes.counts().into_iter().flat_map(label).collect()
            },
        );
    }

    /// `kubelet_container_log_filesystem_used_bytes`: what the logs of containers that run take.
    pub(crate) fn read_logs(&self, stats: Stats) {
        self.series().reading(
            "kubelet_container_log_filesystem_used_bytes",
            "Bytes used by the container's logs on the filesystem.",
            &["container", "namespace", "pod", "uid"],
            #[expect(clippy::cast_precision_loss, reason = "far less than 2^53 bytes")]
            move || {
                let logs = stats.log_bytes().into_iter();
                logs.map(|(labels, bytes)| (labels.to_vec(), bytes as f64))
                    .collect()
            },
        );
    }

    /// `kubelet_certificate_manager_client_ttl_seconds`: how long the certificate in this file is valid.
    pub(crate) fn read_client_certificate(&self, file: PathBuf) {
        self.series().reading(
            "kubelet_certificate_manager_client_ttl_seconds",
            "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired). If client certificate is invalid or unused, the value will be +INF.",
            &[],
            move || {
                let expires = fs::read(&file).ok().and_then(|pem| bootstrap::not_after(&pem));
                vec![(vec![], seconds_left(expires, Timestamp::now()))]
            },
        );
    }

    /// `kubelet_certificate_manager_server_ttl_seconds`: until when the certificate that is presented is valid.
    pub(crate) fn read_server_certificate(
        &self,
        expires: impl Fn() -> Option<Timestamp> + Send + Sync + 'static,
    ) {
        self.series().reading(
            "kubelet_certificate_manager_server_ttl_seconds",
            "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.",
            &[],
            move || vec![(vec![], seconds_left(expires(), Timestamp::now()))],
        );
    }
}
