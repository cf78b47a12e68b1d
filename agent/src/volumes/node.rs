//! What volumes need to know of the node's and the pod's resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_agent_core::quantity::Quantity;
use gantry_agent_core::resources::{Amounts, amounts, pod_limits};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// `node.status.allocatable`: the limit of a container that has none.
pub(crate) type Allocatable = Arc<BTreeMap<String, ApiQuantity>>;

/// The node's resources at the time of a pass.
pub(super) struct NodeResources {
    pub(super) allocatable: Amounts,
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
}
