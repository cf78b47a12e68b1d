//! Pods: how many there are in which state, how long their workers take, what was started, what ended.

use std::time::Duration;

use gantry_agent_core::pod::Kind;
use gantry_chassis::metrics::{DEFAULT_BUCKETS, Registrar};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::unseen;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct PodMetrics {
    worker_seconds: HistogramVec,
    worker_start_seconds: Histogram,
    containers_per_pod: Histogram,
    gauges: Gauges,
    restarted: IntCounterVec,
    rejected: IntCounterVec,
    started_containers: IntCounterVec,
    failed_containers: IntCounterVec,
    ended_containers: IntCounterVec,
    /// Pods that only the runtime knew.
    pub(crate) orphans: IntCounter,
    /// Sandboxes that were tried.
    pub(crate) started: IntCounter,
    /// Sandboxes that were not made.
    pub(crate) failed: IntCounter,
    /// Of the sandboxes, those with users of their own.
    pub(crate) own_users: OwnUsers,
}

/// Sandboxes with users of their own: those that were tried, and those that were not made.
#[derive(Debug, Clone)]
pub(crate) struct OwnUsers {
    pub(crate) started: IntCounter,
    pub(crate) failed: IntCounter,
}

/// How many pods there are.
#[derive(Debug, Clone)]
struct Gauges {
    desired: IntGaugeVec,
    active: IntGaugeVec,
    working: IntGaugeVec,
    mirrors: IntGauge,
    ephemeral: IntGauge,
}

/// What a pass of a worker is about: label `operation_type` of `kubelet_pod_worker_duration_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The first one.
    Create,
    /// The API object changed.
    Update,
    /// Something happened on the node.
    Sync,
    /// The pod is being ended.
    Kill,
    /// Nothing of it is left.
    Terminated,
}

/// Where a pod is on its way: label `lifecycle` of `kubelet_working_pods`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is to be kept running.
    Syncing,
    /// It is being ended.
    Terminating,
    /// Nothing of it runs.
    Terminated,
}

/// How a pod counts in the gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Where it is.
    pub(crate) place: Place,
    /// The API server has it.
    pub(crate) desired: bool,
    /// The API server had it while this agent ran; else only the runtime knew it.
    pub(crate) known: bool,
    /// It comes from a file of the node.
    pub(crate) is_static: bool,
    /// Its ephemeral containers.
    pub(crate) ephemeral: usize,
}

/// Label `container_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContainerKind {
    Regular,
    Init,
    Ephemeral,
}

impl ContainerKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "container",
            Self::Init => "init_container",
            Self::Ephemeral => "ephemeral_container",
        }
    }
}

impl From<Kind> for ContainerKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Init | Kind::Sidecar => Self::Init,
            Kind::Regular => Self::Regular,
            Kind::Ephemeral => Self::Ephemeral,
        }
    }
}

impl Pass {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Sync => "sync",
            Self::Kill => "kill",
            Self::Terminated => "terminated",
        }
    }
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Self::Syncing => "sync",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
        }
    }
}

impl Standing {
    fn config(self) -> &'static str {
        match (self.desired, self.known) {
            (true, _) => "desired",
            (false, true) => "orphan",
            (false, false) => "runtime_only",
        }
    }

    /// Of a pod that only the runtime knows nobody can tell.
    fn working_static(self) -> &'static str {
        match (self.desired || self.known, self.is_static) {
            (false, _) => "unknown",
            (true, true) => "true",
            (true, false) => "",
        }
    }
}

fn static_label(is_static: bool) -> &'static str {
    if is_static { "true" } else { "" }
}

/// Reasons of `kubelet_admission_rejections_total`; others count as `Other`.
const REJECTIONS: &[&str] = &[
    "AppArmor",
    "PodOSSelectorNodeLabelDoesNotMatch",
    "PodOSNotSupported",
    "InvalidNodeInfo",
    "InitContainerRestartPolicyForbidden",
    "SupplementalGroupsPolicyNotSupported",
    "UnexpectedAdmissionError",
    "UnknownReason",
    "UnexpectedPredicateFailureType",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfephemeral-storage",
    "OutOfpods",
    "PodLevelResourcesNotSupported",
    "PodFeatureUnsupported",
    "Evicted",
    "SysctlForbidden",
    "TopologyAffinityError",
    "NodeShutdown",
    "VolumeAttachmentLimitExceeded",
];

impl Gauges {
    fn new(series: Registrar<'_>) -> Self {
        let made = Self {
            desired: series.counts(
                "kubelet_desired_pods",
                "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
                &["static"],
            ),
            active: series.counts(
                "kubelet_active_pods",
                "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
                &["static"],
            ),
            working: series.counts(
                "kubelet_working_pods",
                "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or runtime only (also orphaned), and whether the pod is static.",
                &["lifecycle", "config", "static"],
            ),
            mirrors: series.count(
                "kubelet_mirror_pods",
                "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
            ),
            ephemeral: series.count(
                "kubelet_managed_ephemeral_containers",
                "Current number of ephemeral containers in pods managed by this kubelet.",
            ),
        };
        made.show_zeros();
        made
    }

