//! The service rules once more, as plainly as possible, to compare packets with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::test_runner::TestCaseError;

use super::kernel::{Fate, Kernel, Packet};
use super::scenario::{NODE, cluster_ip, external_ip, facts};
use crate::{Backend, Endpoint, EndpointState, Event, Kind, Planner, Policy, Protocol, Service, Slice};

/// All objects as they are now.
#[derive(Debug, Default)]
pub(super) struct World {
    services: BTreeMap<String, Service>,
    slices: BTreeMap<String, (String, Slice)>,
    listing: Option<BTreeSet<String>>,
}

/// What a packet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ClusterIp,
    External,
}

impl World {
    pub(super) fn apply(&mut self, event: &Event) {
        match event.clone() {
            Event::Service(key, service) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(key.to_string());
                }
                self.services.insert(key.to_string(), service);
            }
            Event::ServiceGone(key) => drop(self.services.remove(&*key)),
            Event::Slice { name, service, slice } => {
                self.slices.insert(name.to_string(), (service.to_string(), slice));
            }
            Event::SliceGone(name) => drop(self.slices.remove(&*name)),
            Event::ListStart(Kind::Service) => self.listing = Some(BTreeSet::new()),
            Event::ListEnd(Kind::Service) => {
                let listed = self.listing.take().unwrap_or_default();
                self.services.retain(|key, _| listed.contains(key));
            }
            Event::ListStart(Kind::Slice) | Event::ListEnd(Kind::Slice) => {}
        }
    }

    /// A planner that has just seen everything.
    pub(super) fn planner(&self) -> Planner {
        let mut planner = Planner::default();
        planner.set_facts(facts());
        for (key, service) in &self.services {
            planner.apply(Event::Service(key.as_str().into(), service.clone()));
        }
        for (name, (service, slice)) in &self.slices {
            let (name, service) = (name.as_str().into(), service.as_str().into());
            planner.apply(Event::Slice {
                name,
                service,
                slice: slice.clone(),
            });
        }
        planner
    }

    /// Sends packets from everywhere to everything.
    pub(super) fn check(&self, kernel: &Kernel) -> Result<(), TestCaseError> {
        let sources: [(IpAddr, bool); 3] = [
            ([10, 244, 0, 99].into(), false),
            (NODE.into(), true),
            ([203, 0, 113, 5].into(), false),
        ];
        for (from, from_host) in sources {
            for number in [0, 1, 2, 10, 11, 200] {
                for (to, port) in [
                    (cluster_ip(number), 53),
                    (cluster_ip(number), 54),
                    (external_ip(number), 53),
                    (NODE.into(), 30000 + u16::from(number % 10)),
                    (NODE.into(), 53),
                ] {
                    let packet = Packet {
                        from,
                        from_host,
                        to,
                        protocol: Protocol::Udp,
                        port,
                    };
                    let (is, should) = (kernel.fate(&packet), self.fate(&packet));
                    if is != should {
                        let text = format!("{packet:?}: {is:?}, but should be {should:?}");
                        return Err(TestCaseError::fail(text));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a packet should go.
    fn fate(&self, packet: &Packet) -> Fate {
        let on_node = packet.to == IpAddr::from(NODE);
        // The first service in order of names that claims the front.
        let claim = self.services.iter().find_map(|(key, service)| {
            let port = service.ports.first()?;
            let way = if on_node {
                (port.node_port?.get() == packet.port).then_some(Way::External)
            } else if service.cluster_ip == Some(packet.to) && port.port.get() == packet.port {
                Some(Way::ClusterIp)
            } else {
                let external = service.external_ips.contains(&packet.to) && port.port.get() == packet.port;
                external.then_some(Way::External)
            };
            Some((key, service, way?))
        });
        let Some((key, service, way)) = claim else {
            let in_use = self.services.values().any(|s| s.cluster_ip == Some(packet.to));
            let in_range = facts()
                .service_ranges
                .iter()
                .any(|range| range.contains(packet.to));
            return match (in_use, in_range) {
                (true, _) => Fate::Rejected,
                (false, true) => Fate::Dropped,
                (false, false) => Fate::Passed,
            };
        };
        self.answer(key, service, way, packet)
    }

    fn answer(&self, key: &str, service: &Service, way: Way, packet: &Packet) -> Fate {
        let from_pod = facts().pod_ranges.iter().any(|range| range.contains(packet.from));
        let all = self.endpoints(key);
        let cluster = best(all.iter().copied());
        let local = best(all.iter().copied().filter(|e| e.local));
        let (backends, masqueraded) = match way {
            Way::ClusterIp if service.internal == Policy::Local => (local, !from_pod),
            Way::ClusterIp => (cluster, !from_pod),
            Way::External if service.external == Policy::Cluster => (cluster, true),
            Way::External if from_pod || packet.from_host => (cluster, packet.from_host),
            Way::External => (local, false),
        };
        match (backends.is_empty(), all.is_empty()) {
            (false, _) => Fate::Backends(backends, masqueraded),
            (true, true) => Fate::Rejected,
            (true, false) => Fate::Dropped,
        }
    }

    /// Endpoints of a service; one that is in two slices is ready if one of them says so.
    fn endpoints(&self, key: &str) -> Vec<Endpoint> {
        let mut all: BTreeMap<IpAddr, Endpoint> = BTreeMap::new();
        for (_, slice) in self.slices.values().filter(|(service, _)| service == key) {
            for endpoint in &slice.endpoints {
                let known = all.entry(endpoint.address).or_insert(*endpoint);
                if endpoint.state == EndpointState::Ready {
                    *known = *endpoint;
                }
            }
        }
        all.into_values().collect()
    }
}

/// The ready ones, or if there is none those that still serve.
fn best(endpoints: impl Iterator<Item = Endpoint> + Clone) -> BTreeSet<Backend> {
    let of = |state: EndpointState| -> BTreeSet<Backend> {
        let chosen = endpoints.clone().filter(|e| e.state == state);
        chosen
            .map(|e| Backend {
                address: e.address,
                port: 5353,
            })
            .collect()
    };
    let ready = of(EndpointState::Ready);
    if ready.is_empty() {
        of(EndpointState::ServingTerminating)
    } else {
        ready
    }
}
