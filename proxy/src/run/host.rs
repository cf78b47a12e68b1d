//! What follows on the host beside the table: routes, servers of health checks; and what the host says of its addresses.

use std::collections::BTreeSet;

use gantry_proxy_core::health_checks;
use tracing::warn;

use super::{Memory, Proxy};
use crate::config::NodePortRule;
use crate::programmer::with_cause;

impl Proxy {
    /// Opens and closes the health checks of services; false if one could not be opened.
    pub(super) async fn set_checks(&mut self, memory: &Memory) -> bool {
        let wanted = health_checks(self.programmer.planner().state());
        let addresses = memory
            .cluster
            .listen_addresses(&self.settings, &memory.local, false);
        self.checks.sync(&wanted, &addresses).await
    }

    /// Sets the routes if they changed; false if that failed.
    pub(super) async fn set_routes(&mut self, memory: &mut Memory) -> bool {
        let wanted = memory.cluster.routes(&self.settings);
        if memory.routes.as_ref() == Some(&wanted) {
            return true;
        }
        match self.routes.set(&wanted).await {
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

    /// The host's own addresses, where the configuration asks for them.
    pub(super) async fn read_local(&self, memory: &mut Memory) {
        if self.settings.node_ports == NodePortRule::Primary {
            return;
        }
        match self.routes.local_addresses().await {
            Ok(addresses) => memory.local = addresses,
            Err(error) => warn!(
                error = with_cause(&error),
                "node ports stay on the addresses known so far"
            ),
        }
    }
}
