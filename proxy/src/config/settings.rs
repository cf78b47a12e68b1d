//! Settings: the file's values as types that can only hold what is valid.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use gantry_proxy_core::PerFamily;
use ipnetwork::IpNetwork;

use super::ConfigError;
use super::file::{Conntrack, File};
use crate::table::InterfaceName;

/// For a zero `nftables.syncPeriod`, as in the reference.
const SYNC_PERIOD: Duration = Duration::from_secs(30);

/// How pods of this node are told from other sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocal {
    /// By the cluster's pod ranges; none means that nothing is told.
    ClusterCidr(Vec<IpNetwork>),
    /// By the node's own pod ranges.
    NodeCidr,
    /// By the bridge that their packets come in through.
    Bridge(InterfaceName),
    /// By the start of the names of the interfaces that their packets come in through.
    InterfacePrefix(InterfaceName),
}

/// On which addresses node ports are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortRule {
    /// The node's primary address; all local addresses of a family in which it has none.
    Primary,
    /// All local addresses but loopback.
    Any,
    /// Local addresses in these ranges.
    Ranges(Vec<IpNetwork>),
}

/// Everything that is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kubeconfig file; without one, and without a master, the program runs in a pod of the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// This node's name.
    pub node_name: String,
    /// What the mode in the file was: anything else than `nftables` is remarked on.
    pub mode: String,
    /// The node's address until its Node object says one.
    pub bind_address: Option<IpAddr>,
    /// Where `/healthz` is served.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` is served.
    pub metrics: Option<SocketAddr>,
    /// A port in use ends the program.
    pub bind_hard_fail: bool,
    /// Serve what there is for profilers.
    pub profiling: bool,
    /// Pod detection.
    pub detect_local: DetectLocal,
    /// Masquerade everything to ClusterIPs.
    pub masquerade_all: bool,
    /// The bit of the packet mark that the table may use; it needs one only to tell pods by interface.
    pub masquerade_bit: u8,
    /// Node port addresses of each family.
    pub node_ports: PerFamily<NodePortRule>,
    /// How often the table is looked after without a change.
    pub sync_period: Duration,
    /// For this process.
    pub oom_score_adj: i32,
    /// Connection tracking.
    pub conntrack: Conntrack,
}

impl Settings {
    /// Checks a file's values. `hostname_override` is the flag's value, `hostname` the system's name.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn new(file: File, hostname_override: Option<&str>, hostname: &str) -> Result<Self, ConfigError> {
        let names = [
            hostname_override.unwrap_or_default(),
            &file.hostname_override,
            hostname,
        ];
        let full = file.completed();
        // The reference's rule: blanks cut, lower case.
        let node_name = names
            .iter()
            .map(|n| n.trim().to_lowercase())
            .find(|n| !n.is_empty());
        Ok(Self {
            node_name: node_name.unwrap_or_default(),
            mode: mode(&file)?,
            bind_address: bind_address(&file)?,
            healthz: listen_address("healthzBindAddress", &full.healthz_bind_address, "0.0.0.0:10256")?,
            metrics: listen_address(
                "metricsBindAddress",
                &full.metrics_bind_address,
                "127.0.0.1:10249",
            )?,
            bind_hard_fail: file.bind_address_hard_fail,
            detect_local: detect_local(&file)?,
            masquerade_all: masquerade_all(&file),
            masquerade_bit: masquerade_bit(&file)?,
            node_ports: node_ports(&file)?,
            sync_period: sync_period(&file),
            oom_score_adj: oom_score(&file)?,
            kubeconfig: Some(PathBuf::from(&file.client_connection.kubeconfig))
                .filter(|path| !path.as_os_str().is_empty()),
            profiling: file.enable_profiling,
            conntrack: file.conntrack,
        })
    }
}

impl Settings {
    /// The pod ranges of the whole cluster, as far as the file says them.
    #[must_use]
    pub fn cluster_ranges(&self) -> &[IpNetwork] {
        match &self.detect_local {
            DetectLocal::ClusterCidr(ranges) => ranges,
            DetectLocal::NodeCidr | DetectLocal::Bridge(_) | DetectLocal::InterfacePrefix(_) => &[],
        }
    }
}

fn invalid<T>(field: &'static str, value: impl ToString, allowed: &'static str) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid {
        field,
        value: value.to_string(),
        allowed,
    })
}

/// Where the mode that was asked for says it.
fn masquerade_all(file: &File) -> bool {
    match file.mode.as_str() {
        "nftables" => file.nftables.masquerade_all,
        _ => file.iptables.masquerade_all || file.nftables.masquerade_all,
    }
}

/// The same, of the mode that was asked for; the default stands for nothing said.
fn sync_period(file: &File) -> Duration {
    let (of_mode, ours) = match file.mode.as_str() {
        "nftables" => (file.nftables.sync_period, file.nftables.sync_period),
        "ipvs" => (file.ipvs.sync_period, file.nftables.sync_period),
        _ => (file.iptables.sync_period, file.nftables.sync_period),
    };
    let said = |period: &Duration| !period.is_zero() && *period != SYNC_PERIOD;
    [ours.0, of_mode.0].into_iter().find(said).unwrap_or(SYNC_PERIOD)
}

