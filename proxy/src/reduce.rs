//! From the API's objects to the core's words: what cannot be understood is left out, with a word in the log at debug level.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock, Once};

use gantry_kubeapi::slim;
use gantry_proxy_core::{Endpoint, EndpointState, Node, Policy, Port, Protocol, Service, ServicePort, Slice};
use ipnetwork::IpNetwork;
use kube::Resource;
use tracing::{debug, warn};

/// A taint that the cluster autoscaler sets before it removes a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// `namespace/name`.
pub fn key(object: &impl Resource<DynamicType = ()>) -> Arc<str> {
    let meta = object.meta();
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default()).into()
}

/// A service in one family; `None` if it has no address there: headless, external names, other families.
pub fn service(object: &slim::Service, ipv6: bool) -> Option<Service> {
    if object.service_type.as_deref() == Some("ExternalName") {
        return None;
    }
    let all = if object.cluster_ips.is_empty() {
        object.cluster_ip.as_slice()
    } else {
        &object.cluster_ips
    };
    let cluster_ip = addresses(all.iter(), ipv6).next()?;
    remark(object);
    // TODO(#5): source ranges. Until then an address that only some may reach is not served at all.
    let open = object.source_ranges.is_empty();
    let is_vip = |i: &&slim::IngressAddress| open && i.ip_mode.as_deref().unwrap_or("VIP") == "VIP";
    let ingress = object.ingress.iter().filter(is_vip).filter_map(|i| i.ip.as_ref());
    let mut external: Vec<IpAddr> = addresses(object.external_ips.iter().chain(ingress), ipv6).collect();
    external.sort();
    external.dedup();
    Some(Service {
        cluster_ip: Some(cluster_ip),
        external_ips: external.into(),
        internal: policy(object.internal_traffic_policy.as_deref()),
        external: policy(object.external_traffic_policy.as_deref()),
        ports: object.ports.iter().filter_map(service_port).collect(),
    })
}

/// Names once what a service asks for and does not get.
fn remark(object: &slim::Service) {
    static AFFINITY: Once = Once::new();
    static SOURCE_RANGES: Once = Once::new();
    let service = || key(object);
    // TODO(#5): session affinity.
    if object.session_affinity.as_deref() == Some("ClientIP") {
        AFFINITY.call_once(|| warn!(service = %service(), "sessionAffinity is not honoured yet"));
    }
    if !object.source_ranges.is_empty() {
        SOURCE_RANGES.call_once(|| {
            warn!(service = %service(), "load balancer addresses with loadBalancerSourceRanges are not served yet");
        });
    }
}

/// The valid addresses of a family in a list.
fn addresses<'a>(list: impl Iterator<Item = &'a String>, ipv6: bool) -> impl Iterator<Item = IpAddr> {
    list.filter_map(|text| text.parse::<IpAddr>().ok())
        .filter(move |ip| ip.is_ipv6() == ipv6)
}

fn policy(text: Option<&str>) -> Policy {
    if text == Some("Local") {
        Policy::Local
    } else {
        Policy::Cluster
    }
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    Protocol::from_name(text.unwrap_or("TCP"))
}

fn port_number(number: i32) -> Option<NonZeroU16> {
    u16::try_from(number).ok().and_then(NonZeroU16::new)
}

fn service_port(port: &slim::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port_name(port.name.as_deref().unwrap_or_default()),
        protocol: protocol(port.protocol.as_deref())?,
        port: port_number(port.port)?,
        node_port: port.node_port.and_then(port_number),
    })
}

/// Most ports have one of a few names: these are not stored again for each.
fn port_name(name: &str) -> Arc<str> {
    static COMMON: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
        [
            "", "http", "https", "tcp", "udp", "dns", "dns-tcp", "metrics", "grpc", "web",
        ]
        .map(Arc::from)
        .into()
    });
    let known = COMMON.iter().find(|common| common.as_ref() == name);
    known.cloned().unwrap_or_else(|| name.into())
}

/// The service that a slice belongs to; `None` if it belongs to none.
pub fn slice_service(object: &slim::EndpointSlice) -> Option<Arc<str>> {
    let name = object.service_name.as_deref().filter(|name| !name.is_empty())?;
    Some(
        format!(
            "{}/{name}",
            object.metadata.namespace.as_deref().unwrap_or_default()
        )
        .into(),
    )
}

/// A slice of one family; `None` for others.
pub fn slice(object: &slim::EndpointSlice, own_node: &str, ipv6: bool) -> Option<Slice> {
    let wanted = if ipv6 { "IPv6" } else { "IPv4" };
    if object.address_type != wanted {
        return None;
    }
    Some(Slice {
        ports: object.ports.iter().filter_map(slice_port).collect(),
        endpoints: object
            .endpoints
            .iter()
            .filter_map(|e| endpoint(e, own_node, ipv6))
            .collect(),
    })
}

