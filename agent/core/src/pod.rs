//! Readings of a Pod's spec that every decision needs: its containers in one shape, restart rules, grace periods.
//!
//! In: the API object. Out: borrowed views and plain values. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, Lifecycle, Pod, Probe, ResourceRequirements,
    VolumeMount,
};

/// `spec.terminationGracePeriodSeconds` when the API server has not filled it in.
const DEFAULT_GRACE_SECS: i64 = 30;

/// Which of the lists in the spec a container is from, sidecars (KEP-753) told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the regular ones and stops after them.
    Sidecar,
    /// One of `spec.containers`.
    Regular,
    /// Added to a running pod for debugging; never restarted.
    Ephemeral,
}

/// A container of the spec, whatever list it is in.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    /// Unique within the pod.
    pub name: &'a str,
    /// Which list it is from.
    pub kind: Kind,
    /// The image as the user wrote it.
    pub image: &'a str,
    /// The container's own restart policy (KEP-753, KEP-5307).
    pub restart_policy: Option<&'a str>,
    /// Exit codes with a rule of their own (KEP-5307).
    pub restart_rules: &'a [ContainerRestartRule],
    /// Gates the other two probes.
    pub startup_probe: Option<&'a Probe>,
    /// Failing kills the container.
    pub liveness_probe: Option<&'a Probe>,
    /// Failing takes the container out of service.
    pub readiness_probe: Option<&'a Probe>,
    /// postStart and preStop.
    pub lifecycle: Option<&'a Lifecycle>,
    /// Requests and limits.
    pub resources: Option<&'a ResourceRequirements>,
    /// Where its volumes are.
    pub volume_mounts: &'a [VolumeMount],
}

/// All containers of the pod: init containers and sidecars in their order, then regular, then ephemeral ones.
#[must_use]
pub fn containers(pod: &Pod) -> Vec<Spec<'_>> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|c| {
        let sidecar = c.restart_policy.as_deref() == Some("Always");
        Spec::of(c, if sidecar { Kind::Sidecar } else { Kind::Init })
    });
    let regular = spec.containers.iter().map(|c| Spec::of(c, Kind::Regular));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(Spec::of_ephemeral);
    init.chain(regular).chain(ephemeral).collect()
}

/// `metadata.deletionTimestamp` is set: the pod has to go.
#[must_use]
pub fn deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The phase that the API shows is Succeeded or Failed: it never changes again.
#[must_use]
pub fn terminal_in_api(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .is_some_and(is_terminal)
}

/// Succeeded or Failed.
#[must_use]
pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Whether the container named `name` has a terminal; `None` when the pod has no such container.
#[must_use]
pub fn tty(pod: &Pod, name: &str) -> Option<bool> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let mut containers = spec.containers.iter().chain(init);
    if let Some(container) = containers.find(|c| c.name == name) {
        return Some(container.tty.unwrap_or(false));
    }
    let mut ephemeral = spec.ephemeral_containers.iter().flatten();
    ephemeral.find(|c| c.name == name).map(|c| c.tty.unwrap_or(false))
}

/// It comes from a file of the node, not from the API server.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get("kubernetes.io/config.source"))
        .is_some_and(|source| source != "api")
}

/// How many ephemeral containers it has.
#[must_use]
pub fn ephemeral_count(pod: &Pod) -> usize {
    let list = pod.spec.as_ref().and_then(|s| s.ephemeral_containers.as_ref());
    list.map_or(0, Vec::len)
}

/// The pod shares the node's network.
#[must_use]
pub fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

/// `restartPolicy` of the pod; the API server's default is Always.
#[must_use]
pub fn restart_policy(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref())
        .unwrap_or("Always")
}

/// How long the pod's containers may take to stop, in whole seconds, at least 1
/// (`calculateEffectiveGracePeriod` in the kubelet's `pod_workers.go`).
#[must_use]
pub fn grace(pod: &Pod) -> Duration {
    let asked = pod.metadata.deletion_grace_period_seconds;
    let secs = asked
        .or_else(|| pod.spec.as_ref()?.termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE_SECS);
    Duration::from_secs(u64::try_from(secs).unwrap_or(0).max(1))
}

/// `name_namespace(uid)`, as the kubelet's messages name a pod.
#[must_use]
pub fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let [name, namespace, uid] =
        [&meta.name, &meta.namespace, &meta.uid].map(|s| s.as_deref().unwrap_or_default());
    format!("{name}_{namespace}({uid})")
}

// === impl Spec ===

impl<'a> Spec<'a> {
    fn of(c: &'a Container, kind: Kind) -> Self {
        Self {
            name: &c.name,
            kind,
            image: c.image.as_deref().unwrap_or_default(),
            restart_policy: c.restart_policy.as_deref(),
            restart_rules: c.restart_policy_rules.as_deref().unwrap_or_default(),
            startup_probe: c.startup_probe.as_ref(),
            liveness_probe: c.liveness_probe.as_ref(),
            readiness_probe: c.readiness_probe.as_ref(),
            lifecycle: c.lifecycle.as_ref(),
            resources: c.resources.as_ref(),
            volume_mounts: c.volume_mounts.as_deref().unwrap_or_default(),
        }
    }

    fn of_ephemeral(c: &'a EphemeralContainer) -> Self {
        Self {
            name: &c.name,
            kind: Kind::Ephemeral,
            image: c.image.as_deref().unwrap_or_default(),
            restart_policy: None,
            restart_rules: &[],
            startup_probe: None,
            liveness_probe: None,
            readiness_probe: None,
            lifecycle: None,
            resources: c.resources.as_ref(),
            volume_mounts: c.volume_mounts.as_deref().unwrap_or_default(),
        }
    }

    /// Init container or sidecar.
    #[must_use]
    pub fn is_init(&self) -> bool {
        matches!(self.kind, Kind::Init | Kind::Sidecar)
    }

    /// A container that exited with `code` has to be started again (`ContainerShouldRestart` in the kubelet's
    /// `api/v1/pod/util.go`).
    #[must_use]
    pub fn restarts_after(&self, pod_policy: &str, code: i32) -> bool {
        if self.kind == Kind::Ephemeral || (self.kind == Kind::Init && code == 0) {
            return false;
        }
        if self.restart_policy.is_some() && self.rule_says_restart(code) {
            return true;
        }
        match self.restart_policy.unwrap_or(pod_policy) {
            "Never" => false,
            "OnFailure" => code != 0,
            _ => true,
        }
    }

    /// A container that the agent stops itself (a failed probe) is started again: there is no exit code to look at.
    #[must_use]
    pub fn restarts_when_stopped(&self, pod_policy: &str) -> bool {
        self.kind != Kind::Ephemeral && self.restart_policy.unwrap_or(pod_policy) != "Never"
    }

    fn rule_says_restart(&self, code: i32) -> bool {
        self.restart_rules.iter().any(|rule| {
            let Some(codes) = &rule.exit_codes else {
                return false;
            };
            let listed = codes.values.as_ref().is_some_and(|v| v.contains(&code));
            let matched = if codes.operator == "NotIn" {
                !listed
            } else {
                listed
            };
            matched && rule.action == "Restart"
        })
    }

    /// Has a postStart hook.
    #[must_use]
    pub fn has_post_start(&self) -> bool {
        self.lifecycle.is_some_and(|l| l.post_start.is_some())
    }

    /// Has a preStop hook.
    #[must_use]
    pub fn has_pre_stop(&self) -> bool {
        self.lifecycle.is_some_and(|l| l.pre_stop.is_some())
    }
}
