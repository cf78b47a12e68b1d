//! The services of the cluster, as the environment of containers needs them: one watch, a few dozen bytes a service.
//!
//! Owner of the table is one task; readers take snapshots by namespace. Reference: `pkg/kubelet/envvars`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use futures::TryStreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A service with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name.
    pub name: String,
    /// Its address in the cluster.
    pub cluster_ip: String,
    /// In the order of the spec.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServicePort {
    /// Empty when there is only one.
    #[serde(default)]
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// The service's port.
    pub port: u16,
}

/// By namespace, then by name.
type Table = HashMap<String, BTreeMap<String, Arc<Service>>>;

#[derive(Clone)]
pub(super) struct Services {
    table: Arc<RwLock<Table>>,
    synced: watch::Receiver<bool>,
    /// Ends the watch with the last clone.
    _task: Arc<AbortOnDropHandle<()>>,
}

/// The part of a Service that is read from the wire.
#[derive(Debug, Clone, Deserialize)]
struct Slim {
    #[serde(deserialize_with = "slim_meta")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SlimSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimSpec {
    #[serde(default, rename = "clusterIP")]
    cluster_ip: String,
    #[serde(default)]
    ports: Vec<ServicePort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimMeta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

fn tcp() -> String {
    "TCP".to_owned()
}

/// Managed fields and labels are skipped unread. The annotations stay: a bookmark marks the end of the first list by
/// one; services' own go with the object as soon as it is reduced.
fn slim_meta<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let SlimMeta {
        name,
        namespace,
        resource_version,
        annotations,
    } = SlimMeta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name,
        namespace,
        resource_version,
        annotations,
        ..ObjectMeta::default()
    })
}

impl kube::Resource for Slim {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Service".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "services".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Services {
    pub(super) fn new(client: &kube::Client) -> Self {
        let table = Arc::new(RwLock::new(Table::new()));
        let (synced_tx, synced) = watch::channel(false);
        let task = tokio::spawn(follow(
            kube::Api::all(client.clone()),
            Arc::clone(&table),
            synced_tx,
        ));
        Self {
            table,
            synced,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        }
    }

    pub(super) async fn of(&self, namespace: &str) -> Vec<Arc<Service>> {
        let mut synced = self.synced.clone();
        // An error means that the task has ended: the runtime shuts down, the table is as good as it gets.
        let _ = synced.wait_for(|synced| *synced).await;
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }
}

/// Feeds the table from the watch, for ever.
async fn follow(api: kube::Api<Slim>, table: Arc<RwLock<Table>>, synced: watch::Sender<bool>) {
    let events = watcher(api, watcher::Config::default().page_size(500))
        .backoff(gantry_kubeapi::WatchBackoff::default());
    let mut events = std::pin::pin!(events);
    let mut listed = Table::new();
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "watch of services interrupted"
                );
                continue;
            }
        };
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(service) => apply(&mut listed, service),
            watcher::Event::InitDone => {
                *table.write().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut listed);
                synced.send_replace(true);
            }
            watcher::Event::Apply(service) => {
                apply(
                    &mut table.write().unwrap_or_else(PoisonError::into_inner),
                    service,
                );
            }
            watcher::Event::Delete(service) => {
                remove(
                    &mut table.write().unwrap_or_else(PoisonError::into_inner),
                    &service.metadata,
                );
            }
        }
    }
}

/// Takes a service in, or out when it has no address (headless, ExternalName).
fn apply(table: &mut Table, service: Slim) {
    if service.spec.cluster_ip.is_empty() || service.spec.cluster_ip == "None" {
        return remove(table, &service.metadata);
    }
    let (Some(namespace), Some(name)) = (service.metadata.namespace, service.metadata.name) else {
        return;
    };
    let reduced = Service {
        name: name.clone(),
        cluster_ip: service.spec.cluster_ip,
        ports: service.spec.ports,
    };
    table
        .entry(namespace)
        .or_default()
        .insert(name, Arc::new(reduced));
}

fn remove(table: &mut Table, meta: &ObjectMeta) {
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else {
        return;
    };
    if let Some(services) = table.get_mut(namespace) {
        services.remove(name);
        if services.is_empty() {
            table.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests;
