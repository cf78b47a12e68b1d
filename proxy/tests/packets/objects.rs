//! Services and slices for tests.

use std::net::IpAddr;
use std::num::NonZeroU16;

use gantry_proxy_core::{
    Endpoint, EndpointState, Event, Policy, Port, Protocol, Service, ServicePort, Slice,
};

pub(crate) const A: &str = "10.244.1.10";
pub(crate) const B: &str = "10.244.1.11";
/// A pod of another node that does not exist.
pub(crate) const REMOTE: &str = "10.244.2.7";

/// A service `default/web` at 10.96.0.1:80 and node port 30080, TCP and UDP.
pub(crate) fn web() -> Service {
    let port = |name: &str, protocol| ServicePort {
        name: name.into(),
        protocol,
        port: number(80),
        node_port: Some(number(30080)),
    };
    Service {
        cluster_ip: Some("10.96.0.1".parse().unwrap()),
        ports: [port("tcp", Protocol::Tcp), port("udp", Protocol::Udp)].into(),
        ..Service::default()
    }
}

/// The same with a policy for outside traffic.
pub(crate) fn web_external(external: Policy) -> Service {
    Service { external, ..web() }
}

pub(crate) fn service(service: Service) -> Event {
    Event::Service("default/web".into(), service)
}

/// Ready endpoints of `default/web`: those of this node's range are local.
pub(crate) fn endpoints(addresses: &[&str]) -> Event {
    let all: Vec<_> = addresses.iter().map(|a| (*a, EndpointState::Ready)).collect();
    endpoints_in(&all)
}

pub(crate) fn endpoints_in(endpoints: &[(&str, EndpointState)]) -> Event {
    let port = |name: &str, protocol| Port {
        name: name.into(),
        protocol,
        port: number(8080),
    };
    let endpoint = |(address, state): &(&str, EndpointState)| {
        let address: IpAddr = address.parse().unwrap();
        let text = address.to_string();
        let local = ["10.244.1.", "fd00:244::"]
            .iter()
            .any(|here| text.starts_with(here));
        Endpoint::new(address, *state, local)
    };
    Event::Slice {
        name: "default/web-1".into(),
        service: "default/web".into(),
        slice: Slice {
            ports: [port("tcp", Protocol::Tcp), port("udp", Protocol::Udp)].into(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            ..Slice::default()
        },
    }
}

pub(crate) fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap()
}

/// The service at another ClusterIP and without node ports.
pub(crate) fn at(mut service: Service, cluster_ip: &str) -> Service {
    service.cluster_ip = Some(cluster_ip.parse().unwrap());
    for port in &mut service.ports {
        port.node_port = None;
    }
    service
}

/// A slice of a service with one endpoint.
pub(crate) fn slice_of(service: &str, address: &str) -> Event {
    match endpoints(&[address]) {
        Event::Slice { slice, .. } => Event::Slice {
            name: format!("{service}-1").into(),
            service: service.into(),
            slice,
        },
        other => other,
    }
}

/// A service `default/echo` at 10.96.0.9:90 and node port 30090.
pub(crate) fn echo() -> Service {
    Service {
        cluster_ip: Some("10.96.0.9".parse().unwrap()),
        ports: [ServicePort {
            name: "echo".into(),
            protocol: Protocol::Tcp,
            port: number(90),
            node_port: Some(number(30090)),
        }]
        .into(),
        ..Service::default()
    }
}

/// The endpoints of `default/echo`: port 9090.
pub(crate) fn echo_slice(addresses: &[&str]) -> Event {
    match endpoints(addresses) {
        Event::Slice { slice, .. } => Event::Slice {
            name: "default/echo-1".into(),
            service: "default/echo".into(),
            slice: Slice {
                ports: [Port {
                    name: "echo".into(),
                    protocol: Protocol::Tcp,
                    port: number(9090),
                }]
                .into(),
                ..slice
            },
        },
        other => other,
    }
}
