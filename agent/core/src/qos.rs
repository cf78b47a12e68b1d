//! The quality-of-service class of a pod, and which pods are critical.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use crate::quantity::Quantity;
use crate::resources::Amounts;

/// `status.qosClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QosClass {
    /// Limits equal requests for CPU and memory, everywhere.
    Guaranteed,
    /// Anything between.
    Burstable,
    /// No requests and no limits.
    BestEffort,
}

impl QosClass {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class that the pod's status names, else the one that its spec gives.
#[must_use]
pub fn pod_qos(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => pod.spec.as_ref().map_or(QosClass::BestEffort, spec_qos),
    }
}

/// The class that a spec gives. Pod-level resources (KEP-2837), when present, decide alone; ephemeral containers
/// have no resources.
#[must_use]
pub fn spec_qos(spec: &PodSpec) -> QosClass {
    let mut requests = Amounts::new();
    let mut limits = Amounts::new();
    let mut all_limited = true;
    let mut count = |resources: Option<&k8s_openapi::api::core::v1::ResourceRequirements>,
                     need_limits: bool| {
        add_compute(&mut requests, resources.and_then(|r| r.requests.as_ref()));
        let limited = add_compute(&mut limits, resources.and_then(|r| r.limits.as_ref()));
        all_limited &= limited == 2 || !need_limits;
    };
    if let Some(resources) = &spec.resources {
        // Requests alone at pod level: their missing limits show in the comparison below.
        count(
            Some(resources),
            resources.limits.as_ref().is_some_and(|l| !l.is_empty()),
        );
    } else {
        for container in spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
        {
            count(container.resources.as_ref(), true);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if all_limited && amounts_equal(&requests, &limits) {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

fn amounts_equal(requests: &Amounts, limits: &Amounts) -> bool {
    let same = |(name, amount): (&String, &Quantity)| {
        limits.get(name).is_some_and(|limit| (*limit - *amount).is_zero())
    };
    requests.len() == limits.len() && requests.iter().all(same)
}

/// Adds the positive amounts of CPU and memory; says how many there were.
fn add_compute(sum: &mut Amounts, list: Option<&BTreeMap<String, ApiQuantity>>) -> usize {
    let mut found = 0;
    for name in ["cpu", "memory"] {
        let amount = list
            .and_then(|list| list.get(name))
            .and_then(|q| Quantity::try_from(q).ok());
        let Some(amount) = amount.filter(|q| q.milli_value() > 0) else {
            continue;
        };
        let entry = sum.entry(name.to_owned()).or_default();
        *entry = *entry + amount;
        found += 1;
    }
    found
}

/// `system-node-critical` and `system-cluster-critical` start here.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// The pod comes from a file on this node (or mirrors one) or has a system-critical priority: never evicted,
/// admitted by preemption.
#[must_use]
pub fn is_critical(pod: &Pod) -> bool {
    let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
    let is_static = annotation("kubernetes.io/config.source").is_some_and(|source| source != "api");
    let is_mirror = annotation("kubernetes.io/config.mirror").is_some();
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    is_static || is_mirror || priority >= SYSTEM_CRITICAL_PRIORITY
}

/// A critical pod of class `system-node-critical`.
#[must_use]
pub fn is_node_critical(pod: &Pod) -> bool {
    let class = pod.spec.as_ref().and_then(|s| s.priority_class_name.as_deref());
    class == Some("system-node-critical") && is_critical(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qos(containers: &str, resources: &str) -> QosClass {
        let spec = format!("{{\"containers\":[{containers}]{resources}}}");
        spec_qos(&serde_json::from_str(&spec).unwrap())
    }

    #[test]
    fn classes() {
        let none = r#"{"name":"a"}"#;
        let full = r#"{"name":"a","resources":{"requests":{"cpu":"100m","memory":"1Gi"},"limits":{"cpu":"0.1","memory":"1024Mi"}}}"#;
        let cpu = r#"{"name":"a","resources":{"requests":{"cpu":"1"},"limits":{"cpu":"1"}}}"#;
        let zero = r#"{"name":"a","resources":{"requests":{"cpu":"0"}}}"#;
        let less = r#"{"name":"a","resources":{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"2","memory":"1Gi"}}}"#;
        let storage = r#"{"name":"a","resources":{"requests":{"ephemeral-storage":"1Gi"}}}"#;
        assert_eq!(qos(none, ""), QosClass::BestEffort);
        assert_eq!(qos(zero, ""), QosClass::BestEffort);
        assert_eq!(qos(storage, ""), QosClass::BestEffort);
        assert_eq!(qos(full, ""), QosClass::Guaranteed);
        assert_eq!(qos(&format!("{full},{none}"), ""), QosClass::Burstable);
        assert_eq!(qos(cpu, ""), QosClass::Burstable);
        assert_eq!(qos(less, ""), QosClass::Burstable);
    }

    #[test]
    fn pod_level_resources_decide_alone() {
        let full =
            r#","resources":{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1","memory":"1Gi"}}"#;
        let requests = r#","resources":{"requests":{"cpu":"1","memory":"1Gi"}}"#;
        assert_eq!(qos(r#"{"name":"a"}"#, full), QosClass::Guaranteed);
        assert_eq!(qos(r#"{"name":"a"}"#, requests), QosClass::Burstable);
        assert_eq!(qos(r#"{"name":"a"}"#, r#","resources":{}"#), QosClass::BestEffort);
    }

    #[test]
    fn critical_pods() {
        let pod = |json: &str| serde_json::from_str::<Pod>(json).unwrap();
        assert!(is_critical(&pod(
            r#"{"metadata":{"annotations":{"kubernetes.io/config.source":"file"}}}"#
        )));
        assert!(!is_critical(&pod(
            r#"{"metadata":{"annotations":{"kubernetes.io/config.source":"api"}}}"#
        )));
        let node = pod(
            r#"{"spec":{"containers":[],"priority":2000001000,"priorityClassName":"system-node-critical"}}"#,
        );
        let cluster = pod(
            r#"{"spec":{"containers":[],"priority":2000000000,"priorityClassName":"system-cluster-critical"}}"#,
        );
        assert!(is_node_critical(&node));
        assert!(is_critical(&cluster) && !is_node_critical(&cluster));
    }
}
