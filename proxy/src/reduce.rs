//! From the API's objects to the core's words: what cannot be understood is left out, with a word in the log at debug level.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::{Arc, LazyLock};

use gantry_kubeapi::slim;
use gantry_proxy_core::facts::disjoint;
use gantry_proxy_core::{
    Endpoint, EndpointState, Node, NodeHint, Policy, Port, Protocol, Restriction, Service, ServicePort,
    Slice, ZoneSet,
};
use ipnetwork::IpNetwork;
use kube::Resource;
use tracing::warn;

/// A taint that the cluster autoscaler sets before it removes a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// What the API server writes into a service that does not say it.
const DEFAULT_AFFINITY_SECS: u32 = 10_800;
/// The most that it takes.
const MAX_AFFINITY_SECS: u32 = 86_400;

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
    let is_vip = |i: &&slim::IngressAddress| i.ip_mode.as_deref().unwrap_or("VIP") == "VIP";
    let ingress = || object.ingress.iter().filter(is_vip).filter_map(|i| i.ip.as_ref());
    let mut external: Vec<IpAddr> = addresses(object.external_ips.iter().chain(ingress()), ipv6).collect();
    external.sort();
    external.dedup();
    let ranges = source_ranges(&object.source_ranges, ipv6);
    let guarded: Box<[IpAddr]> = addresses(ingress(), ipv6).collect();
    let restriction = (!ranges.is_empty() && !guarded.is_empty()).then(|| {
        Box::new(Restriction {
            addresses: guarded,
            ranges: ranges.into(),
        })
    });
    Some(Service {
        cluster_ip: Some(cluster_ip),
        external_ips: external.into(),
        restriction,
        internal: policy(object.internal_traffic_policy.as_deref()),
        external: policy(object.external_traffic_policy.as_deref()),
        affinity_secs: affinity_secs(object),
        health_check: health_check(object),
        ports: object.ports.iter().filter_map(service_port).collect(),
    })
}

/// The port is for load balancers that send to nodes with endpoints only (`NeedsHealthCheck` of the reference).
fn health_check(object: &slim::Service) -> Option<NonZeroU16> {
    let wanted = object.service_type.as_deref() == Some("LoadBalancer")
        && object.external_traffic_policy.as_deref() == Some("Local");
    object
        .health_check_node_port
        .filter(|_| wanted)
        .and_then(port_number)
}

/// The ranges of a family; none is everybody, which is also what the range of all addresses means. What is not a range is left out,
/// as by the reference: the API server takes none.
fn source_ranges(list: &[String], ipv6: bool) -> Vec<IpNetwork> {
    let trimmed = list
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty());
    let parsed = trimmed.filter_map(|text| {
        let range = text
            .split_once('/')
            .and_then(|(ip, bits)| IpNetwork::new(address(ip)?, bits.parse().ok()?).ok());
        if range.is_none() {
            warn!(range = text, "not a source range; left out");
        }
        range.filter(|range| range.is_ipv6() == ipv6)
    });
    let ranges = disjoint(parsed);
    if ranges.iter().any(|range| range.prefix() == 0) {
        return Vec::new();
    }
    ranges
}

/// For how long clients stay with an endpoint, if they do.
fn affinity_secs(object: &slim::Service) -> Option<NonZeroU32> {
    if object.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let configured = object
        .affinity_timeout_secs
        .and_then(|secs| u32::try_from(secs).ok());
    NonZeroU32::new(
        configured
            .unwrap_or(DEFAULT_AFFINITY_SECS)
            .clamp(1, MAX_AFFINITY_SECS),
    )
}

/// The valid addresses of a family in a list.
fn addresses<'a>(list: impl Iterator<Item = &'a String>, ipv6: bool) -> impl Iterator<Item = IpAddr> {
    list.filter_map(|text| {
        let ip = address(text);
        if ip.is_none() && !text.trim().is_empty() {
            warn!(address = text, "not an address; left out");
        }
        ip
    })
    .filter(move |ip| ip.is_ipv6() == ipv6)
}

