//! The heartbeat: our Lease in `kube-node-lease`, renewed four times within its life.

use std::time::Duration;

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::watch;
use tracing::{info, warn};

use super::NodeRef;
use crate::report::Chain;

const NAMESPACE: &str = "kube-node-lease";
/// Tries in a row after a failure before the next regular one.
const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// Renew the lease of `name` for ever. `seconds` is its life. `client` should carry nothing else, so that no other
/// traffic delays a renewal. Abort safe.
pub(super) async fn keep(client: Client, name: String, seconds: u32, node: watch::Receiver<NodeRef>) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let period = Duration::from_secs(seconds.into()) / 4;
    let mut last: Option<Lease> = None;
    let mut failures: u32 = 0;
    loop {
        let owner = node.borrow().as_deref().and_then(owner);
        match renew(&api, last.take(), &name, seconds, owner).await {
            Ok(lease) => {
                if failures > 0 {
                    info!(failures, "node lease renewed again");
                }
                failures = 0;
                last = Some(lease);
                // Up to 4 % of jitter, as the reference.
                tokio::time::sleep(period.mul_f64(rand::random_range(1.0..1.04))).await;
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    warn!(error = %Chain(&error), failures, "cannot renew the node lease, will retry");
                }
                let pause = BACKOFF_MIN.saturating_mul(1 << failures.min(6));
                tokio::time::sleep(pause.min(period).mul_f64(rand::random_range(0.75..1.0))).await;
            }
        }
    }
}

/// One renewal: an update of the lease last seen, without reading it first; on any trouble the next call reads it.
async fn renew(
    api: &Api<Lease>,
    last: Option<Lease>,
    name: &str,
    seconds: u32,
    owner: Option<OwnerReference>,
) -> Result<Lease, kube::Error> {
    let known = match last {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let exists = known.is_some();
    let mut lease = known.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.to_owned());
    spec.lease_duration_seconds = i32::try_from(seconds).ok();
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    if let Some(owner) = owner
        && lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
    {
        lease.metadata.owner_references = Some(vec![owner]);
    }
    let params = PostParams::default();
    if exists {
        api.replace(name, &params, &lease).await
    } else {
        api.create(&params, &lease).await
    }
}

/// The Node as owner, so that its deletion takes the lease along.
fn owner(node: &Node) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests;
