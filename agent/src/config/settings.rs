//! The effective KubeletConfiguration, typed: what the rest of the agent reads.
//!
//! Built from a document ([`super::document`]) whose values were checked against the field table and completed with
//! defaults, so nothing here is optional that has a default. Fields that the agent does not act on yet live only in
//! the document.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{
    duration::{de_duration, de_duration_opt},
    gates,
};

/// Fields of `kubelet.config.k8s.io/v1beta1` KubeletConfiguration; the names and meanings are the API's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Directory (or file) of static pod manifests; empty: none.
    pub(crate) static_pod_path: String,
    /// Root of the pods' log directories.
    pub(crate) pod_logs_dir: PathBuf,
    /// Time between two full passes over an unchanged pod.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) sync_frequency: Duration,
    /// Time between two scans of `static_pod_path`.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) file_check_frequency: Duration,
    /// Serve the HTTPS API at all.
    pub(crate) enable_server: bool,
    /// Where the HTTPS API listens.
    pub(crate) address: IpAddr,
    /// Port of the HTTPS API.
    pub(crate) port: u16,
    /// Port of the open API without rights; 0: none.
    pub(crate) read_only_port: u16,
    /// Serving certificate; empty: self-signed in the certificate directory.
    pub(crate) tls_cert_file: String,
    /// Key of the serving certificate.
    pub(crate) tls_private_key_file: String,
    /// Names of the cipher suites of TLS 1.2; empty: the usual ones.
    pub(crate) tls_cipher_suites: Vec<String>,
    /// Numbers of the curves for key exchange; empty: the usual ones.
    pub(crate) tls_curve_preferences: Vec<u16>,
    /// `VersionTLS12`, `VersionTLS13`, ...; empty: 1.2.
    pub(crate) tls_min_version: String,
    /// Serve more than metrics, pods and health: logs, exec, ...
    pub(crate) enable_debugging_handlers: bool,
    /// Serve `/logs/`.
    pub(crate) enable_system_log_handler: bool,
    /// Serve the logs of services by `/logs/?query=`.
    pub(crate) enable_system_log_query: bool,
    /// Serve `/debug/pprof/`.
    pub(crate) enable_profiling_handler: bool,
    /// Serve `/debug/flags/v`.
    pub(crate) enable_debug_flags_handler: bool,
    /// Renew the client certificate before it expires.
    pub(crate) rotate_certificates: bool,
    /// Ask the API server for a serving certificate.
    #[serde(rename = "serverTLSBootstrap")]
    pub(crate) server_tls_bootstrap: bool,
    /// Who may call the HTTPS API.
    pub(crate) authentication: Authentication,
    /// What callers may do.
    pub(crate) authorization: Authorization,
    /// Time between two measurements of a pod's volumes; zero: never.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) volume_stats_agg_period: Duration,
    /// Image pulls per second; 0: no limit.
    #[serde(rename = "registryPullQPS")]
    pub(crate) registry_pull_qps: u32,
    /// Burst of image pulls.
    pub(crate) registry_burst: u32,
    /// Events per second sent to the API server; 0: no limit.
    #[serde(rename = "eventRecordQPS")]
    pub(crate) event_record_qps: u32,
    /// Burst of events.
    pub(crate) event_burst: u32,
    /// Port of the health endpoint; 0: none.
    pub(crate) healthz_port: u16,
    /// Address of the health endpoint.
    pub(crate) healthz_bind_address: IpAddr,
    /// The agent's own OOM score adjustment.
    pub(crate) oom_score_adj: i32,
    /// DNS domain of the cluster; empty: none.
    pub(crate) cluster_domain: String,
    /// Name servers for pods with DNS policy ClusterFirst.
    #[serde(rename = "clusterDNS", deserialize_with = "de_ips")]
    pub(crate) cluster_dns: Vec<IpAddr>,
    /// Idle time after which exec, attach and port-forward streams are closed; zero: never.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) streaming_connection_idle_timeout: Duration,
    /// Time between two computations of the node's status.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) node_status_update_frequency: Duration,
    /// Time after which an unchanged node status is sent anyway.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) node_status_report_frequency: Duration,
    /// Life of the node lease, seconds.
    pub(crate) node_lease_duration_seconds: u32,
    /// Age below which unused images are kept.
    #[serde(rename = "imageMinimumGCAge", deserialize_with = "de_duration")]
    pub(crate) image_minimum_gc_age: Duration,
    /// Age above which unused images go; zero: never.
    #[serde(rename = "imageMaximumGCAge", deserialize_with = "de_duration")]
    pub(crate) image_maximum_gc_age: Duration,
    /// Disk use, percent, above which images are collected; 100: never.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(crate) image_gc_high_threshold_percent: u8,
    /// Disk use, percent, down to which images are collected.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(crate) image_gc_low_threshold_percent: u8,
    /// Parent of all pod cgroups; empty: the root.
    pub(crate) cgroup_root: String,
    /// Make QoS and pod cgroups.
    #[serde(rename = "cgroupsPerQOS")]
    pub(crate) cgroups_per_qos: bool,
    /// `cgroupfs` or `systemd`; what the runtime says wins.
    pub(crate) cgroup_driver: String,
    /// Refuse to start on cgroup v1.
    pub(crate) fail_cgroup_v1: bool,
    /// cgroup v2: kill only the process that ran out of memory, not its whole container.
    #[serde(rename = "singleProcessOOMKill", default)]
    pub(crate) single_process_oom_kill: Option<bool>,
    /// Deadline of CRI calls other than pulls and streams.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) runtime_request_timeout: Duration,
    /// Pods that fit on the node.
    pub(crate) max_pods: u32,
    /// Pods per CPU core; 0: no limit.
    pub(crate) pods_per_core: u32,
    /// Processes per pod; -1: the node's allocatable.
    pub(crate) pod_pids_limit: i64,
    /// Pod range in standalone mode.
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: String,
    /// resolv.conf for pods with DNS policy Default; empty: none.
    pub(crate) resolv_conf: String,
    /// Enforce CPU limits.
    #[serde(rename = "cpuCFSQuota")]
    pub(crate) cpu_cfs_quota: bool,
    /// Period of CPU limits.
    #[serde(rename = "cpuCFSQuotaPeriod", deserialize_with = "de_duration")]
    pub(crate) cpu_cfs_quota_period: Duration,
    /// Files that the agent may have open.
    pub(crate) max_open_files: u64,
    /// Images listed in the node's status; -1: all.
    pub(crate) node_status_max_images: i32,
    /// Requests per second to the API server; 0: no limit.
    #[serde(rename = "kubeAPIQPS")]
    pub(crate) kube_api_qps: u32,
    /// Burst of requests to the API server.
    #[serde(rename = "kubeAPIBurst")]
    pub(crate) kube_api_burst: u32,
    /// One image pull at a time.
    pub(crate) serialize_image_pulls: bool,
    /// Image pulls at the same time when not serialised; `None`: no limit.
    #[serde(default)]
    pub(crate) max_parallel_image_pulls: Option<u32>,
    /// Hard eviction thresholds, signal to quantity or percent.
    pub(crate) eviction_hard: BTreeMap<String, String>,
    /// How long a pressure condition lasts at least.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) eviction_pressure_transition_period: Duration,
    /// The attach-detach controller attaches volumes.
    pub(crate) enable_controller_attach_detach: bool,
    /// Feature gates set by the user.
    pub(crate) feature_gates: BTreeMap<String, bool>,
    /// Refuse to start when swap is on.
    pub(crate) fail_swap_on: bool,
    /// Size at which a container log is rotated, a quantity.
    pub(crate) container_log_max_size: String,
    /// Log files kept for a container.
    pub(crate) container_log_max_files: usize,
    /// Logs rotated at the same time.
    pub(crate) container_log_max_workers: usize,
    /// How often the sizes of logs are looked at.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) container_log_monitor_interval: Duration,
    /// Resources kept from pods for the system.
    pub(crate) system_reserved: BTreeMap<String, String>,
    /// Resources kept from pods for Kubernetes' daemons.
    pub(crate) kube_reserved: BTreeMap<String, String>,
    /// What the reservations are enforced on.
    pub(crate) enforce_node_allocatable: Vec<String>,
    /// CPUs kept from pods.
    #[serde(rename = "reservedSystemCPUs")]
    pub(crate) reserved_system_cpus: String,
    /// Unsafe sysctls that pods may set; a trailing `*` matches a prefix.
    pub(crate) allowed_unsafe_sysctls: Vec<String>,
    /// `spec.providerID` of the node.
    #[serde(rename = "providerID")]
    pub(crate) provider_id: String,
    /// Time for pods to end when the machine shuts down.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) shutdown_grace_period: Duration,
    /// The part of it kept for critical pods.
    #[serde(deserialize_with = "de_duration")]
    pub(crate) shutdown_grace_period_critical_pods: Duration,
    /// Restart back-off.
    pub(crate) crash_loop_back_off: CrashLoopBackOff,
    /// RuntimeDefault is the seccomp profile of containers that name none.
    pub(crate) seccomp_default: bool,
    /// Taints of the node when it registers.
    pub(crate) register_with_taints: Vec<Taint>,
    /// Create the Node object.
    pub(crate) register_node: bool,
    /// Count and limit ephemeral storage.
    pub(crate) local_storage_capacity_isolation: bool,
    /// The runtime's socket.
    pub(crate) container_runtime_endpoint: String,
    /// The image service's socket; empty: the runtime's.
    pub(crate) image_service_endpoint: String,
    /// Swap for pods.
    pub(crate) memory_swap: MemorySwap,
    /// Log format and verbosity.
    pub(crate) logging: Logging,
    /// Everything, as it was written: complete, with the fields that nobody reads typed.
    #[serde(skip)]
    pub(crate) document: Map<String, Value>,
}

