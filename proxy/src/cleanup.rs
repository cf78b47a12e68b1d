//! `--cleanup`: takes away what this program made on the host, and with the directories of the pods' network that network, too.
//!
//! | always | tables of services, of network policies (with what was told of pods) and of the pods' way out; routes to pods; the tunnel |
//! |---|---|
//! | with `--cni-conf-dir` | the CNI configuration; unless a pod is on the bridge also that, who has which address, the plugin's tables |
//! | with `--cni-bin-dir` | the CNI plugins; what was in the place of one before is put back |
//!
//! Pods that run keep their interfaces and addresses, so that a later installation finds them as they are. Kernel settings stay: nobody
//! knows who else has come to need them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gantry_nft::{CommitError, Nft, OpenError};
use gantry_proxy_core::Families;
use tracing::info;

use crate::cni::binaries::{self, BinaryError};
use crate::cni::{self, CniError};
use crate::outward::{self, OutwardError};
use crate::policy::{self, EnforceError};
use crate::routes::{RouteError, Routes};
use crate::table::{Layout, Masquerading, NodePorts, Pods, Table, kernels};
use crate::{leftovers, sysctl};

/// Tables of our programs, the CNI plugin's, too.
const OURS: &str = "gantry-";

/// What is to be taken away beside what always is.
#[derive(Clone, Debug, Default)]
pub struct Also {
    /// Where the CNI configuration is.
    pub conf_dir: Option<PathBuf>,
    /// Where the CNI plugins are.
    pub bin_dir: Option<PathBuf>,
}

/// Why something stays. What comes after it stays, too; to be done again.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// There is no way to the kernel.
    #[error("nf_tables cannot be used")]
    Open(#[from] OpenError),
    /// A service's table.
    #[error("the table of services stays")]
    Services(#[from] CommitError),
    /// A policies' table.
    #[error("the table of network policies stays")]
    Policies(#[from] EnforceError),
    /// Files of the policies.
    #[error("what the CNI plugin has told of pods stays")]
    Told(#[source] std::io::Error),
    /// A table of the pods' network.
    #[error("a table of the pods' network stays")]
    Pods(#[from] OutwardError),
    /// Files of the configuration.
    #[error("the CNI configuration stays")]
    Configuration(#[from] CniError),
    /// Programs.
    #[error("the CNI plugin stays")]
    Plugin(#[from] BinaryError),
    /// Routes and devices.
    #[error("pod routes")]
    Routes(#[from] Box<RouteError>),
    /// No runtime, or no netlink.
    #[error("routes cannot be used")]
    Netlink(#[from] std::io::Error),
}

/// Takes it away. The runtime hears first that it is to start no more pods.
///
/// # Errors
/// The first failure.
pub fn run(also: &Also) -> Result<(), CleanupError> {
    if let Some(dir) = &also.conf_dir {
        cni::remove(dir)?;
    }
    if let Some(dir) = &also.bin_dir {
        binaries::remove(dir)?;
    }
    // A family that is switched off may still have a table.
    for family in Families::on(sysctl::knows_ipv6()).all() {
        let layout = Layout {
            family: kernels(*family),
            node_ports: NodePorts::Listed,
            masquerading: Masquerading::Nobody,
            pods: Pods::Ranges,
        };
        Table::open(layout)?.remove()?;
    }
    policy::remove()?;
    policy::forget(Path::new(policy::DIR)).map_err(CleanupError::Told)?;
    outward::remove(|table| table == outward::TABLE)?;
    leftovers::warn_of(&mut Nft::open()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(links(also.conf_dir.is_some()))
}

async fn links(with_network: bool) -> Result<(), CleanupError> {
    let routes = Routes::open()?;
    routes.set(&BTreeSet::new(), None).await.map_err(Box::new)?;
    if !with_network {
        return Ok(());
    }
    outward::remove(cni::is_own_masquerade)?;
    if routes.remove_bridge(cni::BRIDGE).await.map_err(Box::new)? {
        outward::remove(|table| table.starts_with(OURS))?;
        cni::remove_state()?;
    } else {
        info!(
            bridge = cni::BRIDGE,
            "pods are still on the bridge: it stays, and who has which address"
        );
    }
    Ok(())
}