/// Ports without a name or number are skipped, as by the reference.
fn slice_port(port: &slim::SlicePort) -> Option<Port> {
    Some(Port {
        name: port_name(port.name.as_deref()?),
        protocol: protocol(port.protocol.as_deref())?,
        port: port_number(port.port?)?,
    })
}

fn endpoint(endpoint: &slim::Endpoint, own_node: &str, ipv6: bool) -> Option<Endpoint> {
    let conditions = endpoint.conditions;
    let state = if conditions.ready.unwrap_or(true) {
        EndpointState::Ready
    } else if conditions.serving.unwrap_or(true) && conditions.terminating.unwrap_or(false) {
        EndpointState::ServingTerminating
    } else {
        return None;
    };
    let text = endpoint.addresses.first()?;
    let address = text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv6() == ipv6);
    if address.is_none() {
        debug!(address = text, "endpoint left out: no address of its family");
    }
    let local = !own_node.is_empty() && endpoint.node_name.as_deref() == Some(own_node);
    Some(Endpoint {
        address: address?,
        state,
        local,
    })
}

/// A node.
pub fn node(object: &slim::Node) -> Node {
    let of_type = |wanted: &'static str| {
        let matching = object.addresses.iter().filter(move |a| a.r#type == wanted);
        matching.filter_map(|a| a.address.parse::<IpAddr>().ok())
    };
    Node {
        pod_ranges: networks(&object.pod_cidrs),
        addresses: of_type("InternalIP").chain(of_type("ExternalIP")).collect(),
        leaving: object.deleting || object.taints.iter().any(|taint| taint == TO_BE_DELETED),
    }
}

/// The valid networks in a list.
pub fn networks(list: &[String]) -> Vec<IpNetwork> {
    list.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice_of(conditions: serde_json::Value) -> Slice {
        let object = serde_json::from_value(json!({
            "metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"name": "", "port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "me", "conditions": conditions}],
        }))
        .unwrap();
        slice(&object, "me", false).unwrap()
    }

    #[test]
    fn conditions_decide_about_an_endpoint() {
        let state = |conditions| slice_of(conditions).endpoints.first().map(|e| e.state);
        assert_eq!(state(json!({})), Some(EndpointState::Ready));
        assert_eq!(state(json!({"ready": false})), None);
        assert_eq!(
            state(json!({"ready": false, "serving": true, "terminating": true})),
            Some(EndpointState::ServingTerminating)
        );
        assert_eq!(
            state(json!({"ready": false, "serving": false, "terminating": true})),
            None
        );
        // publishNotReadyAddresses: the slice says ready.
        assert_eq!(
            state(json!({"ready": true, "terminating": true})),
            Some(EndpointState::Ready)
        );
        assert!(slice_of(json!({})).endpoints[0].local);
    }

    #[test]
    fn restricted_load_balancer_addresses_are_not_served_openly() {
        let parse = |ranges: &[&str]| {
            let object: slim::Service = serde_json::from_value(json!({
                "spec": {"clusterIP": "10.0.0.1", "loadBalancerSourceRanges": ranges},
                "status": {"loadBalancer": {"ingress": [
                    {"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "lb"}]}},
            }))
            .unwrap();
            service(&object, false).unwrap().external_ips
        };
        assert_eq!(*parse(&[]), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert!(parse(&["10.0.0.0/8"]).is_empty());
    }

    #[test]
    fn services_without_an_address_are_left_out() {
        let parse = |spec| serde_json::from_value::<slim::Service>(json!({"spec": spec})).unwrap();
        assert_eq!(service(&parse(json!({"clusterIP": "None"})), false), None);
        assert_eq!(
            service(
                &parse(json!({"type": "ExternalName", "clusterIP": "10.0.0.1"})),
                false
            ),
            None
        );
        assert_eq!(service(&parse(json!({"clusterIPs": ["fd00::1"]})), false), None);
        let both = parse(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
            "ports": [{"port": 80, "nodePort": 30000}, {"port": 0}, {"port": 1, "protocol": "X"}]}),
        );
        let v4 = service(&both, false).unwrap();
        assert_eq!(
            (v4.cluster_ip, v4.ports.len()),
            (Some("10.0.0.1".parse().unwrap()), 1)
        );
        assert_eq!(
            service(&both, true).unwrap().cluster_ip,
            Some("fd00::1".parse().unwrap())
        );
    }
}
