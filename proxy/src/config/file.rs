//! KubeProxyConfiguration, version `kubeproxy.config.k8s.io/v1alpha1`: every field of the file, with the reference's defaults.
//!
//! What is not honoured is accepted and kept, so that a file written for the reference is taken as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::duration::GoDuration;

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct File {
    /// Must be `kubeproxy.config.k8s.io/v1alpha1`.
    pub api_version: String,
    /// Must be `KubeProxyConfiguration`.
    pub kind: String,
    /// Feature gates: accepted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    /// How to reach the API server.
    pub client_connection: ClientConnection,
    /// Format and verbosity.
    pub logging: Logging,
    /// The node's name if not the host's.
    pub hostname_override: String,
    /// Fallback for the node's address.
    pub bind_address: String,
    /// Address and port of `/healthz`; empty is off.
    pub healthz_bind_address: String,
    /// Address and port of `/metrics`; empty is off.
    pub metrics_bind_address: String,
    /// True if a port in use ends the program.
    pub bind_address_hard_fail: bool,
    /// Accepted: there is no profiler here.
    pub enable_profiling: bool,
    /// Accepted.
    pub show_hidden_metrics_for_version: String,
    /// Anything but `kernelspace` runs nftables.
    pub mode: String,
    /// Of another mode: its source translation and resync are ours when it was chosen.
    pub iptables: Iptables,
    /// Of another mode: its resync is ours when it was chosen.
    pub ipvs: Ipvs,
    /// Source translation and resync.
    pub nftables: Nftables,
    /// Accepted: another system's.
    pub winkernel: Winkernel,
    /// How pods of this node are told from others.
    pub detect_local_mode: String,
    /// Parameters of that.
    pub detect_local: DetectLocal,
    /// Pod ranges, separated by commas.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// Where node ports are served: CIDRs or `primary`.
    #[serde(serialize_with = "null_if_empty")]
    pub node_port_addresses: Vec<String>,
    /// For this process.
    pub oom_score_adj: i32,
    /// Limits and time-outs of connection tracking.
    pub conntrack: Conntrack,
    /// Accepted: watches need no resync.
    pub config_sync_period: GoDuration,
    /// Accepted: ignored by the reference too.
    pub port_range: String,
    /// Accepted: another system's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub windows_run_as_service: bool,
}

/// `clientConnection`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    /// The kubeconfig file.
    pub kubeconfig: String,
    /// Accepted: JSON is what we read.
    pub accept_content_types: String,
    /// Accepted.
    pub content_type: String,
    /// Accepted: four watches need no limit.
    #[serde(serialize_with = "short_number")]
    pub qps: f64,
    /// Accepted.
    pub burst: i32,
}

/// `logging`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// `text` or `json`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Accepted.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub flush_frequency: Value,
    /// As `-v`.
    pub verbosity: u32,
    /// Accepted.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub vmodule: Value,
    /// Accepted.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub options: Value,
}

/// `nftables`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nftables {
    /// The bit of the packet mark that is used when pods are told by interface; otherwise none is.
    pub masquerade_bit: i32,
    /// Masquerade everything that goes to a ClusterIP.
    pub masquerade_all: bool,
    /// How often the table is looked after without a change.
    pub sync_period: GoDuration,
    /// Accepted: changes are gathered for milliseconds, not for a second.
    pub min_sync_period: GoDuration,
}

/// `iptables`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Iptables {
    /// Accepted: no packet mark is used.
    pub masquerade_bit: i32,
    /// Masquerade everything that goes to a ClusterIP.
    pub masquerade_all: bool,
    /// Accepted: node ports are never served on loopback.
    pub localhost_node_ports: bool,
    /// How often the table is looked after without a change.
    pub sync_period: GoDuration,
    /// Accepted.
    pub min_sync_period: GoDuration,
}

/// `ipvs`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ipvs {
    /// How often the table is looked after without a change.
    pub sync_period: GoDuration,
    /// Accepted.
    pub min_sync_period: GoDuration,
    /// Accepted.
    pub scheduler: String,
    /// Accepted.
    #[serde(rename = "excludeCIDRs", serialize_with = "null_if_empty")]
    pub exclude_cidrs: Vec<String>,
    /// Accepted.
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    /// Accepted.
    pub tcp_timeout: GoDuration,
    /// Accepted.
    pub tcp_fin_timeout: GoDuration,
    /// Accepted.
    pub udp_timeout: GoDuration,
}

/// `winkernel`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Winkernel {
    /// Accepted.
    pub network_name: String,
    /// Accepted.
    pub source_vip: String,
    /// Accepted.
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    /// Accepted.
    pub root_hns_endpoint_name: String,
    /// Accepted.
    pub forward_health_check_vip: bool,
}

/// `detectLocal`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocal {
    /// For mode `BridgeInterface`.
    pub bridge_interface: String,
    /// For mode `InterfaceNamePrefix`.
    pub interface_name_prefix: String,
}

/// `conntrack`. Zero leaves the system's setting.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conntrack {
    /// Entries for each processor.
    pub max_per_core: u32,
    /// At least this many entries.
    pub min: u32,
    /// Time-out of idle TCP connections.
    pub tcp_established_timeout: GoDuration,
    /// Time-out of half-closed TCP connections.
    pub tcp_close_wait_timeout: GoDuration,
    /// Take TCP packets outside the window for valid.
    pub tcp_be_liberal: bool,
    /// Time-out of UDP flows without an answer.
    pub udp_timeout: GoDuration,
    /// Time-out of UDP flows with an answer.
    pub udp_stream_timeout: GoDuration,
}

/// As Go writes it: without a fraction when there is none.
fn short_number<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match format!("{number}").parse::<i64>() {
        Ok(whole) => serializer.serialize_i64(whole),
        Err(_) => serializer.serialize_f64(*number),
    }
}

/// As Go writes an empty list that nobody made.
fn null_if_empty<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    (!list.is_empty()).then_some(list).serialize(serializer)
}

fn seconds(seconds: u64) -> GoDuration {
    GoDuration(std::time::Duration::from_secs(seconds))
}

impl Default for File {
    fn default() -> Self {
        Self {
            api_version: String::new(),
            kind: String::new(),
            feature_gates: BTreeMap::new(),
            client_connection: ClientConnection::default(),
            logging: Logging::default(),
            hostname_override: String::new(),
            bind_address: String::new(),
            healthz_bind_address: String::new(),
            metrics_bind_address: String::new(),
            bind_address_hard_fail: false,
            enable_profiling: false,
            show_hidden_metrics_for_version: String::new(),
            mode: String::new(),
            iptables: Iptables::default(),
            ipvs: Ipvs::default(),
            nftables: Nftables::default(),
            winkernel: Winkernel::default(),
            detect_local_mode: String::new(),
            detect_local: DetectLocal::default(),
            cluster_cidr: String::new(),
            node_port_addresses: Vec::new(),
            oom_score_adj: -999,
            conntrack: Conntrack::default(),
            config_sync_period: seconds(15 * 60),
            port_range: String::new(),
            windows_run_as_service: false,
        }
    }
}

impl Default for Iptables {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            localhost_node_ports: true,
            sync_period: seconds(30),
            min_sync_period: seconds(1),
        }
    }
}

impl Default for Nftables {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            sync_period: seconds(30),
            min_sync_period: seconds(1),
        }
    }
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established_timeout: seconds(24 * 3600),
            tcp_close_wait_timeout: seconds(3600),
            tcp_be_liberal: false,
            udp_timeout: GoDuration::default(),
            udp_stream_timeout: GoDuration::default(),
        }
    }
}
