//! What the tests of volumes stand on: a root directory, a model of the API server, pods.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::metrics::VolumeMetrics;
use crate::objects::Objects;
use crate::objects::fake::FakeApi;
use crate::volumes::mounts::{mounts_below, unmount_at};
use crate::volumes::{Allocatable, Volumes};

/// An agent's root directory with what runs on it; unmounts everything at the end.
pub(crate) struct Bench {
    pub(crate) root: TempDir,
    pub(crate) api: FakeApi,
    pub(crate) volumes: Volumes,
    _allocatable: watch::Sender<Allocatable>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount: run them as root"
        );
        let root = tempfile::Builder::new()
            .prefix("gantry-volumes")
            .tempdir()
            .unwrap();
        let api = FakeApi::default();
        let (volumes, _allocatable) = start(root.path(), &api);
        Self {
            root,
            api,
            volumes,
            _allocatable,
        }
    }

    /// Another run of the agent on the same disk.
    pub(crate) fn restart(&mut self) {
        (self.volumes, self._allocatable) = start(self.root.path(), &self.api);
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.volumes.layout().pods()
    }

    pub(crate) async fn orphans(&self, known: &[&str]) -> Vec<String> {
        let known = known.iter().map(|uid| (*uid).to_owned()).collect();
        self.volumes.orphans(&known).await.unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let root = self.root.path().canonicalize().unwrap();
        for path in mounts_below(&root).unwrap() {
            unmount_at(&path).unwrap();
        }
    }
}

fn start(root: &Path, api: &FakeApi) -> (Volumes, watch::Sender<Allocatable>) {
    let allocatable: BTreeMap<_, _> = serde_json::from_value(json!({"memory": "8Mi"})).unwrap();
    let (sender, receiver) = watch::channel(Arc::new(allocatable));
    let objects = Objects::new(&api.client());
    (
        Volumes::new(root, objects, receiver, VolumeMetrics::default()),
        sender,
    )
}

/// A pod that mounts each of the volumes at `/<name>`. Its UID is another one each time.
pub(crate) fn pod(volumes: &Value, context: &Value) -> Arc<Pod> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let names = volumes
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["name"].as_str().unwrap());
    let mounts: Vec<Value> = names
        .map(|name| json!({"name": name, "mountPath": format!("/{name}")}))
        .collect();
    let uid = format!("uid-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let pod = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": uid, "labels": {"app": "web"}},
        "spec": {
            "serviceAccountName": "builder", "securityContext": context, "volumes": volumes,
            "containers": [{"name": "c", "volumeMounts": mounts}],
        },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap()
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}
