//! From what is written to what is meant: defaults, rules, refusals.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::raw::{self, OneOrMany, given};
use super::{Bridge, ConfigError, Ipam, Network, ports, refuse};
use crate::bandwidth::{Bandwidth, Bucket};
use crate::owner::Mac;
use crate::range::{Range, RangeSet, RangeText, network_of, parse_address};
use crate::request::{CniArgs, INTERFACE_NAME_RULE, is_identifier, is_interface_name};
use crate::result::{PreviousResult, Route};
use crate::version::Version;

/// As the stock bridge plugin.
const DEFAULT_BRIDGE: &str = "cni0";
/// In memory: leases end with the boot, as namespaces do.
const DEFAULT_DATA_DIR: &str = "/run/gantry-cni";

pub(super) fn network(config: raw::Config, args: &CniArgs) -> Result<Network, ConfigError> {
    let version =
        Version::parse(&config.cni_version).ok_or(ConfigError::Version(config.cni_version.clone()))?;
    name(&config.name)?;
    refuse::check(&config)?;
    let unmasqueraded = masquerade(&config)?;
    let previous = config.prev_result.as_ref().map(PreviousResult::parse).transpose();
    let valid_attachments = config.valid_attachments.as_ref().map(|list| {
        list.iter()
            .map(|entry| (entry.container_id.clone(), entry.ifname.clone()))
            .collect()
    });
    let (bridge, ipam) = (bridge(&config)?, ipam(&config, args)?);
    let mut ranges = ipam.sets.iter().flat_map(|set| &set.0);
    if bridge.mtu.is_some_and(|mtu| mtu < 1280) && ranges.any(|range| range.subnet.is_ipv6()) {
        return Err(invalid("mtu", "IPv6 needs 1280 bytes or more"));
    }
    Ok(Network {
        version,
        bridge,
        mac: requested_mac(&config, args)?,
        bandwidth: bandwidth(&config)?,
        ports: ports::mappings(&config)?,
        unmasqueraded,
        policy_socket: policy_socket(&config)?,
        previous: previous.map_err(|error| invalid("prevResult", error.to_string()))?,
        valid_attachments,
        ipam,
        name: config.name,
        dns: config.dns,
    })
}

/// The network's name; also a path element of the lease store.
pub(super) fn name(name: &str) -> Result<(), ConfigError> {
    const RULE: &str = "it starts with a letter or digit and has only letters, digits, '_', '.' and '-'";
    if is_identifier(name) {
        return Ok(());
    }
    Err(invalid("name", format!("{name:?} is not a network name: {RULE}")))
}

pub(super) fn invalid(field: &'static str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        field,
        why: why.into(),
    }
}

fn bridge(config: &raw::Config) -> Result<Bridge, ConfigError> {
    let short = config.subnet.is_some();
    let name = config.bridge.clone().unwrap_or_else(|| DEFAULT_BRIDGE.to_owned());
    if !is_interface_name(&name) {
        return Err(invalid(
            "bridge",
            format!("{name:?} is not an interface name: {INTERFACE_NAME_RULE}"),
        ));
    }
    let mtu = match u32::try_from(config.mtu) {
        Ok(0) => None,
        Ok(mtu) if (68..=65535).contains(&mtu) => Some(mtu),
        Ok(_) | Err(_) => {
            return Err(invalid(
                "mtu",
                format!("{}: use 68 to 65535 bytes, or 0 for the default", config.mtu),
            ));
        }
    };
    let default_gateway = config.is_default_gateway.unwrap_or(short);
    // Hairpin is on in the short form unless promiscuous mode, which excludes it, was asked for.
    let hairpin = config.hairpin_mode.unwrap_or(short && !config.promisc_mode);
    if hairpin && config.promisc_mode {
        return Err(invalid(
            "promiscMode",
            "true together with hairpinMode delivers packets twice: choose one",
        ));
    }
    Ok(Bridge {
        name,
        mtu,
        gateway: config.is_gateway.unwrap_or(false) || default_gateway,
        force_address: config.force_address,
        default_gateway,
        hairpin,
        promiscuous: config.promisc_mode,
        isolated: config.port_isolation,
    })
}

