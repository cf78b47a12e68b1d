//! The configuration as it is written. Everything is optional here; `validate` decides.
//!
//! Other spellings are containerd's: what it hands over in `runtimeConfig` begins with capitals, which Go's decoder does not
//! tell from small letters.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::result::Dns;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) cni_version: String,
    #[serde(default, rename = "type")]
    pub(super) plugin_type: String,
    #[serde(default)]
    pub(super) prev_result: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    #[serde(default)]
    pub(super) cni_version: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) dns: Dns,
    pub(super) prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments", deserialize_with = "written")]
    pub(super) valid_attachments: Option<Vec<ValidAttachment>>,

    pub(super) bridge: Option<String>,
    pub(super) is_gateway: Option<bool>,
    pub(super) is_default_gateway: Option<bool>,
    pub(super) ip_masq: Option<bool>,
    pub(super) ip_masq_backend: Option<String>,
    pub(super) hairpin_mode: Option<bool>,
    #[serde(default)]
    pub(super) promisc_mode: bool,
    #[serde(default)]
    pub(super) port_isolation: bool,
    #[serde(default)]
    pub(super) mtu: i64,

    // Of the portmap plugin.
    pub(super) backend: Option<String>,
    pub(super) snat: Option<bool>,
    #[serde(default)]
    pub(super) masq_all: bool,
    pub(super) mark_masq_bit: Option<i64>,
    pub(super) external_set_mark_chain: Option<String>,
    pub(super) conditions_v4: Option<Vec<Value>>,
    pub(super) conditions_v6: Option<Vec<Value>>,

    #[serde(default)]
    pub(super) force_address: bool,
    #[serde(default)]
    pub(super) vlan: i64,
    #[serde(default)]
    pub(super) vlan_trunk: Option<Vec<Value>>,
    #[serde(default)]
    pub(super) macspoofchk: bool,
    #[serde(default)]
    pub(super) enabledad: bool,
    #[serde(default)]
    pub(super) disable_container_interface: bool,

    pub(super) ipam: Option<Ipam>,
    pub(super) subnet: Option<OneOrMany>,
    #[serde(default, rename = "clusterCIDRs")]
    pub(super) cluster_cidrs: Vec<String>,
    pub(super) policy_socket: Option<String>,

    // The limits of every pod, where the `bandwidth` plugin has them.
    pub(super) ingress_rate: Option<u64>,
    pub(super) ingress_burst: Option<u64>,
    pub(super) egress_rate: Option<u64>,
    pub(super) egress_burst: Option<u64>,

    #[serde(default)]
    pub(super) args: Args,
    #[serde(default)]
    pub(super) runtime_config: RuntimeConfig,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
pub(super) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(super) container_id: String,
    pub(super) ifname: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ipam {
    #[serde(default, rename = "type")]
    pub(super) plugin_type: String,
    #[serde(flatten)]
    pub(super) range: Range,
    #[serde(default)]
    pub(super) ranges: Vec<Vec<Range>>,
    #[serde(default)]
    pub(super) routes: Vec<Route>,
    pub(super) data_dir: Option<String>,
    pub(super) resolv_conf: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Range {
    #[serde(alias = "Subnet")]
    pub(super) subnet: Option<String>,
    #[serde(alias = "RangeStart")]
    pub(super) range_start: Option<String>,
    #[serde(alias = "RangeEnd")]
    pub(super) range_end: Option<String>,
    #[serde(alias = "Gateway")]
    pub(super) gateway: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Route {
    pub(super) dst: String,
    pub(super) gw: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) advmss: Option<u32>,
    pub(super) priority: Option<u32>,
    pub(super) table: Option<u32>,
    pub(super) scope: Option<u8>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Args {
    #[serde(default)]
    pub(super) cni: Wishes,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wishes {
    #[serde(default)]
    pub(super) mac: String,
    #[serde(default)]
    pub(super) ips: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuntimeConfig {
    #[serde(default)]
    pub(super) mac: String,
    #[serde(default)]
    pub(super) ips: Vec<String>,
    #[serde(default)]
    pub(super) ip_ranges: Vec<Vec<Range>>,
    pub(super) port_mappings: Option<Vec<PortMapping>>,
    pub(super) bandwidth: Option<Bandwidth>,
}

/// Of the `bandwidth` plugin: bits in a second and bits.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bandwidth {
    #[serde(default, alias = "IngressRate")]
    pub(super) ingress_rate: Option<u64>,
    #[serde(default, alias = "IngressBurst")]
    pub(super) ingress_burst: Option<u64>,
    #[serde(default, alias = "EgressRate")]
    pub(super) egress_rate: Option<u64>,
    #[serde(default, alias = "EgressBurst")]
    pub(super) egress_burst: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortMapping {
    #[serde(default, alias = "HostPort")]
    pub(super) host_port: i64,
    #[serde(default, alias = "ContainerPort")]
    pub(super) container_port: i64,
    #[serde(default, alias = "Protocol")]
    pub(super) protocol: String,
    #[serde(default, rename = "hostIP", alias = "HostIP")]
    pub(super) host_ip: String,
}

/// A list that is there. Go writes an empty one as `null`, which CRI-O hands to GC when it starts without pods.
fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(list: D) -> Result<Option<Vec<T>>, D::Error> {
    Option::deserialize(list).map(|list| Some(list.unwrap_or_default()))
}

/// Go writes an absent text as an empty one.
pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
