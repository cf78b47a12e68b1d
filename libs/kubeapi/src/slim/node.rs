//! Node and ServiceCIDR.

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::Identity;

/// A Node, as far as other nodes' networks need it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "WireNode")]
pub struct Node {
    /// Name and resource version.
    pub metadata: ObjectMeta,
    /// True if it is being deleted.
    pub deleting: bool,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// `spec.podCIDRs`, one for each family.
    pub pod_cidrs: Vec<String>,
    /// Keys of `spec.taints`.
    pub taints: Vec<String>,
    /// `status.addresses`.
    pub addresses: Vec<NodeAddress>,
}

/// `status.addresses[]`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname` and others.
    pub r#type: String,
    /// An address or a name.
    pub address: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireNode {
    metadata: NodeMetadata,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeMetadata {
    name: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<String>,
    labels: NodeLabels,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeLabels {
    #[serde(rename = "topology.kubernetes.io/zone")]
    zone: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    taints: Vec<Taint>,
}

#[derive(Deserialize)]
struct Taint {
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
}

impl From<WireNode> for Node {
    fn from(wire: WireNode) -> Self {
        let NodeMetadata {
            name,
            resource_version,
            deletion_timestamp,
            labels,
        } = wire.metadata;
        Self {
            metadata: Identity {
                name,
                namespace: None,
                resource_version,
            }
            .into(),
            deleting: deletion_timestamp.is_some(),
            zone: labels.zone,
            pod_cidrs: wire.spec.pod_cidrs,
            taints: wire.spec.taints.into_iter().map(|taint| taint.key).collect(),
            addresses: wire.status.addresses,
        }
    }
}

/// A ServiceCIDR: where ClusterIPs come from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "WireServiceCidr")]
pub struct ServiceCidr {
    /// Name and resource version.
    pub metadata: ObjectMeta,
    /// `spec.cidrs`.
    pub cidrs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireServiceCidr {
    metadata: Identity,
    spec: ServiceCidrSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServiceCidrSpec {
    cidrs: Vec<String>,
}

impl From<WireServiceCidr> for ServiceCidr {
    fn from(wire: WireServiceCidr) -> Self {
        Self {
            metadata: wire.metadata.into(),
            cidrs: wire.spec.cidrs,
        }
    }
}

super::resource!(Node, ClusterResourceScope, "Node", "", "nodes");
super::resource!(
    ServiceCidr,
    ClusterResourceScope,
    "ServiceCIDR",
    "networking.k8s.io",
    "servicecidrs"
);
