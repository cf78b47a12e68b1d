//! EndpointSlice.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

use super::Identity;

/// An EndpointSlice, as far as it decides about packets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct EndpointSlice {
    /// Name, namespace, resource version.
    pub metadata: ObjectMeta,
    /// The service it belongs to: label `kubernetes.io/service-name`.
    pub service_name: Option<String>,
    /// When the change happened that led to this version, RFC 3339: annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time`.
    pub trigger_time: Option<String>,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
    /// `ports`.
    pub ports: Vec<SlicePort>,
}

/// `endpoints[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// The first one is used.
    pub addresses: Vec<String>,
    /// `conditions`.
    pub conditions: Conditions,
    /// Where it runs.
    pub node_name: Option<String>,
    /// For whom it is meant.
    pub hints: Option<Hints>,
}

/// `endpoints[].hints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// `forZones`.
    #[serde(deserialize_with = "null_is_empty")]
    pub for_zones: Vec<Hint>,
    /// `forNodes`.
    #[serde(deserialize_with = "null_is_empty")]
    pub for_nodes: Vec<Hint>,
}

/// A zone or a node in a hint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// Its name.
    pub name: String,
}

/// `endpoints[].conditions`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// True if absent.
    pub ready: Option<bool>,
    /// True if absent.
    pub serving: Option<bool>,
    /// False if absent.
    pub terminating: Option<bool>,
}

/// `ports[]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    /// The name of the service's port.
    pub name: Option<String>,
    /// `TCP` if absent.
    pub protocol: Option<String>,
    /// The port on the endpoints.
    pub port: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    metadata: Metadata,
    address_type: String,
    #[serde(deserialize_with = "null_is_empty")]
    endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "null_is_empty")]
    ports: Vec<SlicePort>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "kubernetes.io/service-name")]
    service_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    trigger_time: Option<String>,
}

/// The API writes `null` for an empty list that it requires.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl From<Wire> for EndpointSlice {
    fn from(wire: Wire) -> Self {
        let Metadata {
            name,
            namespace,
            resource_version,
            labels,
            annotations,
        } = wire.metadata;
        Self {
            metadata: Identity {
                name,
                namespace,
                resource_version,
            }
            .into(),
            service_name: labels.service_name,
            trigger_time: annotations.trigger_time,
            address_type: wire.address_type,
            endpoints: wire.endpoints,
            ports: wire.ports,
        }
    }
}

super::resource!(
    EndpointSlice,
    NamespaceResourceScope,
    "EndpointSlice",
    "discovery.k8s.io",
    "endpointslices"
);
