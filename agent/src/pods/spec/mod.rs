//! From a Pod to what CRI is told: the sandbox and each of its containers.
//!
//! Everything here is a function of its arguments, except [`files`], which makes the few files that a container's
//! configuration points to. The way to a container:
//!
//! ```text
//! core::env::references ─> shell looks objects up ─> environment ─┐
//!                         volumes::container_mounts (expand_sub_path) ─┼─> container_config ─> Runtime
//!                                                    files::prepare ─┘
//! ```
//!
//! Labels, annotations, paths and values are the kubelet's (kubelet-surface.md 5, 6, 7), so that the tools around it,
//! and a kubelet in our place, find what they expect.

mod container;
pub(crate) mod files;
mod labels;
mod resources;
mod sandbox;
mod security;

use std::net::IpAddr;
use std::path::PathBuf;

use gantry_agent_core::dns::NodeDns;
use gantry_agent_core::env::{EnvError, Facts};
use gantry_agent_core::hosts::HostnameError;
use gantry_agent_core::resources::{Amounts, CpuQuota};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use thiserror::Error;

pub(crate) use container::{container_config, expand_sub_path};
pub(crate) use gantry_cri::v1::{ContainerConfig, PodSandboxConfig};
pub(crate) use resources::{Swap, hugepage_size_name};
pub(crate) use sandbox::{SandboxInput, sandbox_config};

/// Facts about the node that configurations need. Made once, from the configuration and the machine.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    /// `--root-dir`, /var/lib/kubelet.
    pub(crate) root_dir: PathBuf,
    /// `podLogsDir`, /var/log/pods.
    pub(crate) pod_logs_dir: PathBuf,
    /// The node's side of DNS.
    pub(crate) dns: NodeDns,
    /// The node's addresses, the primary one first.
    pub(crate) host_ips: Vec<IpAddr>,
    /// What pods may use of the node.
    pub(crate) allocatable: Amounts,
    /// Bytes of memory.
    pub(crate) memory_capacity: i64,
    /// `cpuCFSQuota`, `cpuCFSQuotaPeriod`.
    pub(crate) cpu_quota: CpuQuota,
    /// `seccompDefault`.
    pub(crate) seccomp_default: bool,
    /// What the kernel offers.
    pub(crate) kernel: KernelFacts,
}

/// What the node's kernel offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct KernelFacts {
    /// The cgroup file system is version 2.
    pub(crate) cgroup_v2: bool,
    /// `singleProcessOOMKill`: false kills a whole container when it runs out of memory (v2 only).
    pub(crate) single_process_oom_kill: bool,
    /// How containers may swap.
    pub(crate) swap: Swap,
    /// `2MB`, `1GB`: names of huge page sizes, as the runtime writes them.
    pub(crate) hugepage_sizes: Vec<String>,
    /// Existing `/sys/devices/system/cpu/cpu<n>/thermal_throttle` paths, hidden from containers.
    pub(crate) thermal_throttle_paths: Vec<String>,
}

/// An image that a container can be made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageRef {
    /// What the runtime is told.
    pub(crate) id: String,
    /// The user that the image runs as: by number, or else by name; neither means root.
    pub(crate) user: ImageUser,
}

/// The user that an image runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageUser {
    /// A number; 0 also when the image says nothing.
    Uid(i64),
    /// A name, which only the runtime can resolve.
    Name(String),
}

impl Default for ImageUser {
    fn default() -> Self {
        Self::Uid(0)
    }
}

/// One container to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContainerInput<'a> {
    /// Its pod.
    pub(crate) pod: &'a Pod,
    /// Its spec; an ephemeral one through [`as_container`].
    pub(crate) container: &'a Container,
    /// The node.
    pub(crate) node: &'a NodeFacts,
    /// How many instances it had before: the restart count.
    pub(crate) attempt: u32,
    /// Its image.
    pub(crate) image: &'a ImageRef,
    /// The sandbox's addresses.
    pub(crate) pod_ips: &'a [IpAddr],
    /// The id of the container whose processes an ephemeral container shall see.
    pub(crate) target: Option<&'a str>,
    /// The runtime handler can make mounts recursively read-only.
    pub(crate) recursive_read_only: bool,
}

impl<'a> ContainerInput<'a> {
    /// What variables may refer to.
    pub(crate) fn facts(&self) -> Facts<'a> {
        Facts {
            pod: self.pod,
            host_ips: &self.node.host_ips,
            pod_ips: self.pod_ips,
            allocatable: &self.node.allocatable,
        }
    }
}

/// Why there is no configuration: reason `CreateContainerConfigError` for a container, `FailedCreatePodSandBox` for
/// a sandbox; the message is the Display text, in the reference's words. A change of the pod or of what it refers
/// to can heal it.
#[derive(Debug, Error)]
pub(crate) enum SpecError {
    /// The environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The pod's names.
    #[error(transparent)]
    Hostname(#[from] HostnameError),
    /// The security context, for a reason in words.
    #[error("{0}")]
    Security(String),
    /// A volume mount, for a reason in words.
    #[error("{0}")]
    Mount(String),
    /// A file that the container needs.
    #[error("cannot prepare {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `hostUsers: false`.
    #[error("user namespaces (hostUsers: false) are not supported by this agent")]
    UserNamespace,
}

impl SpecError {
    /// The waiting reason of a container that cannot be configured.
    pub(crate) const REASON: &'static str = "CreateContainerConfigError";
}

/// The common part of an ephemeral container.
pub(crate) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

#[cfg(test)]
pub(crate) mod tests;
