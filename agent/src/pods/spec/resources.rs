//! Limits and weights in CRI's form.

use std::collections::HashMap;

use gantry_agent_core::qos::{QosClass, is_critical, pod_qos};
use gantry_agent_core::quantity::Quantity;
use gantry_agent_core::resources::{
    ContainerValues, amounts, compute_values, container_values, oom_score_adj, pod_limits_without_overhead,
    pod_requests_without_overhead,
};
use gantry_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{KernelFacts, NodeFacts};

/// How containers may swap (`memorySwap.swapBehavior`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Swap {
    /// The kernel has no swap controller: nothing can be said.
    #[default]
    NoController,
    /// No container swaps.
    No,
    /// Burstable pods swap in proportion to their memory requests; `capacity` is the node's swap in bytes.
    Limited {
        /// Bytes.
        capacity: i64,
    },
}

/// A container's resources.
pub(super) fn of_container(
    pod: &Pod,
    container: &Container,
    node: &NodeFacts,
) -> v1::LinuxContainerResources {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let values = container_values(spec, container, node.cpu_quota);
    let mut resources = in_cri(values, &node.kernel);
    resources.oom_score_adj = oom_score_adj(pod, container, node.memory_capacity);
    resources.hugepage_limits = hugepage_limits(spec, container, &node.kernel);
    set_swap(&mut resources, pod, container, node);
    resources
}

/// What the sandbox's containers may use together, and the overhead on top: hints for runtimes with machines of
/// their own.
pub(super) fn of_sandbox(
    spec: &PodSpec,
    node: &NodeFacts,
) -> (v1::LinuxContainerResources, v1::LinuxContainerResources) {
    let requests = pod_requests_without_overhead(spec);
    let limits = pod_limits_without_overhead(spec);
    let amount = |list: &gantry_agent_core::resources::Amounts, name: &str| list.get(name).copied();
    let limit = |name| amount(&limits, name).unwrap_or_default();
    let values = compute_values(
        amount(&requests, "cpu"),
        limit("cpu"),
        limit("memory"),
        node.cpu_quota,
    );
    let resources = in_cri(values, &node.kernel);
    let overhead = spec.overhead.as_ref().map(|overhead| {
        let overhead = amounts(Some(overhead));
        let of = |name| amount(&overhead, name).unwrap_or_default();
        in_cri(
            compute_values(Some(of("cpu")), of("cpu"), of("memory"), node.cpu_quota),
            &node.kernel,
        )
    });
    (resources, overhead.unwrap_or_default())
}

fn in_cri(values: ContainerValues, kernel: &KernelFacts) -> v1::LinuxContainerResources {
    let mut unified = HashMap::new();
    if kernel.cgroup_v2 && !kernel.single_process_oom_kill {
        unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    v1::LinuxContainerResources {
        cpu_shares: i64::try_from(values.cpu_shares).unwrap_or(i64::MAX),
        cpu_quota: values.cpu_quota_us,
        cpu_period: values.cpu_period_us,
        memory_limit_in_bytes: values.memory_limit,
        unified,
        ..v1::LinuxContainerResources::default()
    }
}

/// Every size of the node gets a limit: none unless the container, else the pod, names one.
fn hugepage_limits(spec: &PodSpec, container: &Container, kernel: &KernelFacts) -> Vec<v1::HugepageLimit> {
    let pod = amounts(spec.resources.as_ref().and_then(|r| r.limits.as_ref()));
    let own = amounts(container.resources.as_ref().and_then(|r| r.limits.as_ref()));
    let limits: HashMap<String, u64> = pod
        .iter()
        .chain(&own)
        .filter_map(|(name, q)| named_limit(name, *q))
        .collect();
    let limit = |size: &String| v1::HugepageLimit {
        page_size: size.clone(),
        limit: limits.get(size).copied().unwrap_or(0),
    };
    kernel.hugepage_sizes.iter().map(limit).collect()
}

/// `hugepages-2Mi: 4Mi` as (`2MB`, 4194304).
fn named_limit(name: &str, amount: Quantity) -> Option<(String, u64)> {
    let size: Quantity = name.strip_prefix("hugepages-")?.parse().ok()?;
    Some((
        hugepage_size_name(size.value())?,
        u64::try_from(amount.value()).ok()?,
    ))
}

/// `2MB`, `64KB`: the kernel's directory names in the runtime's spelling.
pub(crate) fn hugepage_size_name(bytes: i64) -> Option<String> {
    let units = [(30, "GB"), (20, "MB"), (10, "KB")];
    let (shift, unit) = units
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes % (1 << shift) == 0)?;
    Some(format!("{}{unit}", bytes >> shift))
}

fn set_swap(resources: &mut v1::LinuxContainerResources, pod: &Pod, container: &Container, node: &NodeFacts) {
    let max = match node.kernel.swap {
        Swap::NoController => return,
        Swap::Limited { capacity } if node.kernel.cgroup_v2 => swap_share(pod, container, capacity, node),
        Swap::No | Swap::Limited { .. } => 0,
    };
    if node.kernel.cgroup_v2 {
        resources
            .unified
            .insert("memory.swap.max".to_owned(), max.to_string());
    } else {
        // Memory and swap together.
        resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
    }
}

/// KEP-2400: the container's share of the node's swap is its share of the node's memory.
fn swap_share(pod: &Pod, container: &Container, capacity: i64, node: &NodeFacts) -> i64 {
    let resources = container.resources.as_ref();
    let memory = |list: Option<&_>| amounts(list).get("memory").map_or(0, |q| q.value());
    let request = memory(resources.and_then(|r| r.requests.as_ref()));
    let limit = memory(resources.and_then(|r| r.limits.as_ref()));
    let may = pod_qos(pod) == QosClass::Burstable && !is_critical(pod) && request > 0 && request != limit;
    if !may || request > node.memory_capacity || node.memory_capacity <= 0 {
        return 0;
    }
    let share = i128::from(request) * i128::from(capacity) / i128::from(node.memory_capacity);
    i64::try_from(share).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "resources/tests.rs"]
mod tests;
