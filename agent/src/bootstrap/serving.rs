//! The serving certificate from the API server's signer (`serverTLSBootstrap`): asked for, kept, renewed.
//!
//! It is for the addresses in the node's status; when these change another one is asked for. The signer waits for
//! somebody's approval, so a request may stay open for days; meanwhile what there was is served.

use std::{fs, future::pending};

use jiff::Timestamp;
use kube::Client;
use prometheus::IntCounter;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{BACKOFF_MAX, csr::Wish, obtain, rotate, store, store::Store};
use crate::{config::Config, node::NodeRef, report::Chain};

/// Sees to it that there is one. Does not end. Cancel safe: what was asked for is asked for again.
pub(crate) async fn follow(
    client: &Client,
    config: &Config,
    mut node: watch::Receiver<NodeRef>,
    failures: IntCounter,
) {
    let store = Store::serving(&config.cert_dir);
    loop {
        let wish = wish(config, &mut node).await;
        tokio::select! {
            // Cancel safe: the key of a request under way is on the disk.
            () = renew(client, &store, &wish, &failures) => {}
            // Cancel safe: only waits.
            () = other(config, &mut node, &wish) => info!("the node's addresses have changed: another serving certificate"),
        }
    }
}

/// The wish, once the node has an address.
async fn wish(config: &Config, node: &mut watch::Receiver<NodeRef>) -> Wish {
    loop {
        let now = wished(config, &node.borrow_and_update());
        if let Some(wish) = now {
            return wish;
        }
        if node.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Waits until something else is wished for.
async fn other(config: &Config, node: &mut watch::Receiver<NodeRef>, wish: &Wish) {
    loop {
        if node.changed().await.is_err() {
            return pending().await;
        }
        if wished(config, &node.borrow_and_update()).is_some_and(|now| now != *wish) {
            return;
        }
    }
}

fn wished(config: &Config, node: &NodeRef) -> Option<Wish> {
    let status = node.as_ref()?.status.as_ref()?;
    Wish::serving(&config.node_name, status.addresses.as_deref()?)
}

/// Waits until the certificate is due, and asks until there is another one.
async fn renew(client: &Client, store: &Store, wish: &Wish, failures: &IntCounter) {
    rotate::sleep_until(due(store, wish)).await;
    let mut pause = BACKOFF_MAX;
    while let Err(error) = obtain(client, store, wish).await {
        failures.inc();
        warn!(error = %Chain(&error), "no serving certificate, will ask again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(rotate::RETRY);
    }
    info!("serving certificate issued");
}

/// When to ask: at 70 to 90 % of the certificate's life, or now when there is none for these addresses.
fn due(store: &Store, wish: &Wish) -> Timestamp {
    let held = fs::read(store.current()).ok();
    let usable = held.filter(|pem| store::names(pem).is_some_and(|names| wish.is_met_by(&names)));
    let validity = usable.and_then(|pem| store::validity(&pem));
    validity.map_or(Timestamp::UNIX_EPOCH, |validity| {
        rotate::deadline(validity, rand::random_range(0.7..0.9))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Node;
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::{
        config::testing,
        testing::{ApiServer, DEADLINE},
    };

    fn failures() -> IntCounter {
        crate::metrics::Certificates::default().server_failures
    }

    fn node(ip: &str) -> NodeRef {
        let node: Node = serde_json::from_value(json!({
            "metadata": {}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
        }))
        .unwrap();
        Some(Arc::new(node))
    }

    #[tokio::test]
    async fn asks_for_the_nodes_addresses_and_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            cert_dir: dir.path().to_owned(),
            ..testing::config("")
        };
        let (client, mut server) = ApiServer::new();
        let (sender, receiver) = watch::channel(None);
        let following = tokio::spawn(async move { follow(&client, &config, receiver, failures()).await });
        sender.send_replace(node("10.0.0.5"));
        let first = server.next().await;
        assert_eq!(
            first.line(),
            "POST /apis/certificates.k8s.io/v1/certificatesigningrequests"
        );
        assert_eq!(first.body["spec"]["signerName"], "kubernetes.io/kubelet-serving");
        let name = first.body["metadata"]["name"].clone();
        // Not answered: the addresses change while the request is open.
        sender.send_replace(node("10.0.0.6"));
        let second = server.next().await;
        assert_ne!(second.body["metadata"]["name"], name);
        following.abort();
        let ended = tokio::time::timeout(DEADLINE, following).await.unwrap();
        assert!(ended.unwrap_err().is_cancelled());
    }

    #[test]
    fn a_certificate_for_other_addresses_is_due_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::serving(dir.path());
        let wish = |ip: &str| wished(&testing::config(""), &node(ip)).unwrap();
        assert_eq!(due(&store, &wish("10.0.0.5")), Timestamp::UNIX_EPOCH);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["10.0.0.5".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        store.save(certificate.pem().as_bytes(), &key).unwrap();
        assert!(due(&store, &wish("10.0.0.5")) > Timestamp::now());
        assert_eq!(due(&store, &wish("10.0.0.6")), Timestamp::UNIX_EPOCH);
    }
}