    /// Combinations that kubelet shows before there is such a pod.
    fn show_zeros(&self) {
        for label in ["", "true"] {
            self.desired.with_label_values(&[label]).set(0);
            self.active.with_label_values(&[label]).set(0);
        }
        for place in [Place::Syncing, Place::Terminating, Place::Terminated] {
            for (config, is_static) in [
                ("desired", ""),
                ("desired", "true"),
                ("orphan", ""),
                ("orphan", "true"),
                ("runtime_only", "unknown"),
            ] {
                self.working
                    .with_label_values(&[place.as_str(), config, is_static])
                    .set(0);
            }
        }
    }
}

impl OwnUsers {
    fn new(series: Registrar<'_>) -> Self {
        Self {
            started: series.counter(
                "kubelet_started_user_namespaced_pods_total",
                "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux.",
            ),
            failed: series.counter(
                "kubelet_started_user_namespaced_pods_errors_total",
                "Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux.",
            ),
        }
    }
}

impl PodMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        let made = Self {
            worker_seconds: series.histograms(
                "kubelet_pod_worker_duration_seconds",
                "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
                &["operation_type"],
                DEFAULT_BUCKETS,
            ),
            worker_start_seconds: series.histogram(
                "kubelet_pod_worker_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod to starting a worker.",
                DEFAULT_BUCKETS,
            ),
            containers_per_pod: series.histogram(
                "kubelet_containers_per_pod_count",
                "The number of containers per pod.",
                &[1.0, 2.0, 4.0, 8.0, 16.0],
            ),
            gauges: Gauges::new(series),
            restarted: series.counters(
                "kubelet_restarted_pods_total",
                "Number of pods that have been restarted because they were deleted and recreated with the same UID while the kubelet was watching them (common for static pods, extremely uncommon for API pods)",
                &["static"],
            ),
            rejected: series.counters(
                "kubelet_admission_rejections_total",
                "Cumulative number pod admission rejections by the Kubelet.",
                &["reason"],
            ),
            started_containers: series.counters(
                "kubelet_started_containers_total",
                "Cumulative number of containers started",
                &["container_type"],
            ),
            failed_containers: series.counters(
                "kubelet_started_containers_errors_total",
                "Cumulative number of errors when starting containers",
                &["container_type", "code"],
            ),
            ended_containers: series.counters(
                "kubelet_terminated_containers_total",
                "Cumulative number of container terminations.",
                &["container_type", "exit_code", "reason"],
            ),
            orphans: series.counter(
                "kubelet_orphaned_runtime_pods_total",
                "Number of pods that have been detected in the container runtime without being already known to the pod worker. This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local configuration, which is unusual.",
            ),
            started: series.counter("kubelet_started_pods_total", "Cumulative number of pods started"),
            failed: series.counter(
                "kubelet_started_pods_errors_total",
                "Cumulative number of errors when starting pods",
            ),
            own_users: OwnUsers::new(series),
        };
        for label in ["", "true"] {
            made.restarted.with_label_values(&[label]).inc_by(0);
        }
        made
    }

    /// A pass of a worker, with the steps that it began, is over.
    pub(crate) fn synced(&self, kind: Pass, took: Duration) {
        self.worker_seconds
            .with_label_values(&[kind.as_str()])
            .observe(took.as_secs_f64());
    }

    /// The worker of a pod with this many containers began, so long after the pod was first seen.
    pub(crate) fn worker_started(&self, containers: usize, after: Duration) {
        self.worker_start_seconds.observe(after.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count of containers")]
        self.containers_per_pod.observe(containers as f64);
    }

    /// The pod counts from now on (`by` 1), or no longer (-1).
    pub(crate) fn stands(&self, standing: Standing, by: i64) {
        let gauges = &self.gauges;
        let label = static_label(standing.is_static);
        if standing.desired {
            gauges.mirrors.add(if standing.is_static { by } else { 0 });
            gauges.desired.with_label_values(&[label]).add(by);
            if standing.place != Place::Terminated {
                gauges.active.with_label_values(&[label]).add(by);
            }
        }
        gauges
            .working
            .with_label_values(&[
                standing.place.as_str(),
                standing.config(),
                standing.working_static(),
            ])
            .add(by);
        let ephemeral = i64::try_from(standing.ephemeral).unwrap_or(i64::MAX);
        gauges.ephemeral.add(ephemeral.saturating_mul(by));
    }

    /// A pod with this UID was gone and is wanted again.
    pub(crate) fn restarted(&self, is_static: bool) {
        self.restarted.with_label_values(&[static_label(is_static)]).inc();
    }

    /// The node does not take a pod.
    pub(crate) fn rejected(&self, reason: &str) {
        let reason = if REJECTIONS.contains(&reason) {
            reason
        } else if reason.starts_with("OutOf") {
            "OutOfExtendedResources"
        } else {
            "Other"
        };
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// A container is being made and started.
    pub(crate) fn container_starts(&self, kind: ContainerKind) {
        self.started_containers.with_label_values(&[kind.as_str()]).inc();
    }

    /// It was not: `code` is the reason that the status shows.
    pub(crate) fn container_failed(&self, kind: ContainerKind, code: &str) {
        self.failed_containers
            .with_label_values(&[kind.as_str(), code])
            .inc();
    }

    /// A container has ended.
    pub(crate) fn container_ended(&self, kind: ContainerKind, code: i32, reason: &str) {
        self.ended_containers
            .with_label_values(&[kind.as_str(), &code.to_string(), reason])
            .inc();
    }
}

impl Default for PodMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}

#[cfg(test)]
mod tests;
