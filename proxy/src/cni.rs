//! The node's CNI plugin and its configuration, which is written when the node's pod ranges are known.
//!
//! Containerd takes the network for ready as soon as the file is there, so it is written whole and renamed, and comes last.

pub mod binaries;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gantry_chassis::files::gone_is_fine;
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use tracing::info;

/// The file: early in the order of names, so that it is the one that is used.
const FILE: &str = "10-gantry.conflist";

/// The network's name in it.
const NETWORK: &str = "gantry";
/// The bridge that the pods are on.
pub const BRIDGE: &str = "cni0";
/// Where the plugin keeps who has which address, one directory for a network.
pub const STATE: &str = "/run/gantry-cni";

/// Why the file was not written or removed. Retry when the node changes.
#[derive(Debug, thiserror::Error)]
#[error("cannot write CNI configuration {path}")]
pub struct CniError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the configuration for a node with these pod ranges, unless it is there already. At `policy_socket` the plugin tells of pods.
///
/// # Errors
/// When the directory cannot be made or written.
pub fn write(dir: &Path, pod_ranges: &[IpNetwork], policy_socket: Option<&Path>) -> Result<(), CniError> {
    let path = dir.join(FILE);
    let mut text = serde_json::to_string_pretty(&config(pod_ranges, policy_socket)).unwrap_or_default();
    text.push('\n');
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    replace(dir, &path, text.as_bytes()).map_err(|source| CniError {
        path: path.clone(),
        source,
    })?;
    info!(path = %path.display(), "CNI configuration written");
    Ok(())
}

/// Removes it.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(dir: &Path) -> Result<(), CniError> {
    let path = dir.join(FILE);
    gone_is_fine(fs::remove_file(&path)).map_err(|source| CniError { path, source })
}

/// Removes who has which address: for when no pod is left. The directory itself may be a mount point.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_state() -> Result<(), CniError> {
    let path = Path::new(STATE).join(NETWORK);
    gone_is_fine(fs::remove_dir_all(&path)).map_err(|source| CniError { path, source })?;
    // It stays while there are other networks.
    let _ = fs::remove_dir(STATE);
    Ok(())
}

/// The table that the plugin makes by itself where the configuration has `ipMasq`: older versions' did. Ours takes its place.
#[must_use]
pub fn is_own_masquerade(table: &str) -> bool {
    table.strip_prefix("gantry-cni-") == Some(NETWORK)
}

/// Field names as those of the bridge and host-local plugins. Masquerading is this program's own part: it knows the other nodes.
fn config(pod_ranges: &[IpNetwork], policy_socket: Option<&Path>) -> Value {
    let ranges: Vec<Value> = pod_ranges
        .iter()
        .map(|range| json!([{ "subnet": range.to_string() }]))
        .collect();
    let any = |range: &IpNetwork| if range.is_ipv6() { "::/0" } else { "0.0.0.0/0" };
    let routes: Vec<Value> = pod_ranges
        .iter()
        .map(|range| json!({ "dst": any(range) }))
        .collect();
    let mut config = json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [{
            "type": "gantry-cni",
            "bridge": BRIDGE,
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "capabilities": { "bandwidth": true, "portMappings": true },
            "ipam": { "type": "host-local", "ranges": ranges, "routes": routes },
        }],
    });
    if let Some(socket) = policy_socket {
        config["plugins"][0]["policySocket"] = json!(socket);
    }
    config
}

fn replace(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    // A leading dot: no runtime reads it.
    let temporary = dir.join(format!(".{FILE}.tmp"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
