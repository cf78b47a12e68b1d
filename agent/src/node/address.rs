//! The node's addresses.
//!
//! `--node-ip` when given; else what the host name resolves to, if that is an address of this machine; else the
//! source address of the default route. The reference does the same (`nodestatus.NodeAddress`).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

/// Why there is no address. It may come later: retry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// `--node-ip` is no address that a node can have here.
    #[error("--node-ip {ip}: {reason}")]
    NotOurs { ip: IpAddr, reason: &'static str },
    /// The machine has no default route.
    #[error("no --node-ip, and no default route to choose an address by")]
    NoRoute(#[source] io::Error),
}

/// The addresses of the node, the primary one first. `wanted` is `--node-ip`.
pub(crate) async fn find(wanted: &[IpAddr], node_name: &str) -> Result<Vec<IpAddr>, AddressError> {
    let given: Vec<IpAddr> = wanted.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
    for ip in &given {
        usable(*ip).map_err(|reason| AddressError::NotOurs { ip: *ip, reason })?;
    }
    if !given.is_empty() {
        return Ok(given);
    }
    let prefer_v4 = wanted.first().is_none_or(IpAddr::is_ipv4);
    if let Ok(ip) = node_name.parse() {
        return Ok(vec![ip]);
    }
    let resolved: Vec<IpAddr> = match tokio::net::lookup_host((node_name, 0)).await {
        Ok(found) => found
            .map(|socket| socket.ip())
            .filter(|ip| usable(*ip).is_ok())
            .collect(),
        Err(_) => Vec::new(),
    };
    let preferred = resolved
        .iter()
        .find(|ip| ip.is_ipv4() == prefer_v4)
        .or(resolved.first());
    match preferred {
        Some(ip) => Ok(vec![*ip]),
        None => by_route(prefer_v4)
            .or_else(|_| by_route(!prefer_v4))
            .map(|ip| vec![ip])
            .map_err(AddressError::NoRoute),
    }
}

/// May a node have this address, and does this machine have it?
fn usable(ip: IpAddr) -> Result<(), &'static str> {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Err("a loopback address cannot be a node's address")
    } else if ip.is_multicast() || link_local {
        Err("a multicast or link-local address cannot be a node's address")
    } else if UdpSocket::bind((ip, 0)).is_err() {
        Err("no network interface of this machine has this address")
    } else {
        Ok(())
    }
}

/// The source address that the kernel uses towards the outside. Connecting a UDP socket sends nothing.
fn by_route(v4: bool) -> io::Result<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): surely not on a local network.
    let (any, outside): (IpAddr, IpAddr) = if v4 {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        )
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((outside, 9))?;
    let ip = socket.local_addr()?.ip();
    usable(ip).map(|()| ip).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_addresses_that_are_not_ours() {
        for (ip, reason) in [
            ("127.0.0.1", "loopback"),
            ("224.0.0.1", "multicast"),
            ("192.0.2.77", "no network interface"),
        ] {
            let error = find(&[ip.parse().unwrap()], "node").await.unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_an_address_is_taken() {
        assert_eq!(
            find(&[], "192.0.2.5").await.unwrap(),
            ["192.0.2.5".parse::<IpAddr>().unwrap()]
        );
    }
}
