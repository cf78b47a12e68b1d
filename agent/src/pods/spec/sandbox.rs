//! The sandbox's configuration.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use gantry_agent_core::dns::{DnsConfig, DnsWarning, pod_dns};
use gantry_agent_core::hosts::pod_hostname;
use gantry_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SecurityContext};

use super::security::{self, namespaces, supplemental_groups_policy};
use super::{NodeFacts, SpecError, labels, resources};

/// One sandbox to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SandboxInput<'a> {
    /// Its pod.
    pub(crate) pod: &'a Pod,
    /// The node.
    pub(crate) node: &'a NodeFacts,
    /// How many sandboxes the pod had before.
    pub(crate) attempt: u32,
    /// The pod's cgroup, from `Cgroups::pod_parent`.
    pub(crate) cgroup_parent: &'a str,
}

/// The configuration, and warnings for events on the pod.
///
/// # Errors
/// See [`SpecError`].
pub(crate) fn sandbox_config(
    input: SandboxInput<'_>,
) -> Result<(v1::PodSandboxConfig, Vec<DnsWarning>), SpecError> {
    let SandboxInput {
        pod, node, attempt, ..
    } = input;
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (dns, warnings) = pod_dns(pod, &node.dns);
    let hostname = if spec.host_network.unwrap_or(false) {
        String::new()
    } else {
        let name = pod_hostname(pod, &node.dns.cluster_domain)?;
        name.kernel_name(spec.set_hostname_as_fqdn.unwrap_or(false))?
    };
    let config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
            namespace: text(&pod.metadata.namespace),
            attempt,
        }),
        hostname,
        log_directory: log_directory(&node.pod_logs_dir, pod).display().to_string(),
        dns_config: Some(dns_config(dns)),
        port_mappings: spec.containers.iter().flat_map(port_mappings).collect(),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(linux(input, spec)?),
    };
    Ok((config, warnings))
}

/// `<podLogsDir>/<namespace>_<name>_<uid>`; a static pod's uid is its configuration's hash.
pub(crate) fn log_directory(pod_logs_dir: &Path, pod: &Pod) -> PathBuf {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let m = &pod.metadata;
    pod_logs_dir.join(format!(
        "{}_{}_{}",
        text(&m.namespace),
        text(&m.name),
        text(&m.uid)
    ))
}

fn dns_config(dns: DnsConfig) -> v1::DnsConfig {
    v1::DnsConfig {
        servers: dns.servers,
        searches: dns.searches,
        options: dns.options,
    }
}

/// All ports of a container, those without a host port too; a repeated name or mapping counts once.
fn port_mappings(container: &Container) -> Vec<v1::PortMapping> {
    let mut seen = HashSet::new();
    let mut mappings = Vec::new();
    for port in container.ports.iter().flatten() {
        let host_ip = port.host_ip.clone().unwrap_or_default();
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => v1::Protocol::Udp,
            Some("SCTP") => v1::Protocol::Sctp,
            _ => v1::Protocol::Tcp,
        };
        let host_port = port.host_port.unwrap_or(0);
        let name = port
            .name
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| {
                format!(
                    "{}/{host_ip}/{}/{host_port}",
                    protocol.as_str_name(),
                    port.container_port
                )
            });
        if seen.insert(name) {
            mappings.push(v1::PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port,
                host_ip,
            });
        }
    }
    mappings
}

fn linux(input: SandboxInput<'_>, spec: &PodSpec) -> Result<v1::LinuxPodSandboxConfig, SpecError> {
    let default = PodSecurityContext::default();
    let context = spec.security_context.as_ref().unwrap_or(&default);
    let sysctls = context.sysctls.iter().flatten();
    let (resources, overhead) = resources::of_sandbox(spec, input.node);
    Ok(v1::LinuxPodSandboxConfig {
        cgroup_parent: input.cgroup_parent.to_owned(),
        security_context: Some(security_context(spec, context)?),
        sysctls: sysctls.map(|s| (sysctl_name(&s.name), s.value.clone())).collect(),
        overhead: Some(overhead),
        resources: Some(resources),
    })
}

/// The sandbox itself always runs under the runtime's default seccomp profile, so that a pod may ask for the
/// narrowest one for its containers.
fn security_context(
    spec: &PodSpec,
    context: &PodSecurityContext,
) -> Result<v1::LinuxSandboxSecurityContext, SpecError> {
    let groups = context
        .fs_group
        .into_iter()
        .chain(context.supplemental_groups.iter().flatten().copied());
    Ok(v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)?),
        selinux_options: context.se_linux_options.as_ref().map(security::selinux),
        run_as_user: context.run_as_user.map(|value| v1::Int64Value { value }),
        run_as_group: context.run_as_group.map(|value| v1::Int64Value { value }),
        supplemental_groups: groups.collect(),
        supplemental_groups_policy: supplemental_groups_policy(context)?.into(),
        privileged: has_privileged(spec),
        seccomp: Some(security::profile(
            v1::security_profile::ProfileType::RuntimeDefault,
        )),
        ..v1::LinuxSandboxSecurityContext::default()
    })
}

fn has_privileged(spec: &PodSpec) -> bool {
    let privileged = |context: Option<&SecurityContext>| context.and_then(|c| c.privileged).unwrap_or(false);
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    containers.map(|c| c.security_context.as_ref()).any(privileged)
        || spec
            .ephemeral_containers
            .iter()
            .flatten()
            .any(|c| privileged(c.security_context.as_ref()))
}

/// `net/ipv4/conf/eth0.100/x` as `net.ipv4.conf.eth0/100.x`: the first separator says which way it is written.
fn sysctl_name(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name.as_bytes()[at] == b'.') {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}
