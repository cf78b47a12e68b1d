//! Service.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::Identity;

/// A Service, as far as it decides about packets. Field names are the API's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Service {
    /// Name, namespace, resource version.
    pub metadata: ObjectMeta,
    /// `spec.type`; `ClusterIP` if absent.
    pub service_type: Option<String>,
    /// `spec.clusterIP`; `None` for headless ones.
    pub cluster_ip: Option<String>,
    /// `spec.clusterIPs`, one for each family.
    pub cluster_ips: Vec<String>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<String>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<String>,
    /// `status.loadBalancer.ingress`.
    pub ingress: Vec<IngressAddress>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: Option<String>,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: Option<String>,
    /// `spec.sessionAffinity`.
    pub session_affinity: Option<String>,
    /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds`.
    pub affinity_timeout_secs: Option<i32>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<i32>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// `spec.ports[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name; absent if there is one port only.
    pub name: Option<String>,
    /// `TCP` if absent.
    pub protocol: Option<String>,
    /// The port on the service's addresses.
    pub port: i32,
    /// The port on node addresses.
    pub node_port: Option<i32>,
}

/// `status.loadBalancer.ingress[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressAddress {
    /// The address, if the load balancer has one.
    pub ip: Option<String>,
    /// `VIP` if absent; `Proxy` addresses are not for the node.
    pub ip_mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    metadata: Identity,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
    load_balancer_source_ranges: Vec<String>,
    internal_traffic_policy: Option<String>,
    external_traffic_policy: Option<String>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    health_check_node_port: Option<i32>,
    ports: Vec<ServicePort>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIpConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientIpConfig {
    timeout_seconds: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<IngressAddress>,
}

impl From<Wire> for Service {
    fn from(wire: Wire) -> Self {
        Self {
            metadata: wire.metadata.into(),
            service_type: wire.spec.r#type,
            cluster_ip: wire.spec.cluster_ip,
            cluster_ips: wire.spec.cluster_ips,
            external_ips: wire.spec.external_ips,
            source_ranges: wire.spec.load_balancer_source_ranges,
            ingress: wire.status.load_balancer.ingress,
            internal_traffic_policy: wire.spec.internal_traffic_policy,
            external_traffic_policy: wire.spec.external_traffic_policy,
            session_affinity: wire.spec.session_affinity,
            affinity_timeout_secs: wire
                .spec
                .session_affinity_config
                .and_then(|config| config.client_ip)
                .and_then(|config| config.timeout_seconds),
            health_check_node_port: wire.spec.health_check_node_port,
            ports: wire.spec.ports,
        }
    }
}

super::resource!(Service, NamespaceResourceScope, "Service", "", "services");