fn masquerade(config: &raw::Config) -> Result<Option<Vec<IpNetwork>>, ConfigError> {
    let mut networks = Vec::new();
    for text in &config.cluster_cidrs {
        let network: IpNetwork = text.parse().map_err(|_| {
            invalid(
                "clusterCIDRs",
                format!("{text:?} is not a range such as 10.0.0.0/8"),
            )
        })?;
        networks.push(network_of(network));
    }
    Ok(config
        .ip_masq
        .unwrap_or(config.subnet.is_some())
        .then_some(networks))
}

fn policy_socket(config: &raw::Config) -> Result<Option<PathBuf>, ConfigError> {
    let path = given(&config.policy_socket).map(PathBuf::from);
    match path {
        Some(path) if !path.is_absolute() => Err(invalid(
            "policySocket",
            format!("{} is not an absolute path", path.display()),
        )),
        path => Ok(path),
    }
}

fn requested_mac(config: &raw::Config, args: &CniArgs) -> Result<Option<Mac>, ConfigError> {
    // The order of the stock plugin: runtimeConfig, then args, then CNI_ARGS.
    let places = [
        ("runtimeConfig.mac", config.runtime_config.mac.as_str()),
        ("args.cni.mac", config.args.cni.mac.as_str()),
        ("CNI_ARGS MAC", args.mac.as_deref().unwrap_or("")),
    ];
    let Some((field, text)) = places.into_iter().find(|(_, text)| !text.is_empty()) else {
        return Ok(None);
    };
    let mac = Mac::parse(text);
    mac.map(Some).ok_or_else(|| {
        invalid(
            field,
            format!("{text:?} is not a hardware address such as 0a:58:0a:01:02:03"),
        )
    })
}

/// As the stock plugin: the configuration's own limits, and without them those of the pod.
fn bandwidth(config: &raw::Config) -> Result<Bandwidth, ConfigError> {
    let own = raw::Bandwidth {
        ingress_rate: config.ingress_rate,
        ingress_burst: config.ingress_burst,
        egress_rate: config.egress_rate,
        egress_burst: config.egress_burst,
    };
    let given = [
        own.ingress_rate,
        own.ingress_burst,
        own.egress_rate,
        own.egress_burst,
    ];
    let (fields, limits) = match &config.runtime_config.bandwidth {
        Some(of_pod) if given.iter().all(Option::is_none) => (
            [
                "runtimeConfig.bandwidth.ingressRate",
                "runtimeConfig.bandwidth.egressRate",
            ],
            of_pod,
        ),
        Some(_) | None => (["ingressRate", "egressRate"], &own),
    };
    let bucket = |field, rate: Option<u64>, burst: Option<u64>| {
        let bucket = Bucket::new(rate.unwrap_or(0), burst.unwrap_or(0));
        bucket.map_err(|error| invalid(field, error.to_string()))
    };
    Ok(Bandwidth {
        ingress: bucket(fields[0], limits.ingress_rate, limits.ingress_burst)?,
        egress: bucket(fields[1], limits.egress_rate, limits.egress_burst)?,
    })
}

fn ipam(config: &raw::Config, args: &CniArgs) -> Result<Ipam, ConfigError> {
    let empty = raw::Ipam::default();
    let ipam = config.ipam.as_ref().unwrap_or(&empty);
    let sets = range_sets(config, ipam)?;
    let mut requested = Vec::new();
    let wishes = args
        .ip
        .iter()
        .chain(&config.args.cni.ips)
        .chain(&config.runtime_config.ips);
    for text in wishes {
        // A prefix length may follow; the range decides it.
        let address = parse_address(text.split('/').next().unwrap_or(text));
        let address = address.map_err(|source| ConfigError::Range { field: "ips", source })?;
        if !sets.iter().any(|set| set.range_of(address).is_some()) {
            return Err(invalid(
                "ips",
                format!("{address} is not an address that this network can lease"),
            ));
        }
        if !requested.contains(&address) {
            requested.push(address);
        }
    }
    let data_dir = PathBuf::from(
        ipam.data_dir
            .as_deref()
            .filter(|dir| !dir.is_empty())
            .unwrap_or(DEFAULT_DATA_DIR),
    );
    if !data_dir.is_absolute() {
        return Err(invalid(
            "ipam.dataDir",
            format!("{} is not an absolute path", data_dir.display()),
        ));
    }
    let routes = ipam.routes.iter().map(route).collect::<Result<_, _>>()?;
    Ok(Ipam {
        sets,
        routes,
        data_dir,
        resolv_conf: given(&ipam.resolv_conf).map(PathBuf::from),
        requested,
    })
}

