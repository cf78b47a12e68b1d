//! Fields that change what a pod may do or sees, and that we do not honour: each is named with its value and the way out.

use serde_json::Value;

use super::ConfigError;
use super::raw::{Config, given};
use crate::ports::table::MARK_BIT;

/// A field, its value if it is set, the way out.
type Refusal = (&'static str, Option<String>, &'static str);

/// Refuses the first such field.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut refusals = bridge(config)
        .into_iter()
        .chain(ipam(config))
        .chain(ports(config));
    match refusals.find_map(|(field, value, fix)| Some((field, value?, fix))) {
        Some((field, value, fix)) => Err(ConfigError::Unsupported { field, value, fix }),
        None => Ok(()),
    }
}

fn bridge(config: &Config) -> [Refusal; 6] {
    let flag = |set: bool| set.then(|| "true".to_owned());
    let backend = given(&config.ip_masq_backend).filter(|backend| *backend != "nftables");
    let (vlan, trunk) = (
        (config.vlan != 0).then(|| config.vlan.to_string()),
        listed(&config.vlan_trunk),
    );
    [
        ("vlan", vlan, "use the bridge plugin for VLANs"),
        ("vlanTrunk", trunk, "use the bridge plugin for VLANs"),
        (
            "macspoofchk",
            flag(config.macspoofchk),
            "remove it, or use the bridge plugin: addresses are not checked against forgery",
        ),
        (
            "enabledad",
            flag(config.enabledad),
            "remove it: leases already exclude duplicate addresses",
        ),
        (
            "disableContainerInterface",
            flag(config.disable_container_interface),
            "use the bridge plugin",
        ),
        (
            "ipMasqBackend",
            backend.map(quoted),
            "masquerading uses nftables: remove the field",
        ),
    ]
}

fn ipam(config: &Config) -> [Refusal; 1] {
    let ipam = config.ipam.as_ref();
    let other = ipam
        .map(|ipam| ipam.plugin_type.as_str())
        .filter(|name| !matches!(*name, "" | "host-local"));
    [(
        "ipam.type",
        other.map(quoted),
        "use \"host-local\", which is built in, or the bridge plugin",
    )]
}

/// Fields of the portmap plugin.
fn ports(config: &Config) -> [Refusal; 5] {
    let bit = config.mark_masq_bit.filter(|bit| *bit != i64::from(MARK_BIT));
    let backend = given(&config.backend).filter(|backend| *backend != "nftables");
    [
        (
            "backend",
            backend.map(quoted),
            "host ports use nftables: remove the field",
        ),
        (
            "markMasqBit",
            bit.map(|bit| bit.to_string()),
            "one table serves all networks and uses bit 13: remove the field",
        ),
        (
            "externalSetMarkChain",
            given(&config.external_set_mark_chain).map(quoted),
            "masquerading uses nftables: remove the field",
        ),
        (
            "conditionsV4",
            listed(&config.conditions_v4),
            "one table serves all pods: remove it, or chain the portmap plugin after this one",
        ),
        (
            "conditionsV6",
            listed(&config.conditions_v6),
            "one table serves all pods: remove it, or chain the portmap plugin after this one",
        ),
    ]
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn listed(list: &Option<Vec<Value>>) -> Option<String> {
    let list = list.as_ref().filter(|list| !list.is_empty())?;
    Some(Value::from(list.clone()).to_string())
}
