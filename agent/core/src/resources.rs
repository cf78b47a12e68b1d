//! Requests and limits as the kernel wants them: CPU shares and quota, memory limits, OOM scores.
//!
//! Formulas of the reference: `component-helpers/resource` (pod sums), `pkg/kubelet/cm/helpers_linux.go` (cgroup
//! values), `pkg/kubelet/qos/policy.go` (OOM scores).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::qos::{QosClass, is_node_critical, pod_qos};
use crate::quantity::Quantity;

/// Amounts by resource name: `cpu`, `memory`, `hugepages-2Mi`, ...
pub type Amounts = BTreeMap<String, Quantity>;

/// The fewest and the most CPU shares that the kernel takes.
pub const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// The shortest quota that the kernel takes, in microseconds.
const MIN_QUOTA_US: i64 = 1000;

/// How CPU limits are enforced (`cpuCFSQuota`, `cpuCFSQuotaPeriod`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// False: limits become no quota.
    pub enforce: bool,
    /// Microseconds.
    pub period_us: u64,
}

impl Default for CpuQuota {
    fn default() -> Self {
        Self {
            enforce: true,
            period_us: 100_000,
        }
    }
}

/// Values for one cgroup; `None` leaves the kernel's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupValues {
    /// cgroup v1 scale; for v2 see [`cpu_weight`].
    pub cpu_shares: Option<u64>,
    /// Microseconds in each period; -1 for no limit.
    pub cpu_quota_us: Option<i64>,
    /// Microseconds.
    pub cpu_period_us: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    /// Processes and threads.
    pub pids_limit: Option<i64>,
    /// Bytes, by page size in bytes; a page size that is not named gets none.
    pub hugepage_limits: BTreeMap<i64, i64>,
}

/// Values of a container, as CRI takes them; 0 is "not set".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerValues {
    /// cgroup v1 scale.
    pub cpu_shares: u64,
    /// Microseconds; -1 for no limit.
    pub cpu_quota_us: i64,
    /// Microseconds.
    pub cpu_period_us: i64,
    /// Bytes.
    pub memory_limit: i64,
}

/// The amounts of an API resource list. What does not parse is left out: the API server has validated it.
#[must_use]
pub fn amounts(list: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
    let parsed = |(name, q): (&String, &ApiQuantity)| Some((name.clone(), Quantity::try_from(q).ok()?));
    list.into_iter().flatten().filter_map(parsed).collect()
}

/// CPU shares of `milli` thousandths of a CPU.
#[must_use]
pub fn milli_cpu_to_shares(milli: i64) -> u64 {
    let milli = u64::try_from(milli).unwrap_or(0);
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// CFS quota in microseconds of `milli` thousandths of a CPU; 0 when there is no limit.
#[must_use]
pub fn milli_cpu_to_quota(milli: i64, period_us: i64) -> i64 {
    if milli == 0 {
        0
    } else {
        (milli.saturating_mul(period_us) / 1000).max(MIN_QUOTA_US)
    }
}

/// cgroup v2 `cpu.weight` of v1 shares: 2..262144 becomes 1..10000, as the reference scales it.
#[must_use]
pub fn cpu_weight(shares: u64) -> u64 {
    let shares = shares.clamp(MIN_SHARES, MAX_SHARES);
    if shares == MAX_SHARES {
        10_000
    } else {
        1 + (shares - 2) * 9999 / 262_142
    }
}

/// Which of a container's two lists is summed.
#[derive(Clone, Copy)]
enum List {
    Requests,
    Limits,
}

fn list_of(container: &Container, list: List) -> Amounts {
    let resources = container.resources.as_ref();
    amounts(resources.and_then(|r| match list {
        List::Requests => r.requests.as_ref(),
        List::Limits => r.limits.as_ref(),
    }))
}

fn is_restartable(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What the containers need together: all regular and restartable init containers, or more if an init container
/// needs more while it runs beside the restartable ones before it (KEP-753).
fn aggregate(spec: &PodSpec, list: List) -> Amounts {
    let mut sum = Amounts::new();
    for container in &spec.containers {
        add(&mut sum, &list_of(container, list));
    }
    let mut sidecars = Amounts::new();
    let mut init = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let own = list_of(container, list);
        let mut during = sidecars.clone();
        add(&mut during, &own);
        if is_restartable(container) {
            add(&mut sum, &own);
            sidecars = during.clone();
        }
        take_max(&mut init, &during);
    }
    take_max(&mut sum, &init);
    sum
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_default();
        *entry = *entry + *amount;
    }
}

