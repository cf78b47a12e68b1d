//! The `loopback` plugin: the interface that every container has, up. Runtimes call it before the first network.

use std::path::Path;

use ipnetwork::IpNetwork;

use crate::commands::check::CheckError;
use crate::config::Header;
use crate::error::Failure;
use crate::netlink::Netlink;
use crate::netlink::link::LinkState;
use crate::netns::{Namespace, NamespaceError};
use crate::result::{Dns, Interface, Ip, Outcome};

const NAME: &str = "lo";

/// ADD: sets the interface up and answers it, or the previous result unchanged.
pub(crate) fn add(header: &Header, path: &Path) -> Result<String, Failure> {
    let addresses = Namespace::open(path)?.run(raise)??;
    if let Some(previous) = &header.previous {
        return Ok(previous.to_string());
    }
    let sandbox = Some(path.to_string_lossy().into_owned());
    let interface = Interface {
        name: NAME.to_owned(),
        mac: "00:00:00:00:00:00".to_owned(),
        mtu: None,
        sandbox,
    };
    let ips = addresses.into_iter().map(|address| Ip {
        interface: 0,
        address,
        gateway: None,
    });
    let outcome = Outcome {
        interfaces: vec![interface],
        ips: ips.collect(),
        routes: Vec::new(),
        dns: Dns::default(),
    };
    outcome
        .to_json(header.version)
        .map_err(|source| Failure::Stdout(source.into()))
}

fn raise() -> Result<Vec<IpNetwork>, Failure> {
    let mut inside = Netlink::open()?;
    let link = inside
        .link(NAME)?
        .ok_or_else(|| CheckError::NoInterface(NAME.to_owned()))?;
    inside.set_link(link.index, LinkState::UP)?;
    Ok(inside.addresses(link.index)?)
}

/// DEL: sets the interface down if the namespace is still there.
pub(crate) fn del(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let netns = match Namespace::open(path) {
        Ok(netns) => netns,
        Err(NamespaceError::Missing { .. } | NamespaceError::NotANamespace { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    netns.run(|| {
        let mut inside = Netlink::open()?;
        if let Some(link) = inside.link(NAME)? {
            inside.set_link(link.index, LinkState::DOWN)?;
        }
        Ok(())
    })?
}

/// CHECK: is it up?
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    Namespace::open(path)?.run(|| match Netlink::open()?.link(NAME)? {
        Some(link) if link.up => Ok(()),
        Some(_) | None => Err(CheckError::Down(NAME.to_owned()).into()),
    })?
}
