//! The core's words as objects of the API, for a program that reads those.

use std::net::IpAddr;

use gantry_proxy_core::{Endpoint, EndpointState, NodeFacts, NodeHint, Policy, Protocol, Service, Slice};
use serde_json::{Value, json};

/// The node's name.
pub(crate) const NODE: &str = "node";

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Cluster => "Cluster",
        Policy::Local => "Local",
    }
}

pub(crate) fn service(service: &Service) -> Value {
    let restriction = service.restriction.as_deref();
    let balanced = |ip: &&IpAddr| restriction.is_some_and(|r| r.addresses.contains(ip));
    let external: Vec<_> = service.external_ips.iter().filter(|ip| !balanced(ip)).collect();
    let ingress = service.external_ips.iter().filter(balanced);
    let ingress: Vec<_> = ingress.map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
    let ports = service.ports.iter().map(|port| {
        json!({
            "name": &*port.name,
            "protocol": protocol(port.protocol),
            "port": port.port,
            "nodePort": port.node_port.map_or(0, u16::from),
        })
    });
    let has_node_ports = service.ports.iter().any(|port| port.node_port.is_some());
    let ipv6 = service.cluster_ip.is_some_and(|ip| ip.is_ipv6());
    let mut spec = json!({
        "type": if restriction.is_some() { "LoadBalancer" } else if has_node_ports { "NodePort" } else { "ClusterIP" },
        "clusterIP": service.cluster_ip,
        "clusterIPs": service.cluster_ip.as_slice(),
        "ipFamilies": [if ipv6 { "IPv6" } else { "IPv4" }],
        "ipFamilyPolicy": "SingleStack",
        "externalIPs": external,
        "internalTrafficPolicy": policy(service.internal),
        "externalTrafficPolicy": policy(service.external),
        "sessionAffinity": "None",
        "ports": ports.collect::<Vec<_>>(),
    });
    if let Some(secs) = service.affinity_secs {
        spec["sessionAffinity"] = "ClientIP".into();
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": secs}});
    }
    if let Some(restriction) = restriction {
        spec["loadBalancerSourceRanges"] = restriction.ranges.iter().map(ToString::to_string).collect();
    }
    json!({"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}})
}

/// A slice of a service; `ipv6` decides for one without endpoints.
pub(crate) fn slice(of: &str, slice: &Slice, ipv6: bool) -> Value {
    let ipv6 = slice.endpoints.first().map_or(ipv6, |e| e.address.is_ipv6());
    let ports = slice
        .ports
        .iter()
        .map(|port| json!({"name": &*port.name, "protocol": protocol(port.protocol), "port": port.port}));
    let endpoints = slice.endpoints.iter().map(|one| endpoint(one, slice));
    json!({
        "metadata": {"labels": {"kubernetes.io/service-name": of.split_once('/').map_or(of, |(_, name)| name)}},
        "addressType": if ipv6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
    })
}

fn endpoint(endpoint: &Endpoint, slice: &Slice) -> Value {
    let ready = endpoint.state == EndpointState::Ready;
    let nodes: &[&str] = match endpoint.node_hint {
        NodeHint::Nobody => &[],
        NodeHint::OtherNodes => &["another"],
        NodeHint::ThisNode => &[NODE],
    };
    let zones = endpoint.zones.and_then(|number| slice.zone_set(number));
    let zones = zones.map_or(&[][..], |zones| zones);
    let mut object = json!({
        "addresses": [endpoint.address],
        "conditions": {"ready": ready, "serving": true, "terminating": !ready},
        "nodeName": if endpoint.local { NODE } else { "another" },
    });
    if !nodes.is_empty() || !zones.is_empty() {
        object["hints"] = json!({
            "forNodes": nodes.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "forZones": zones.iter().map(|name| json!({"name": &**name})).collect::<Vec<_>>(),
        });
    }
    object
}

pub(crate) fn node(facts: &NodeFacts) -> Value {
    let zone = facts
        .zone
        .as_deref()
        .map(|zone| json!({"topology.kubernetes.io/zone": zone}));
    let addresses = facts.node_addresses.iter();
    json!({
        "metadata": {"labels": zone},
        "spec": {"podCIDRs": facts.pod_ranges},
        "status": {"addresses": addresses.map(|ip| json!({"type": "InternalIP", "address": ip})).collect::<Vec<_>>()},
    })
}

pub(crate) fn service_cidr(facts: &NodeFacts) -> Value {
    json!({"spec": {"cidrs": facts.service_ranges}})
}
