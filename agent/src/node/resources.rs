//! Capacity and allocatable of the node. Pure.
//!
//! Allocatable is what pods may ask for: capacity minus `systemReserved`, `kubeReserved` and the hard eviction
//! thresholds; memory also minus huge pages.

use std::collections::BTreeMap;

use gantry_agent_core::quantity::{Format, Quantity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::machine::Machine;
use crate::config::{Settings, Threshold};

/// By resource name.
pub(crate) type Resources = BTreeMap<String, ApiQuantity>;

/// Bytes as Kubernetes writes them, `16Gi`.
pub(super) fn binary(bytes: i64) -> ApiQuantity {
    Quantity::from_value(bytes, Format::BinarySi).into()
}

/// Our capacity; resources of others in `known` (device plugins, operators) are kept.
pub(super) fn capacity(
    machine: &Machine,
    disk_bytes: Option<i64>,
    settings: &Settings,
    known: &Resources,
) -> Resources {
    let mut all: Resources = known
        .iter()
        .filter(|(name, _)| is_foreign(name))
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    let pods = match settings.pods_per_core {
        0 => settings.max_pods,
        per_core => settings.max_pods.min(machine.cpus.saturating_mul(per_core)),
    };
    let decimal = |value: i64| ApiQuantity::from(Quantity::from_value(value, Format::DecimalSi));
    all.insert("cpu".into(), decimal(machine.cpus.into()));
    all.insert("memory".into(), binary(machine.memory_bytes));
    all.insert("pods".into(), decimal(pods.into()));
    if settings.local_storage_capacity_isolation
        && let Some(bytes) = disk_bytes
    {
        all.insert("ephemeral-storage".into(), binary(bytes));
    }
    all.extend(
        machine
            .hugepages
            .iter()
            .map(|(name, bytes)| (name.clone(), binary(*bytes))),
    );
    all
}

/// What pods may use of `capacity`.
pub(super) fn allocatable(capacity: &Resources, settings: &Settings) -> Resources {
    let mut all: Resources = capacity
        .iter()
        .map(|(name, amount)| {
            let total = quantity(amount);
            (name.clone(), rest(total, reserved(name, total, settings)).into())
        })
        .collect();
    let pages = capacity.iter().filter(|(name, _)| name.starts_with("hugepages-"));
    let pages = pages.fold(Quantity::ZERO, |sum, (_, amount)| sum + quantity(amount));
    if let Some(memory) = all.get_mut("memory") {
        *memory = rest(quantity(memory), pages).into();
    }
    all
}

/// What is kept from pods of one resource.
fn reserved(name: &str, total: Quantity, settings: &Settings) -> Quantity {
    let signal = match name {
        "memory" => "memory.available",
        "ephemeral-storage" => "nodefs.available",
        _ => "",
    };
    let threshold = settings.eviction_hard.get(signal);
    let threshold = threshold.and_then(|text| Threshold::parse(signal, text).ok().flatten());
    let threshold = threshold.map(|t| Quantity::from_value(t.of(total.value()), Format::BinarySi));
    threshold
        .into_iter()
        .fold(reserved_for_system(name, settings), |sum, amount| sum + amount)
}

/// `systemReserved` and `kubeReserved` of one resource.
pub(crate) fn reserved_for_system(name: &str, settings: &Settings) -> Quantity {
    let lists = [&settings.system_reserved, &settings.kube_reserved];
    let kept = lists
        .into_iter()
        .filter_map(|list| list.get(name)?.parse::<Quantity>().ok());
    kept.fold(Quantity::ZERO, |sum, amount| sum + amount)
}

/// `total - kept`, not below zero.
fn rest(total: Quantity, kept: Quantity) -> Quantity {
    let left = total - kept;
    if left.milli_value() < 0 {
        Quantity::from_value(0, total.format())
    } else {
        left
    }
}

fn quantity(amount: &ApiQuantity) -> Quantity {
    Quantity::try_from(amount).unwrap_or(Quantity::ZERO)
}

/// An extended resource: not of ours, so it belongs to a device plugin or an operator.
fn is_foreign(name: &str) -> bool {
    let domain = name.split_once('/').map(|(domain, _)| domain);
    domain.is_some_and(|domain| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::settings;

    fn machine() -> Machine {
        Machine {
            cpus: 4,
            memory_bytes: 8 << 30,
            hugepages: BTreeMap::from([("hugepages-2Mi".to_owned(), 1 << 30)]),
            ..Machine::default()
        }
    }

    fn text(resources: &Resources, name: &str) -> String {
        resources
            .get(name)
            .map(|amount| amount.0.clone())
            .unwrap_or_default()
    }

    #[test]
    fn subtracts_reservations_thresholds_and_huge_pages() {
        let settings = settings(
            "systemReserved: {cpu: 200m, memory: 1Gi}\nkubeReserved: {cpu: 100m, ephemeral-storage: 1Gi}\n\
             evictionHard: {memory.available: 100Mi, nodefs.available: 10Gi}",
        );
        let capacity = capacity(&machine(), Some(100 << 30), &settings, &Resources::new());
        assert_eq!(text(&capacity, "cpu"), "4");
        assert_eq!(text(&capacity, "memory"), "8Gi");
        assert_eq!(text(&capacity, "pods"), "110");
        assert_eq!(text(&capacity, "ephemeral-storage"), "100Gi");
        let allocatable = allocatable(&capacity, &settings);
        assert_eq!(text(&allocatable, "cpu"), "3700m");
        assert_eq!(text(&allocatable, "memory"), "6044Mi");
        assert_eq!(text(&allocatable, "ephemeral-storage"), "89Gi");
        assert_eq!(text(&allocatable, "pods"), "110");
        assert_eq!(text(&allocatable, "hugepages-2Mi"), "1Gi");
    }

    #[test]
    fn keeps_resources_of_others_and_never_goes_below_zero() {
        let settings = settings("systemReserved: {cpu: \"64\"}\npodsPerCore: 10");
        let known = Resources::from([
            ("example.com/gpu".to_owned(), ApiQuantity("2".into())),
            ("cpu".to_owned(), ApiQuantity("96".into())),
        ]);
        let capacity = capacity(&machine(), None, &settings, &known);
        assert_eq!(text(&capacity, "example.com/gpu"), "2");
        assert_eq!(text(&capacity, "cpu"), "4");
        assert_eq!(text(&capacity, "pods"), "40");
        let allocatable = allocatable(&capacity, &settings);
        assert_eq!(text(&allocatable, "cpu"), "0");
        assert_eq!(text(&allocatable, "example.com/gpu"), "2");
        assert!(!allocatable.contains_key("ephemeral-storage"));
    }
}