fn mode(file: &File) -> Result<String, ConfigError> {
    match file.mode.as_str() {
        "" | "iptables" | "ipvs" | "nftables" => Ok(file.mode.clone()),
        other => invalid(
            "mode",
            other,
            "`nftables` (also for an empty mode, `iptables` and `ipvs`)",
        ),
    }
}

fn bind_address(file: &File) -> Result<Option<IpAddr>, ConfigError> {
    let text = file.bind_address.trim();
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(Some(ip).filter(|ip| !ip.is_unspecified())),
        Err(_) => invalid("bindAddress", text, "an IP address"),
    }
}

/// `address:port`, `address` alone (the default's port) or `:port` (all addresses). An unset field is the default; port 0 is off.
fn listen_address(
    field: &'static str,
    text: &str,
    default: &'static str,
) -> Result<Option<SocketAddr>, ConfigError> {
    let text = text.trim();
    let text = if text.is_empty() { default } else { text };
    let default_port = default.rsplit_once(':').map_or("0", |(_, port)| port);
    let whole = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.to_owned(),
    };
    let parsed = whole
        .parse::<SocketAddr>()
        .or_else(|_| match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => format!("{ip}:{default_port}").parse(),
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{default_port}").parse(),
            Err(_) => whole.parse(),
        });
    match parsed {
        Ok(address) => Ok(Some(address).filter(|a| a.port() != 0)),
        Err(_) => invalid(
            field,
            text,
            "an IP address with a port, such as `0.0.0.0:10256`, or `:port`",
        ),
    }
}

/// Networks in a list; a mistake names the field.
fn networks<'a>(
    field: &'static str,
    list: impl Iterator<Item = &'a str>,
) -> Result<Vec<IpNetwork>, ConfigError> {
    let mut out = Vec::new();
    for text in list.map(str::trim).filter(|text| !text.is_empty()) {
        match text.parse() {
            // A bare address parses too; the file asks for ranges.
            Ok(network) if text.contains('/') => out.push(network),
            Ok(_) | Err(_) => return invalid(field, text, "ranges such as `10.244.0.0/16`"),
        }
    }
    Ok(out)
}

/// The reference's rule for cluster ranges; none is allowed.
fn is_one_or_pair(ranges: &[IpNetwork]) -> bool {
    match ranges {
        [] | [_] => true,
        [a, b] => a.is_ipv6() != b.is_ipv6(),
        _ => false,
    }
}

fn detect_local(file: &File) -> Result<DetectLocal, ConfigError> {
    let cluster = networks("clusterCIDR", file.cluster_cidr.split(','))?;
    match file.detect_local_mode.as_str() {
        "" | "ClusterCIDR" if !is_one_or_pair(&cluster) => invalid(
            "clusterCIDR",
            &file.cluster_cidr,
            "one range, or one of each address family",
        ),
        "" | "ClusterCIDR" => Ok(DetectLocal::ClusterCidr(cluster)),
        "NodeCIDR" => Ok(DetectLocal::NodeCidr),
        "BridgeInterface" => {
            let name = &file.detect_local.bridge_interface;
            let allowed = "an interface's name of 1 to 15 characters in this mode";
            match InterfaceName::new(name) {
                Some(name) => Ok(DetectLocal::Bridge(name)),
                None => invalid("detectLocal.bridgeInterface", name, allowed),
            }
        }
        "InterfaceNamePrefix" => {
            let prefix = &file.detect_local.interface_name_prefix;
            let allowed = "the start of interface names, 1 to 15 characters, in this mode";
            match InterfaceName::new(prefix) {
                Some(prefix) => Ok(DetectLocal::InterfacePrefix(prefix)),
                None => invalid("detectLocal.interfaceNamePrefix", prefix, allowed),
            }
        }
        other => invalid(
            "detectLocalMode",
            other,
            "`ClusterCIDR`, `NodeCIDR`, `BridgeInterface` or `InterfaceNamePrefix`",
        ),
    }
}

fn node_ports(file: &File) -> Result<PerFamily<NodePortRule>, ConfigError> {
    let list = &file.node_port_addresses;
    if list.is_empty() || list.iter().any(|entry| entry == "primary") {
        if list.len() > 1 {
            return invalid("nodePortAddresses", list.join(","), "`primary` alone, or ranges");
        }
        return Ok(PerFamily::each(|_| NodePortRule::Primary));
    }
    let ranges = networks("nodePortAddresses", list.iter().map(String::as_str))?;
    // As in the reference, a family that the list does not mention is not restricted.
    Ok(PerFamily::each(|family| {
        let mut own = ranges.clone();
        own.retain(|range| range.is_ipv6() == family.is_ipv6());
        if own.is_empty() || own.iter().any(|range| range.prefix() == 0) {
            NodePortRule::Any
        } else {
            NodePortRule::Ranges(own)
        }
    }))
}

fn masquerade_bit(file: &File) -> Result<u8, ConfigError> {
    match u8::try_from(file.nftables.masquerade_bit) {
        Ok(bit @ 0..=31) => Ok(bit),
        _ => invalid(
            "nftables.masqueradeBit",
            file.nftables.masquerade_bit,
            "numbers from 0 to 31",
        ),
    }
}

fn oom_score(file: &File) -> Result<i32, ConfigError> {
    match file.oom_score_adj {
        score @ -1000..=1000 => Ok(score),
        other => invalid("oomScoreAdj", other, "numbers from -1000 to 1000"),
    }
}
