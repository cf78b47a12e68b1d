//! Pod and Namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use serde::Deserialize;

use super::{Identity, resource};

/// A Pod, as far as network policies look at it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "WirePod")]
pub struct Pod {
    /// Name, namespace and resource version.
    pub metadata: ObjectMeta,
    /// `metadata.uid`; of a mirror pod that of the static pod, which its sandbox has.
    pub uid: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.nodeName`.
    pub node_name: Option<String>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Ports of its containers, sidecars included.
    pub ports: Vec<ContainerPort>,
    /// `status.phase`.
    pub phase: Option<String>,
    /// `status.podIPs`.
    pub pod_ips: Vec<String>,
}

/// `spec.containers[].ports[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// TCP if absent.
    pub protocol: Option<String>,
    /// Its number.
    pub container_port: i32,
}

/// A Namespace, as far as selectors look at it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "WireNamespace")]
pub struct Namespace {
    /// Name and resource version.
    pub metadata: ObjectMeta,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WirePod {
    metadata: Labelled,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireNamespace {
    metadata: Labelled,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Labelled {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    uid: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    ports: Vec<ContainerPort>,
    restart_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

impl Labelled {
    fn split(self) -> (ObjectMeta, BTreeMap<String, String>) {
        let identity = Identity {
            name: self.name,
            namespace: self.namespace,
            resource_version: self.resource_version,
        };
        (identity.into(), self.labels)
    }
}

impl From<WirePod> for Pod {
    fn from(mut wire: WirePod) -> Self {
        let uid = wire.metadata.annotations.mirror.take();
        let uid = uid.or_else(|| wire.metadata.uid.take());
        let (metadata, labels) = wire.metadata.split();
        let sidecars = wire.spec.init_containers.into_iter();
        let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        let containers = wire.spec.containers.into_iter().chain(sidecars);
        Self {
            metadata,
            uid,
            labels,
            node_name: wire.spec.node_name,
            host_network: wire.spec.host_network,
            ports: containers.flat_map(|one| one.ports).collect(),
            phase: wire.status.phase,
            pod_ips: wire.status.pod_ips.into_iter().map(|one| one.ip).collect(),
        }
    }
}

impl From<WireNamespace> for Namespace {
    fn from(wire: WireNamespace) -> Self {
        let (metadata, labels) = wire.metadata.split();
        Self { metadata, labels }
    }
}

resource!(Pod, NamespaceResourceScope, "Pod", "", "pods");
resource!(Namespace, ClusterResourceScope, "Namespace", "", "namespaces");
