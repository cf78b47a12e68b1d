//! What volumes need to know of the node's and the pod's resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_agent_core::quantity::Quantity;
use gantry_agent_core::resources::{Amounts, amounts, pod_limits};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// `node.status.allocatable`: the limit of a container that has none.
pub type Allocatable = Arc<BTreeMap<String, ApiQuantity>>;

/// The node's resources at the time of a pass.
pub(super) struct NodeResources {
    allocatable: Amounts,
}

impl NodeResources {
    pub(super) fn new(allocatable: Allocatable) -> Self {
        Self {
            allocatable: amounts(Some(&allocatable)),
        }
    }

    /// The size of a volume in memory, in bytes: the least of its own limit, the pod's and the node's.
    pub(super) fn memory_volume_bytes(&self, pod: &Pod, own: Option<&ApiQuantity>) -> Option<u64> {
        let own = own.and_then(|text| text.0.parse::<Quantity>().ok());
        let pod = pod
            .spec
            .as_ref()
            .and_then(|spec| pod_limits(spec).get("memory").copied());
        let node = self.allocatable.get("memory").copied();
        let positive = |amount: Quantity| u64::try_from(amount.value()).ok().filter(|bytes| *bytes > 0);
        [own, pod, node].into_iter().flatten().filter_map(positive).min()
    }

    /// A container's resource as the downward API shows it: in units of the divisor, rounded up. A limit that is not
    /// set is the node's (`pkg/api/v1/resource`).
    pub(super) fn field_text(&self, pod: &Pod, field: &ResourceFieldSelector) -> Result<String, String> {
        let name = field.container_name.as_deref().unwrap_or_default();
        let container = find(pod, name).ok_or_else(|| format!("container {name} not found"))?;
        let resources = container.resources.clone().unwrap_or_default();
        let unsupported = || format!("unsupported container resource : {}", field.resource);
        let (list, resource) = field.resource.split_once('.').ok_or_else(unsupported)?;
        if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !resource.starts_with("hugepages-")
        {
            return Err(unsupported());
        }
        let amount = match list {
            "limits" => {
                let limit = amounts(resources.limits.as_ref()).get(resource).copied();
                limit.or_else(|| self.allocatable.get(resource).copied())
            }
            "requests" => amounts(resources.requests.as_ref()).get(resource).copied(),
            _ => return Err(unsupported()),
        };
        let divisor = field
            .divisor
            .as_ref()
            .and_then(|text| text.0.parse::<Quantity>().ok())
            .unwrap_or_default();
        Ok(amount.unwrap_or_default().divided_by(divisor).to_string())
    }
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|container| container.name == name)
}