fn range_sets(config: &raw::Config, ipam: &raw::Ipam) -> Result<Vec<RangeSet>, ConfigError> {
    let parse = |field, text: RangeText<'_>| {
        Range::parse(&text).map_err(|source| ConfigError::Range { field, source })
    };
    let written = |field, range: &raw::Range| {
        parse(
            field,
            RangeText {
                subnet: range.subnet.as_deref().unwrap_or(""),
                start: given(&range.range_start),
                end: given(&range.range_end),
                gateway: given(&range.gateway),
            },
        )
    };
    let mut sets = Vec::new();
    for set in &config.runtime_config.ip_ranges {
        sets.push(
            set.iter()
                .map(|range| written("runtimeConfig.ipRanges", range))
                .collect::<Result<_, _>>()?,
        );
    }
    if ipam.range.subnet.is_some() {
        sets.push(vec![written("ipam.subnet", &ipam.range)?]);
    }
    for set in &ipam.ranges {
        sets.push(
            set.iter()
                .map(|range| written("ipam.ranges", range))
                .collect::<Result<_, _>>()?,
        );
    }
    let short = match &config.subnet {
        None => Vec::new(),
        Some(OneOrMany::One(subnet)) => vec![subnet.clone()],
        Some(OneOrMany::Many(subnets)) => subnets.clone(),
    };
    for subnet in &short {
        let (start, end, gateway) = (None, None, None);
        sets.push(vec![parse(
            "subnet",
            RangeText {
                subnet,
                start,
                end,
                gateway,
            },
        )?]);
    }
    check_sets(&sets)?;
    Ok(sets.into_iter().map(RangeSet).collect())
}

fn check_sets(sets: &[Vec<Range>]) -> Result<(), ConfigError> {
    if sets.is_empty() {
        return Err(invalid(
            "ipam",
            "no address range is given: set \"subnet\", or \"ipam\" with \"ranges\"",
        ));
    }
    for set in sets {
        let Some(first) = set.first() else {
            return Err(invalid("ipam.ranges", "a range set is empty"));
        };
        if set
            .iter()
            .any(|range| range.subnet.is_ipv4() != first.subnet.is_ipv4())
        {
            return Err(invalid(
                "ipam.ranges",
                "one range set mixes IPv4 and IPv6: make two sets",
            ));
        }
    }
    let all: Vec<&Range> = sets.iter().flatten().collect();
    for (index, range) in all.iter().enumerate() {
        if let Some(other) = all.iter().skip(index + 1).find(|other| range.overlaps(other)) {
            return Err(invalid(
                "ipam.ranges",
                format!("ranges of {} and {} overlap", range.subnet, other.subnet),
            ));
        }
    }
    Ok(())
}

fn route(route: &raw::Route) -> Result<Route, ConfigError> {
    let not_one = |text: &str| {
        invalid(
            "ipam.routes",
            format!("{text:?} is not a destination such as 10.0.0.0/8"),
        )
    };
    let destination: IpNetwork = route.dst.parse().map_err(|_| not_one(&route.dst))?;
    let gateway: Option<IpAddr> = route
        .gw
        .as_deref()
        .map(parse_address)
        .transpose()
        .map_err(|source| ConfigError::Range {
            field: "ipam.routes",
            source,
        })?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != destination.is_ipv4()) {
        return Err(invalid(
            "ipam.routes",
            format!("{destination} has a gateway of the other address family"),
        ));
    }
    Ok(Route {
        dst: network_of(destination),
        gw: gateway,
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
    })
}
