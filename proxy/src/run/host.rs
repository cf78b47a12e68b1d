//! What follows on the host beside the tables: the pods' network, routes; and what the host says of its addresses.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use tracing::warn;

use super::{Memory, Network, Proxy};
use crate::cni::{self, binaries};
use crate::outward;
use crate::programmer::with_cause;

impl Proxy {
    /// Makes the pods' network, once the node has pod ranges; false if that failed. The configuration comes last: the runtime
    /// takes it for the sign that pods can be started.
    pub(super) fn make_network(&mut self, memory: &mut Memory) -> bool {
        let own = memory.cluster.own(&self.settings);
        let (Some(network), Some(own)) = (&mut self.network, own) else {
            return true;
        };
        if own.pod_ranges.is_empty() {
            return true;
        }
        let outward = memory.cluster.outward(&self.settings);
        let installed = memory.installed || network.install();
        memory.installed = installed;
        let leaves = network.outward.set(&outward);
        let configured = leaves.is_ok() && installed && network.configure(&own.pod_ranges);
        if let Err(error) = leaves {
            warn!(error = with_cause(&error), "the node's network is not ready");
        }
        configured
    }

    /// Looks whether somebody took away the pods' way out.
    pub(super) fn check_outward(&mut self) {
        if let Some(Err(error)) = self.network.as_mut().map(|network| network.outward.check()) {
            warn!(
                error = with_cause(&error),
                "the pods' way out cannot be looked after"
            );
        }
    }

    /// Sets the routes if they changed; false if that failed.
    pub(super) async fn set_routes(&mut self, memory: &mut Memory) -> bool {
        let wanted = memory.cluster.routes(&self.settings, self.families);
        if memory.routes.as_ref() == Some(&wanted) {
            return true;
        }
        // Where another program makes the pods' network, ranges of nodes on other links are that program's, or the cloud's, to route.
        let makes_network = self.network.is_some();
        let own = memory.cluster.own(&self.settings).filter(|_| makes_network);
        match self.routes.set(&wanted, own).await {
            Ok(()) => {
                memory.routes = Some(wanted);
                true
            }
            Err(error) => {
                warn!(
                    error = with_cause(&error),
                    "pods of other nodes are not all reachable"
                );
                memory.routes = Some(BTreeSet::new());
                wanted.is_empty()
            }
        }
    }

    /// The host's own addresses, unless they are known or nothing depends on them: a family without a service has no node ports.
    pub(super) async fn read_local(&self, memory: &mut Memory) {
        let asked_for = self.stacks.iter().any(|stack| {
            let family = stack.family();
            memory.cluster.looks_at_host(&self.settings, family) && stack.has_services()
        });
        if memory.local_read || !asked_for {
            return;
        }
        match self.routes.local_addresses().await {
            Ok(addresses) => {
                memory.local = addresses;
                memory.local_read = true;
            }
            Err(error) => warn!(
                error = with_cause(&error),
                "node ports stay on the addresses known so far"
            ),
        }
    }
}

impl Network {
    /// False if the plugin cannot be installed.
    fn install(&self) -> bool {
        let installed = self.bin_dir.as_deref().map_or(Ok(()), binaries::install);
        if let Err(error) = &installed {
            warn!(error = with_cause(error), "the node's network is not ready");
        }
        installed.is_ok()
    }

    /// False if the configuration cannot be written.
    fn configure(&mut self, pod_ranges: &[IpNetwork]) -> bool {
        let written = cni::write(&self.conf_dir, pod_ranges, self.policy_socket.as_deref());
        if let Err(error) = &written {
            warn!(error = with_cause(error), "the node's network is not ready");
            return false;
        }
        // With the configuration that is there now, nobody makes the plugin's own table again.
        if !self.cleared {
            match outward::remove(cni::is_own_masquerade) {
                Ok(()) => self.cleared = true,
                Err(error) => warn!(error = with_cause(&error), "a table of the time before stays"),
            }
        }
        true
    }
}
