//! The pod's routes.

use crate::config::Network;
use crate::lease::Lease;
use crate::result::Route;

/// `RT_SCOPE_LINK`: a route without a next hop.
const SCOPE_LINK: u8 = 253;

/// The configured routes with their next hops, and a default route for each family if asked for.
pub(super) fn all(network: &Network, leases: &[Lease]) -> Vec<Route> {
    let gateway = |ipv4: bool| {
        leases
            .iter()
            .find(|lease| lease.address.is_ipv4() == ipv4)
            .map(|lease| lease.gateway)
    };
    let mut routes: Vec<Route> = network
        .ipam
        .routes
        .iter()
        .filter(|route| gateway(route.dst.is_ipv4()).is_some())
        .map(|route| {
            let on_link = route.scope == Some(SCOPE_LINK);
            let next_hop = route.gw.or(gateway(route.dst.is_ipv4()).filter(|_| !on_link));
            Route {
                gw: next_hop,
                ..route.clone()
            }
        })
        .collect();
    if network.bridge.default_gateway {
        for (ipv4, destination) in [(true, "0.0.0.0/0"), (false, "::/0")] {
            let Some((gateway, dst)) = gateway(ipv4).zip(destination.parse().ok()) else {
                continue;
            };
            if !routes.iter().any(|route| route.dst == dst && route.gw.is_some()) {
                let plain = Route {
                    dst,
                    gw: None,
                    mtu: None,
                    advmss: None,
                    priority: None,
                    table: None,
                    scope: None,
                };
                routes.push(Route {
                    gw: Some(gateway),
                    ..plain
                });
            }
        }
    }
    routes
}
