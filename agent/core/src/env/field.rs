//! `fieldRef` and `resourceFieldRef`: the pod's own facts as values.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceFieldSelector};

use super::{EnvError, Facts};
use crate::quantity::Quantity;
use crate::resources::amounts;

/// The value of a field path.
///
/// # Errors
/// When the path is none that the downward API offers.
pub fn field_value(path: &str, facts: Facts<'_>) -> Result<String, EnvError> {
    let metadata = &facts.pod.metadata;
    let default = PodSpec::default();
    let spec = facts.pod.spec.as_ref().unwrap_or(&default);
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let all = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(EnvError::FieldPath(path.to_owned())),
        };
        return Ok(map
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "spec.nodeName" => text(&spec.node_name),
        "spec.serviceAccountName" => text(&spec.service_account_name),
        "status.hostIP" => first(facts.host_ips),
        "status.hostIPs" => all(facts.host_ips),
        "status.podIP" => first(facts.pod_ips),
        "status.podIPs" => all(facts.pod_ips),
        _ => return Err(EnvError::FieldPath(path.to_owned())),
    })
}

/// `metadata.labels['key']` as its map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    (!map.is_empty()).then_some((map, key))
}

/// A request or limit divided by the selector's divisor, rounded up. A limit that is not set is the pod's, else
/// what the node can allocate.
///
/// # Errors
/// When the selector names no resource or no container of the pod.
pub fn resource_value(
    selector: &ResourceFieldSelector,
    container: &Container,
    facts: Facts<'_>,
) -> Result<String, EnvError> {
    let default = PodSpec::default();
    let spec = facts.pod.spec.as_ref().unwrap_or(&default);
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => container,
        Some(name) => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|c| c.name == name)
            .ok_or_else(|| EnvError::ContainerNotFound(name.to_owned()))?,
    };
    let unsupported = || EnvError::Resource(selector.resource.clone());
    let (list, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
    if !known && !resource.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let amount = match list {
        "requests" => amounts(resources.and_then(|r| r.requests.as_ref()))
            .get(resource)
            .copied(),
        "limits" => {
            let own = amounts(resources.and_then(|r| r.limits.as_ref()))
                .get(resource)
                .copied();
            let own = own.filter(|q| !known || !q.is_zero());
            own.or_else(|| {
                if known {
                    fallback_limit(resource, spec, facts)
                } else {
                    None
                }
            })
        }
        _ => return Err(unsupported()),
    };
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|q| Quantity::try_from(q).ok())
        .unwrap_or_default();
    Ok(amount.unwrap_or_default().divided_by(divisor).to_string())
}

fn fallback_limit(resource: &str, spec: &PodSpec, facts: Facts<'_>) -> Option<Quantity> {
    let pod = amounts(spec.resources.as_ref().and_then(|r| r.limits.as_ref()));
    let pod = pod
        .get(resource)
        .copied()
        .filter(|q| resource != "ephemeral-storage" && !q.is_zero());
    pod.or_else(|| facts.allocatable.get(resource).copied())
}
