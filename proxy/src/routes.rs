//! Routes to the pods of the other nodes, over rtnetlink: straight to a node on a link of this host, through a [`tunnel`] to others.
//!
//! Ours carry a protocol number of their own (see `/etc/iproute2/rt_protos`): only those are ever changed or removed. Their metric is
//! high, so that a route which another program has for the same pods stands beside ours and wins.

mod tunnel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use gantry_proxy_core::{Node, Route};
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::Notify;
use tracing::{info, warn};

/// Marks our routes.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(117);
/// Their metric.
const METRIC: u32 = 20_000;

/// Why the routes are not right. Retry after a pause.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The kernel's routes or addresses cannot be listed.
    #[error("cannot list {0}")]
    List(&'static str, #[source] rtnetlink::Error),
    /// Some routes could not be set; the first of them.
    #[error("cannot {action} the route to {to} via {via}")]
    Change {
        /// `add` or `remove`.
        action: &'static str,
        /// The pods.
        to: IpNetwork,
        /// The node.
        via: IpAddr,
        /// The kernel's reason.
        source: rtnetlink::Error,
    },
    /// The device for nodes on no link of this host cannot be removed.
    #[error("cannot remove the tunnel that no route needs")]
    Tunnel(#[source] rtnetlink::Error),
    /// A bridge without a pod cannot be removed.
    #[error("cannot remove bridge {0}")]
    Bridge(String, #[source] rtnetlink::Error),
}

/// How packets get to the node of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Over a link that both are on.
    Link,
    /// Through the tunnel.
    Tunnel,
}

/// The host's routing tables.
#[derive(Clone, Debug)]
pub struct Routes {
    handle: Handle,
    addresses: Arc<Notify>,
}

impl Routes {
    /// Opens a socket in the network namespace of the calling thread; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When there is no netlink.
    pub fn open() -> std::io::Result<Self> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        let addresses = Arc::new(Notify::new());
        let changed = Arc::clone(&addresses);
        // Ends with the connection, which ends with the last handle.
        tokio::spawn(async move {
            while messages.next().await.is_some() {
                changed.notify_one();
            }
        });
        Ok(Self { handle, addresses })
    }

    /// Returns when an address of the host came or went since the last return.
    pub async fn addresses_changed(&self) {
        self.addresses.notified().await;
    }

    /// Makes our routes exactly these. All that can be set are set, whatever fails. `own` is this node; without it there is no
    /// tunnel, and nodes on other links are failures. A node that was found on no link of this host is looked for again: links
    /// come and go.
    ///
    /// # Errors
    /// The first failure.
    pub async fn set(&self, wanted: &BTreeSet<Route>, own: Option<&Node>) -> Result<(), RouteError> {
        let mut present = self.ours().await?;
        let mut failures = Vec::new();
        let mut note = |action, route: &Route, result: Result<(), rtnetlink::Error>| match result {
            Ok(()) => info!(action, to = %route.to, via = %route.via, "pod route"),
            Err(source) => failures.push(RouteError::Change {
                action,
                to: route.to,
                via: route.via,
                source,
            }),
        };
        // A range that moved to another node is replaced by the addition.
        let is_unwanted = |route: &&Route| wanted.iter().all(|w| w.to != route.to);
        let unwanted: Vec<Route> = present.keys().filter(is_unwanted).copied().collect();
        for route in unwanted {
            let gone = self.handle.route().del(to_range(&route).build()).execute().await;
            note("remove", &route, gone);
            present.remove(&route);
        }
        for route in wanted {
            let before = present.get(route).copied();
            if before == Some(Way::Link) {
                continue;
            }
            match self.add(route, before, own).await {
                Ok(way) if before == Some(way) => {}
                Ok(way) => {
                    present.insert(*route, way);
                    note("add", route, Ok(()));
                }
                Err(error) => note("add", route, Err(error)),
            }
        }
        present.retain(|route, _| wanted.contains(route));
        if !present.values().any(|way| *way == Way::Tunnel) {
            let closed = tunnel::close(&self.handle).await;
            failures.extend(closed.map_err(RouteError::Tunnel).err());
        }
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Straight, or else through the tunnel, unless it leads there already.
    async fn add(
        &self,
        route: &Route,
        before: Option<Way>,
        own: Option<&Node>,
    ) -> Result<Way, rtnetlink::Error> {
        match (self.replace(straight(route)).await, own) {
            (Ok(()), _) => Ok(Way::Link),
            (Err(error), Some(own)) if tunnel::is_off_link(&error) => {
                if before != Some(Way::Tunnel) {
                    let device = tunnel::open(&self.handle, own).await?;
                    let through = tunnel::through(to_range(route), route.via, device);
                    self.replace(through.build()).await?;
                }
                Ok(Way::Tunnel)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn replace(&self, message: RouteMessage) -> Result<(), rtnetlink::Error> {
        self.handle.route().add(message).replace().execute().await
    }

    /// Addresses of the host's interfaces.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn local_addresses(&self) -> Result<Vec<IpAddr>, RouteError> {
        let failed = |e| RouteError::List("addresses", e);
        let mut messages = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            addresses.extend(message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            }));
        }
        Ok(addresses)
    }

    /// Removes the pods' bridge unless something is on it; true if it is not there any more.
    ///
    /// # Errors
    /// When links cannot be listed, or it cannot be removed.
    pub async fn remove_bridge(&self, name: &str) -> Result<bool, RouteError> {
        let failed = |e| RouteError::Bridge(name.to_owned(), e);
        let Some(index) = tunnel::find(&self.handle, name).await.map_err(failed)? else {
            return Ok(true);
        };
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed)? {
            if link.attributes.contains(&LinkAttribute::Controller(index)) {
                return Ok(false);
            }
        }
        self.handle.link().del(index).execute().await.map_err(failed)?;
        info!(bridge = name, "removed");
        Ok(true)
    }

    async fn ours(&self) -> Result<BTreeMap<Route, Way>, RouteError> {
        let mut routes = BTreeMap::new();
        for any in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let mut messages = self.handle.route().get(any).execute();
            let failed = |e| RouteError::List("routes", e);
            while let Some(message) = messages.try_next().await.map_err(failed)? {
                if message.header.protocol == PROTOCOL {
                    routes.extend(read(&message));
                }
            }
        }
        Ok(routes)
    }
}

/// A route of ours to a range, by no way yet: enough to delete the one that is there.
fn to_range(route: &Route) -> RouteMessageBuilder<IpAddr> {
    let range = (route.to.network(), route.to.prefix());
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(range.0, range.1)
        .expect("a prefix of a network is not longer than its address")
        .protocol(PROTOCOL)
        .priority(METRIC)
}

fn straight(route: &Route) -> RouteMessage {
    match to_range(route).gateway(route.via) {
        Ok(builder) => builder.build(),
        // Families never mix in a route of the core; an empty message is refused by the kernel.
        Err(error) => {
            warn!(%error, to = %route.to, "impossible route");
            RouteMessage::default()
        }
    }
}

fn read(message: &RouteMessage) -> Option<(Route, Way)> {
    let address = |found: &RouteAddress| match found {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let mut to = None;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => to = address(found),
            RouteAttribute::Gateway(found) => gateway = address(found),
            _ => {}
        }
    }
    let to = IpNetwork::new(to?, message.header.destination_prefix_length).ok()?;
    let over_link = gateway.map(|via| (Route { to, via }, Way::Link));
    over_link.or_else(|| {
        Some((
            Route {
                to,
                via: tunnel::destination(message)?,
            },
            Way::Tunnel,
        ))
    })
}
