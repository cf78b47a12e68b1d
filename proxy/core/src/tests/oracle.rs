//! The service rules once more, as plainly as possible, to compare packets with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::test_runner::TestCaseError;

use super::kernel::{Fate, Kernel, Packet};
use super::scenario::{NODE, cluster_ip, external_ip, facts};
use crate::{
    Backend, Endpoint, EndpointState, Event, Kind, NodeFacts, NodeHint, Planner, Policy, Protocol, Service,
    Slice, ZoneSet,
};

/// All objects as they are now.
#[derive(Debug)]
pub(super) struct World {
    pub(super) facts: NodeFacts,
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

/// An endpoint and the zones that it is hinted for.
type Zoned = (Endpoint, Option<ZoneSet>);

impl World {
    pub(super) fn new() -> Self {
        Self {
            facts: facts(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            listing: None,
        }
    }

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
        planner.set_facts(self.facts.clone());
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
    pub(super) fn check(&self, kernel: &mut Kernel) -> Result<(), TestCaseError> {
        let sources: [(IpAddr, bool); 4] = [
            ([10, 244, 0, 99].into(), false),
            (NODE.into(), true),
            (external_ip(0), true),
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
                    let (is, (should, sticky)) = (kernel.fate(&packet), self.fate(&packet));
                    kernel.connect(&packet);
                    if !agree(&is, &should, sticky) {
                        let text = format!("{packet:?}: {is:?}, but should be {should:?}");
                        return Err(TestCaseError::fail(text));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a packet should go, and whether the service remembers its clients.
    fn fate(&self, packet: &Packet) -> (Fate, bool) {
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
            let in_range = self
                .facts
                .service_ranges
                .iter()
                .any(|range| range.contains(packet.to));
            let fate = match (in_use, in_range) {
                (true, _) => Fate::Rejected,
                (false, true) => Fate::Dropped,
                (false, false) => Fate::Passed,
            };
            return (fate, false);
        };
        if !on_node && !self.may_pass(service, packet) {
            return (Fate::Dropped, false);
        }
        let fate = self.answer(key, service, way, packet);
        (fate, service.affinity_secs.is_some())
    }

    /// Source ranges guard the addresses of load balancers.
    fn may_pass(&self, service: &Service, packet: &Packet) -> bool {
        let Some(restriction) = &service.restriction else {
            return true;
        };
        let inside = |ip: IpAddr| restriction.ranges.iter().any(|range| range.contains(ip));
        let own = restriction.addresses.contains(&packet.from) && self.facts.node_ip.is_some_and(inside);
        !restriction.addresses.contains(&packet.to) || inside(packet.from) || own
    }

    fn answer(&self, key: &str, service: &Service, way: Way, packet: &Packet) -> Fate {
        let from_pod = self
            .facts
            .pod_ranges
            .iter()
            .any(|range| range.contains(packet.from));
        let all = self.endpoints(key);
        let cluster = backends(&self.hinted(&best(&all)));
        let here: Vec<Zoned> = all.iter().filter(|(e, _)| e.local).cloned().collect();
        let local = backends(&best(&here));
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
    fn endpoints(&self, key: &str) -> Vec<Zoned> {
        let mut all: BTreeMap<IpAddr, Zoned> = BTreeMap::new();
        for (_, slice) in self.slices.values().filter(|(service, _)| service == key) {
            for endpoint in &slice.endpoints {
                let zones = endpoint
                    .zones
                    .map(|n| slice.zone_sets[usize::from(n.get()) - 1].clone());
                let known = all
                    .entry(endpoint.address)
                    .or_insert_with(|| (*endpoint, zones.clone()));
                if known.0.state != EndpointState::Ready && endpoint.state == EndpointState::Ready {
                    *known = (*endpoint, zones);
                }
            }
        }
        all.into_values().collect()
    }

    /// Those of ready endpoints that hints prefer: for the node, or else for the zone.
    fn hinted(&self, endpoints: &[Zoned]) -> Vec<Zoned> {
        if endpoints.iter().any(|(e, _)| e.state != EndpointState::Ready) {
            return endpoints.to_vec();
        }
        let has_node = |(e, _): &&Zoned| e.node_hint != NodeHint::Nobody;
        let this_node = |(e, _): &&Zoned| e.node_hint == NodeHint::ThisNode;
        let has_zone = |(_, zones): &&Zoned| zones.is_some();
        let own = self.facts.zone.as_ref();
        let this_zone = |(_, zones): &&Zoned| own.is_some_and(|own| zones.iter().flatten().any(|z| z == own));
        let count = endpoints.len();
        let node: Vec<Zoned> = endpoints.iter().filter(this_node).cloned().collect();
        let zone: Vec<Zoned> = endpoints.iter().filter(this_zone).cloned().collect();
        if endpoints.iter().filter(has_node).count() == count && !node.is_empty() {
            node
        } else if endpoints.iter().filter(has_zone).count() == count && !zone.is_empty() {
            zone
        } else {
            endpoints.to_vec()
        }
    }
}

/// A client that comes again goes to one of the backends that it might go to, otherwise any of them has to be possible.
fn agree(is: &Fate, should: &Fate, sticky: bool) -> bool {
    match (is, should) {
        (Fate::Backends(is, masqueraded), Fate::Backends(should, wanted)) if sticky => {
            masqueraded == wanted && !is.is_empty() && is.is_subset(should)
        }
        (is, should) => is == should,
    }
}

fn backends(endpoints: &[Zoned]) -> BTreeSet<Backend> {
    let backend = |(endpoint, _): &Zoned| Backend {
        address: endpoint.address,
        port: 5353,
    };
    endpoints.iter().map(backend).collect()
}

/// The ready ones, or if there is none those that still serve.
fn best(endpoints: &[Zoned]) -> Vec<Zoned> {
    let ready: Vec<Zoned> = endpoints
        .iter()
        .filter(|(e, _)| e.state == EndpointState::Ready)
        .cloned()
        .collect();
    if ready.is_empty() {
        endpoints.to_vec()
    } else {
        ready
    }
}