fn take_max(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = sum.entry(name.clone()).or_insert(*amount);
        *entry = entry.max(*amount);
    }
}

fn pod_level(spec: &PodSpec, list: List) -> Amounts {
    let resources = spec.resources.as_ref();
    let mut found = amounts(resources.and_then(|r| match list {
        List::Requests => r.requests.as_ref(),
        List::Limits => r.limits.as_ref(),
    }));
    found.retain(|name, _| matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-"));
    found
}

/// What the scheduler counts for the pod: the containers' sum, pod-level requests over it, plus overhead.
#[must_use]
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    let mut sum = pod_requests_without_overhead(spec);
    add(&mut sum, &amounts(spec.overhead.as_ref()));
    sum
}

/// [`pod_requests`] of the containers alone.
#[must_use]
pub fn pod_requests_without_overhead(spec: &PodSpec) -> Amounts {
    let mut sum = aggregate(spec, List::Requests);
    sum.extend(pod_level(spec, List::Requests));
    sum
}

/// The pod's limits; overhead is added to what is limited at all.
#[must_use]
pub fn pod_limits(spec: &PodSpec) -> Amounts {
    let mut sum = pod_limits_without_overhead(spec);
    for (name, overhead) in amounts(spec.overhead.as_ref()) {
        if let Some(limit) = sum.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit = *limit + overhead;
        }
    }
    sum
}

/// [`pod_limits`] of the containers alone.
#[must_use]
pub fn pod_limits_without_overhead(spec: &PodSpec) -> Amounts {
    let mut sum = aggregate(spec, List::Limits);
    sum.extend(pod_level(spec, List::Limits));
    sum
}

/// Values of the pod's cgroup. A limit counts only when every container has one (or the pod itself does).
#[must_use]
pub fn pod_cgroup(pod: &Pod, quota: CpuQuota) -> CgroupValues {
    let Some(spec) = &pod.spec else {
        return CgroupValues::default();
    };
    let requests = pod_requests(spec);
    let limits = pod_limits(spec);
    let milli = |list: &Amounts| list.get("cpu").map_or(0, |q| q.milli_value());
    let period = i64::try_from(quota.period_us).unwrap_or(i64::MAX);
    let cpu_quota = if quota.enforce {
        milli_cpu_to_quota(milli(&limits), period)
    } else {
        -1
    };
    let memory = limits.get("memory").map_or(0, |q| q.value());
    let (cpu_limited, memory_limited) = match pod_qos(pod) {
        QosClass::Guaranteed => (true, true),
        QosClass::Burstable => (is_limited(spec, "cpu"), is_limited(spec, "memory")),
        QosClass::BestEffort => (false, false),
    };
    CgroupValues {
        cpu_shares: Some(match pod_qos(pod) {
            QosClass::Guaranteed | QosClass::Burstable => milli_cpu_to_shares(milli(&requests)),
            QosClass::BestEffort => MIN_SHARES,
        }),
        cpu_quota_us: cpu_limited.then_some(cpu_quota),
        cpu_period_us: cpu_limited.then_some(quota.period_us),
        memory_limit: memory_limited.then_some(memory),
        pids_limit: None,
        hugepage_limits: hugepages(&requests),
    }
}

