//! What a kube-proxy of another mode left on this host: its rules would decide about packets beside ours.
//!
//! It is named in the log and left alone: who removes it has to be the program that knows its format (`kube-proxy --cleanup`).

use std::path::Path;

use gantry_nft::{Family, Nft};
use tracing::warn;

/// Chains that only the service proxy makes, in tables of `iptables-nft`; kubelet has others that begin with `KUBE-`.
const CHAINS: [&str; 3] = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-PROXY-CANARY"];
const TABLES: [&str; 3] = ["nat", "filter", "mangle"];
/// The interface that mode `ipvs` binds service addresses to.
const IPVS: &str = "kube-ipvs0";

/// Names what is there.
pub fn warn_of(nft: &mut Nft) {
    let found = find(nft);
    if !found.is_empty() {
        warn!(
            found = found.join(", "),
            "another mode of kube-proxy ran here and left rules that may answer for services that are gone; \
             remove them with `kube-proxy --cleanup` of that version, or restart the machine"
        );
    }
}

/// What is there, in words.
pub fn find(nft: &mut Nft) -> Vec<String> {
    let mut found = Vec::new();
    for (family, name) in [(Family::Ipv4, "ip"), (Family::Ipv6, "ip6")] {
        for table in TABLES {
            // A kernel that does not say is a kernel without.
            let chains = nft.chains(family, table).unwrap_or_default();
            let left: Vec<&str> = CHAINS
                .into_iter()
                .filter(|left| chains.iter().any(|chain| chain == left))
                .collect();
            if !left.is_empty() {
                found.push(format!("chains {} of table {name} {table}", left.join(" ")));
            }
        }
    }
    if Path::new("/sys/class/net").join(IPVS).exists() {
        found.push(format!("interface {IPVS}"));
    }
    found
}
