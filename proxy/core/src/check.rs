//! What load balancers are told of a service with `externalTrafficPolicy: Local`: how many of its endpoints are on this node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use crate::model::{EndpointState, Key};
use crate::state::State;

/// A health check of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The service.
    pub service: Key,
    /// `healthCheckNodePort`.
    pub port: NonZeroU16,
    /// Ready endpoints on this node, each counted once for all its ports (`LocalReadyEndpoints` of the reference).
    pub local: usize,
}

/// All health checks there are.
#[must_use]
pub fn health_checks(state: &State) -> Vec<HealthCheck> {
    let check = |(key, service): (&Key, &crate::model::Service)| {
        let with_ports = state.slices(key).filter(|slice| !slice.ports.is_empty());
        let local: BTreeSet<IpAddr> = with_ports
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.local && endpoint.state == EndpointState::Ready)
            .map(|endpoint| endpoint.address)
            .collect();
        Some(HealthCheck {
            service: key.clone(),
            port: service.health_check?,
            local: local.len(),
        })
    };
    state.checked().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, Event, Port, Protocol, Service, Slice};

    fn service(health_check: Option<u16>) -> Event {
        let service = Service {
            health_check: health_check.and_then(NonZeroU16::new),
            ..Service::default()
        };
        Event::Service("ns/lb".into(), service)
    }

    fn slice(name: &str, endpoints: &[(u8, EndpointState, bool)]) -> Event {
        let endpoint = |(last, state, local): &(u8, EndpointState, bool)| {
            Endpoint::new([10, 0, 0, *last].into(), *state, *local)
        };
        let port = |number| Port {
            name: "p".into(),
            protocol: Protocol::Tcp,
            port: NonZeroU16::new(number).expect("a port"),
        };
        Event::Slice {
            name: name.into(),
            service: "ns/lb".into(),
            slice: Slice {
                ports: [port(80), port(443)].into(),
                endpoints: endpoints.iter().map(endpoint).collect(),
                ..Slice::default()
            },
        }
    }

    #[test]
    fn local_ready_endpoints_count_once() {
        let (ready, terminating) = (EndpointState::Ready, EndpointState::ServingTerminating);
        let mut state = State::default();
        let local = |state: &State| {
            let checks = health_checks(state);
            checks.first().map(|check| (check.port.get(), check.local))
        };
        state.apply(service(None));
        state.apply(slice(
            "ns/a",
            &[(1, ready, true), (2, ready, false), (3, terminating, true)],
        ));
        assert_eq!(local(&state), None, "nobody asks");
        state.apply(service(Some(30000)));
        assert_eq!(local(&state), Some((30000, 1)));
        state.apply(slice("ns/b", &[(1, ready, true), (4, ready, true)]));
        assert_eq!(local(&state), Some((30000, 2)), "in two slices");
        state.apply(service(Some(30001)));
        assert_eq!(local(&state), Some((30001, 2)));
        state.apply(Event::ServiceGone("ns/lb".into()));
        assert_eq!(local(&state), None);
    }
}