fn is_limited(spec: &PodSpec, resource: &str) -> bool {
    let has = |list: Amounts| list.get(resource).is_some_and(|q| !q.is_zero());
    let mut sidecars = false;
    let every_init = spec.init_containers.iter().flatten().all(|container| {
        let own = has(list_of(container, List::Limits));
        let limited = own || sidecars;
        sidecars |= own && is_restartable(container);
        limited
    });
    has(pod_level(spec, List::Limits))
        || every_init && spec.containers.iter().all(|c| has(list_of(c, List::Limits)))
}

/// `hugepages-<size>` amounts, in bytes by page size in bytes.
#[must_use]
pub fn hugepages(list: &Amounts) -> BTreeMap<i64, i64> {
    let parsed = |(name, amount): (&String, &Quantity)| {
        let size: Quantity = name.strip_prefix("hugepages-")?.parse().ok()?;
        Some((size.value(), amount.value()))
    };
    list.iter().filter_map(parsed).collect()
}

/// Values of one container; where it has no limit of its own the pod's holds (KEP-2837).
#[must_use]
pub fn container_values(spec: &PodSpec, container: &Container, quota: CpuQuota) -> ContainerValues {
    let requests = list_of(container, List::Requests);
    let limits = list_of(container, List::Limits);
    let pod = pod_level(spec, List::Limits);
    let limit = |name: &str| {
        let own = limits.get(name).copied().filter(|q| !q.is_zero());
        own.or_else(|| pod.get(name).copied()).unwrap_or_default()
    };
    compute_values(requests.get("cpu").copied(), limit("cpu"), limit("memory"), quota)
}

/// CRI values of a CPU request, a CPU limit and a memory limit. Without a request the limit counts as one.
#[must_use]
pub fn compute_values(
    cpu_request: Option<Quantity>,
    cpu_limit: Quantity,
    memory_limit: Quantity,
    quota: CpuQuota,
) -> ContainerValues {
    let mut values = ContainerValues {
        cpu_shares: milli_cpu_to_shares(cpu_request.unwrap_or(cpu_limit).milli_value()),
        memory_limit: memory_limit.value(),
        ..ContainerValues::default()
    };
    if quota.enforce {
        values.cpu_period_us = i64::try_from(quota.period_us).unwrap_or(i64::MAX);
        values.cpu_quota_us = milli_cpu_to_quota(cpu_limit.milli_value(), values.cpu_period_us);
    }
    values
}

/// The container's `oom_score_adj`: how early the kernel kills it, -997 to 1000.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    let Some(spec) = &pod.spec else { return BEST_EFFORT };
    if is_node_critical(pod) {
        return GUARANTEED;
    }
    match pod_qos(pod) {
        QosClass::Guaranteed => return GUARANTEED,
        QosClass::BestEffort => return BEST_EFFORT,
        QosClass::Burstable => {}
    }
    let request = |c: &Container| list_of(c, List::Requests).get("memory").map_or(0, |q| q.value());
    let share = unclaimed_memory_share(spec);
    let adjust = |bytes: i64| 1000 - bytes.saturating_mul(1000) / memory_capacity.max(1);
    let mut score = adjust(request(container) + share);
    let is_init = spec
        .init_containers
        .iter()
        .flatten()
        .any(|c| c.name == container.name);
    if is_init && is_restartable(container) {
        // A sidecar is not killed before the smallest regular container.
        let smallest = spec.containers.iter().map(request).min().unwrap_or(0);
        score = score.min(adjust(smallest + share));
    }
    score.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

/// Pod-level memory requests beyond the containers' own, split evenly (KEP-2837).
fn unclaimed_memory_share(spec: &PodSpec) -> i64 {
    let pod = pod_level(spec, List::Requests)
        .get("memory")
        .map_or(0, |q| q.value());
    if pod == 0 {
        return 0;
    }
    let own = aggregate(spec, List::Requests)
        .get("memory")
        .map_or(0, |q| q.value());
    let count = spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len);
    (pod - own) / i64::try_from(count.max(1)).unwrap_or(1)
}

#[cfg(test)]
#[path = "resources/tests.rs"]
mod tests;
