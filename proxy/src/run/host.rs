//! What follows on the host beside the tables: routes; and what the host says of its addresses.

use std::collections::BTreeSet;

use tracing::warn;

use super::{Memory, Proxy};
use crate::programmer::with_cause;

impl Proxy {
    /// Sets the routes if they changed; false if that failed.
    pub(super) async fn set_routes(&mut self, memory: &mut Memory) -> bool {
        let wanted = memory.cluster.routes(&self.settings, self.families);
        if memory.routes.as_ref() == Some(&wanted) {
            return true;
        }
        // Where another program makes the pods' network, ranges of nodes on other links are that program's, or the cloud's, to route.
        let makes_network = self.cni_conf_dir.is_some();
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