fn policy(text: Option<&str>) -> Policy {
    if text == Some("Local") {
        Policy::Local
    } else {
        Policy::Cluster
    }
}

/// A protocol by its name in the API; TCP without one.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    Protocol::from_name(text.unwrap_or("TCP"))
}

fn port_number(number: i32) -> Option<NonZeroU16> {
    let valid = u16::try_from(number).ok().and_then(NonZeroU16::new);
    if valid.is_none() {
        warn!(number, "not a port number; left out");
    }
    valid
}

fn service_port(port: &slim::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port_name(port.name.as_deref().unwrap_or_default()),
        protocol: protocol(port.protocol.as_deref())?,
        port: port_number(port.port)?,
        // Zero is the API's way to say that there is none.
        node_port: port.node_port.filter(|n| *n != 0).and_then(port_number),
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
    let mut zone_sets = Vec::new();
    let endpoints = object
        .endpoints
        .iter()
        .filter_map(|e| {
            let mut reduced = endpoint(e, own_node, ipv6)?;
            (reduced.node_hint, reduced.zones) = hints(e, own_node, &mut zone_sets);
            Some(reduced)
        })
        .collect();
    Some(Slice {
        ports: object.ports.iter().filter_map(slice_port).collect(),
        endpoints,
        zone_sets: zone_sets.into(),
    })
}

/// An endpoint's hints; the zones become a set of the slice.
fn hints(
    endpoint: &slim::Endpoint,
    own_node: &str,
    zone_sets: &mut Vec<ZoneSet>,
) -> (NodeHint, Option<NonZeroU16>) {
    let Some(hints) = &endpoint.hints else {
        return (NodeHint::Nobody, None);
    };
    let node = match hints.for_nodes.as_slice() {
        [] => NodeHint::Nobody,
        nodes if nodes.iter().any(|node| node.name == own_node) => NodeHint::ThisNode,
        _ => NodeHint::OtherNodes,
    };
    if hints.for_zones.is_empty() {
        return (node, None);
    }
    let names = || hints.for_zones.iter().map(|zone| zone.name.as_str());
    let known = zone_sets
        .iter()
        .position(|set| set.iter().map(AsRef::as_ref).eq(names()));
    let position = known.unwrap_or_else(|| {
        zone_sets.push(names().map(Arc::from).collect());
        zone_sets.len() - 1
    });
    (node, u16::try_from(position + 1).ok().and_then(NonZeroU16::new))
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
    let address = address(text).filter(|ip| ip.is_ipv6() == ipv6 && may_be_endpoint(*ip));
    if address.is_none() {
        warn!(
            address = text,
            "endpoint left out: no address of its slice's family that can be reached"
        );
    }
    let local = !own_node.is_empty() && endpoint.node_name.as_deref() == Some(own_node);
    Some(Endpoint::new(address?, state, local))
}

/// What no pod can have as seen from another host: the API server refuses such addresses, and the kernel would send packets to
/// places that nobody meant.
fn may_be_endpoint(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

/// An address as Go reads it: octets of IPv4 may have leading zeros, and an IPv4 address written as IPv6 is one of IPv4.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let octets: Vec<&str> = text
        .split('.')
        .map(|octet| match octet.trim_start_matches('0') {
            "" if !octet.is_empty() => "0",
            digits => digits,
        })
        .collect();
    octets.join(".").parse().map(IpAddr::V4).ok()
}

/// A node.
pub fn node(object: &slim::Node) -> Node {
    let of_type = |wanted: &'static str| {
        let matching = object.addresses.iter().filter(move |a| a.r#type == wanted);
        matching.filter_map(|a| address(&a.address))
    };
    Node {
        pod_ranges: networks(&object.pod_cidrs),
        addresses: of_type("InternalIP").chain(of_type("ExternalIP")).collect(),
        leaving: object.deleting || object.taints.iter().any(|taint| taint == TO_BE_DELETED),
        zone: object.zone.as_deref().map(Arc::from),
    }
}

/// The valid networks in a list.
pub fn networks(list: &[String]) -> Vec<IpNetwork> {
    list.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
