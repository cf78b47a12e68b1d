//! Host ports: `runtimeConfig.portMappings` and the fields of the portmap plugin.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ConfigError;
use super::raw::{self, Config};
use super::validate::invalid;
use crate::ports::{HostAddress, Mapping, Masqueraded, PortMappings, Protocol};

const FIELD: &str = "runtimeConfig.portMappings";

/// What is asked for; a port that is asked for twice counts once.
pub(super) fn mappings(config: &Config) -> Result<PortMappings, ConfigError> {
    let mut list: Vec<Mapping> = Vec::new();
    for written in config.runtime_config.port_mappings.iter().flatten() {
        let mapping = mapping(written)?;
        if list.contains(&mapping) {
            continue;
        }
        for ipv4 in [true, false] {
            let front = mapping.front(ipv4);
            let elsewhere =
                |other: &Mapping| other.front(ipv4) == front && other.pod_port != mapping.pod_port;
            if let Some(front) = front
                && list.iter().any(elsewhere)
            {
                return Err(invalid(
                    FIELD,
                    format!("the host port {front} cannot lead to two ports"),
                ));
            }
        }
        list.push(mapping);
    }
    let masqueraded = match (config.snat.unwrap_or(true), config.masq_all) {
        (false, _) => Masqueraded::None,
        (true, true) => Masqueraded::All,
        (true, false) => Masqueraded::Near,
    };
    Ok(PortMappings { list, masqueraded })
}

fn mapping(written: &raw::PortMapping) -> Result<Mapping, ConfigError> {
    let protocol = Protocol::named(&written.protocol).ok_or_else(|| {
        invalid(
            FIELD,
            format!("protocol {:?}: use tcp, udp or sctp", written.protocol),
        )
    })?;
    Ok(Mapping {
        protocol,
        address: host_address(&written.host_ip)?,
        host_port: port("hostPort", written.host_port)?,
        pod_port: port("containerPort", written.container_port)?,
    })
}

fn port(name: &str, number: i64) -> Result<u16, ConfigError> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| invalid(FIELD, format!("{name} {number}: use 1 to 65535")))
}

fn host_address(text: &str) -> Result<HostAddress, ConfigError> {
    if text.is_empty() {
        return Ok(HostAddress::Any);
    }
    let address: IpAddr = text
        .parse()
        .map_err(|_| invalid(FIELD, format!("hostIP {text:?} is not an address")))?;
    // As Go reads it: an IPv4 address in IPv6's clothes is an IPv4 address.
    Ok(match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => HostAddress::AnyOf { ipv4: true },
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => HostAddress::AnyOf { ipv4: false },
        address => HostAddress::Only(address),
    })
}
