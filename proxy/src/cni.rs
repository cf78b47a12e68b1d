//! The node's CNI configuration, written when the node's pod ranges are known.
//!
//! Containerd takes the network for ready as soon as the file is there, so it is written whole and renamed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use tracing::info;

/// The file: early in the order of names, so that it is the one that is used.
const FILE: &str = "10-gantry.conflist";

/// Why the file was not written. Retry when the node changes.
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
pub fn write(
    dir: &Path,
    pod_ranges: &[IpNetwork],
    cluster: &[IpNetwork],
    policy_socket: Option<&Path>,
) -> Result<(), CniError> {
    let path = dir.join(FILE);
    let mut text =
        serde_json::to_string_pretty(&config(pod_ranges, cluster, policy_socket)).unwrap_or_default();
    text.push('\n');
    if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    replace(dir, &path, text.as_bytes()).map_err(|source| CniError {
        path: path.clone(),
        source,
    })?;
    info!(path = %path.display(), "CNI configuration written");
    Ok(())
}

/// Field names as those of the bridge and host-local plugins.
fn config(pod_ranges: &[IpNetwork], cluster: &[IpNetwork], policy_socket: Option<&Path>) -> Value {
    let ranges: Vec<Value> = pod_ranges
        .iter()
        .map(|range| json!([{ "subnet": range.to_string() }]))
        .collect();
    let any = |range: &IpNetwork| if range.is_ipv6() { "::/0" } else { "0.0.0.0/0" };
    let routes: Vec<Value> = pod_ranges
        .iter()
        .map(|range| json!({ "dst": any(range) }))
        .collect();
    let cluster: Vec<String> = cluster.iter().map(IpNetwork::to_string).collect();
    let mut config = json!({
        "cniVersion": "1.0.0",
        "name": "gantry",
        "plugins": [{
            "type": "gantry-cni",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": true,
            "hairpinMode": true,
            "clusterCIDRs": cluster,
            "capabilities": { "bandwidth": true },
            "ipam": { "type": "host-local", "ranges": ranges, "routes": routes },
        }],
    });
    if let Some(socket) = policy_socket {
        config["plugins"][0]["policySocket"] = json!(socket);
    }
    config
}

fn replace(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    // A leading dot: no runtime reads it.
    let temporary = dir.join(format!(".{FILE}.tmp"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
