//! Routes to the pods of the other nodes, over rtnetlink.
//!
//! Ours carry a protocol number of their own (see `/etc/iproute2/rt_protos`): only those are ever changed or removed. Their metric is
//! high, so that a route which another program has for the same pods stands beside ours and wins.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use gantry_proxy_core::Route;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::address::AddressAttribute;
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
        /// The kernel's reason; "network is unreachable" means that the nodes share no link.
        source: rtnetlink::Error,
    },
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

    /// Makes our routes exactly these. All that can be set are set, whatever fails.
    ///
    /// # Errors
    /// The first failure.
    pub async fn set(&self, wanted: &BTreeSet<Route>) -> Result<(), RouteError> {
        let present = self.ours().await?;
        let mut first_error = None;
        let mut note = |action, route: &Route, result: Result<(), rtnetlink::Error>| match result {
            Ok(()) => info!(action, to = %route.to, via = %route.via, "pod route"),
            Err(source) => {
                let error = RouteError::Change {
                    action,
                    to: route.to,
                    via: route.via,
                    source,
                };
                first_error.get_or_insert(error);
            }
        };
        // A range that moved to another node is replaced by the addition.
        let keeps_range = |route: &Route| wanted.iter().any(|w| w.to == route.to);
        for route in present.difference(wanted).filter(|route| !keeps_range(route)) {
            note(
                "remove",
                route,
                self.handle.route().del(message(route)).execute().await,
            );
        }
        for route in wanted.difference(&present) {
            note(
                "add",
                route,
                self.handle.route().add(message(route)).replace().execute().await,
            );
        }
        first_error.map_or(Ok(()), Err)
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

    async fn ours(&self) -> Result<BTreeSet<Route>, RouteError> {
        let mut routes = BTreeSet::new();
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

fn message(route: &Route) -> RouteMessage {
    let built = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.network(), route.to.prefix())
        .and_then(|builder| builder.gateway(route.via));
    match built {
        Ok(builder) => builder.protocol(PROTOCOL).priority(METRIC).build(),
        // Families never mix in a route of the core; an empty message is refused by the kernel.
        Err(error) => {
            warn!(%error, to = %route.to, "impossible route");
            RouteMessage::default()
        }
    }
}

fn read(message: &RouteMessage) -> Option<Route> {
    let address = |found: &RouteAddress| match found {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let mut to = None;
    let mut via = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => to = address(found),
            RouteAttribute::Gateway(found) => via = address(found),
            _ => {}
        }
    }
    let to = IpNetwork::new(to?, message.header.destination_prefix_length).ok()?;
    Some(Route { to, via: via? })
}