/// `authentication`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Authentication {
    /// Client certificates.
    pub(crate) x509: X509,
    /// Bearer tokens.
    pub(crate) webhook: AuthenticationWebhook,
    /// Requests without credentials.
    pub(crate) anonymous: Anonymous,
}

/// `authentication.x509`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct X509 {
    /// Authorities of client certificates; empty: none accepted.
    #[serde(rename = "clientCAFile")]
    pub(crate) client_ca_file: String,
}

/// `authentication.webhook`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AuthenticationWebhook {
    /// Ask the API server about bearer tokens.
    pub(crate) enabled: bool,
    /// How long an answer counts.
    #[serde(rename = "cacheTTL", deserialize_with = "de_duration")]
    pub(crate) cache_ttl: Duration,
}

/// `authentication.anonymous`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Anonymous {
    /// Let them in as `system:anonymous`.
    pub(crate) enabled: bool,
}

/// `authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Authorization {
    /// `Webhook` or `AlwaysAllow`.
    pub(crate) mode: String,
    /// Caching of the API server's answers.
    pub(crate) webhook: AuthorizationWebhook,
}

/// `authorization.webhook`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AuthorizationWebhook {
    /// How long a yes counts.
    #[serde(rename = "cacheAuthorizedTTL", deserialize_with = "de_duration")]
    pub(crate) cache_authorized_ttl: Duration,
    /// How long a no counts.
    #[serde(rename = "cacheUnauthorizedTTL", deserialize_with = "de_duration")]
    pub(crate) cache_unauthorized_ttl: Duration,
}

/// `crashLoopBackOff`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CrashLoopBackOff {
    /// Longest wait before a restart; `None` when the feature gate is off.
    #[serde(default, deserialize_with = "de_duration_opt")]
    pub(crate) max_container_restart_period: Option<Duration>,
}

/// `memorySwap`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemorySwap {
    /// `NoSwap`, `LimitedSwap` or empty (NoSwap).
    pub(crate) swap_behavior: String,
}

/// `logging`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Logging {
    /// `text` or `json`.
    pub(crate) format: String,
    /// klog's verbosity: 0 quiet, 2 usual, 4 debug, 6 requests.
    pub(crate) verbosity: u32,
}

impl Settings {
    /// Is this feature gate on?
    pub(crate) fn gate(&self, name: &str) -> bool {
        gates::enabled(&self.feature_gates, name)
    }
}

/// Addresses of name servers; as in the reference one that is no address is left out and named in the log.
fn de_ips<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(de)?;
    let parse = |text: String| match text.parse() {
        Ok(ip) => Some(ip),
        Err(_) => {
            tracing::warn!(address = text, "clusterDNS: not an IP address, left out");
            None
        }
    };
    Ok(texts.into_iter().filter_map(parse).collect())
}
