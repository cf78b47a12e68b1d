//! Resources reduced to what a node's network needs, for watches over all of a kind.
//!
//! A full Service or EndpointSlice costs some 10 KiB, two thirds of it `managedFields`; these cost less than 1 KiB and decode
//! several times faster. Each implements [`kube::Resource`], so that `kube::Api` and `kube::runtime::watcher` take them. Their
//! `metadata` has name, namespace and resource version only; what else matters is a field of its own.

mod node;
mod pod;
mod service;
mod slice;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

pub use node::{Node, NodeAddress, ServiceCidr};
pub use pod::{ContainerPort, Namespace, Pod};
pub use service::{IngressAddress, Service, ServicePort};
pub use slice::{Conditions, Endpoint, EndpointSlice, Hint, Hints, SlicePort};

/// The metadata that every watch needs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl From<Identity> for ObjectMeta {
    fn from(identity: Identity) -> Self {
        Self {
            name: identity.name,
            namespace: identity.namespace,
            resource_version: identity.resource_version,
            ..Self::default()
        }
    }
}

/// Makes a slim type a resource of the API.
macro_rules! resource {
    ($type:ty, $scope:ty, $kind:literal, $group:literal, $plural:literal) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
use resource;

#[cfg(test)]
mod tests;
