//! Our Node object comes into being, or an older one is brought up to date.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, NodeSpec, NodeStatus, Taint},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};
use tracing::info;

use super::machine::Machine;
use crate::config::Config;

/// The attach-detach controller does this node's volumes.
const ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// The addresses given by hand, for a cloud controller.
const PROVIDED_IP: &str = "alpha.kubernetes.io/provided-node-ip";

/// Labels that are corrected on a node that exists already; all others are its owner's.
const DEFAULT_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The Node as it is when we create it.
pub(super) fn initial(config: &Config, machine: &Machine, status: NodeStatus) -> Node {
    let arch = machine.arch;
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    labels.extend(config.node_labels.clone());
    let mut taints = config.kubelet.register_with_taints.clone();
    if config.external_cloud_provider {
        taints.push(Taint {
            key: "node.cloudprovider.kubernetes.io/uninitialized".into(),
            value: Some("true".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        });
    }
    let provider = &config.kubelet.provider_id;
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            annotations: Some(annotations(config)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            provider_id: (!provider.is_empty()).then(|| provider.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

fn annotations(config: &Config) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if config.kubelet.enable_controller_attach_detach {
        all.insert(ATTACH.to_owned(), "true".to_owned());
    }
    if config.external_cloud_provider && !config.node_ips.is_empty() {
        let ips: Vec<_> = config.node_ips.iter().map(ToString::to_string).collect();
        all.insert(PROVIDED_IP.to_owned(), ips.join(","));
    }
    all
}

/// What an existing Node's metadata lacks, as a merge patch; `None` when nothing. Foreign labels, annotations and
/// taints are not touched.
fn reconcile(wanted: &Node, found: &Node) -> Option<Value> {
    let no = BTreeMap::new();
    let (have, want) = (
        found.metadata.labels.as_ref().unwrap_or(&no),
        wanted.metadata.labels.as_ref().unwrap_or(&no),
    );
    let labels: Map<String, Value> = DEFAULT_LABELS
        .into_iter()
        .filter_map(|key| Some((key, want.get(key)?)))
        .filter(|(key, value)| have.get(*key) != Some(value))
        .map(|(key, value)| (key.to_owned(), Value::from(value.as_str())))
        .collect();
    let (have, want) = (
        found.metadata.annotations.as_ref().unwrap_or(&no),
        wanted.metadata.annotations.as_ref().unwrap_or(&no),
    );
    let annotations: Map<String, Value> = [ATTACH, PROVIDED_IP]
        .into_iter()
        .filter(|key| have.get(*key) != want.get(*key))
        .map(|key| {
            (
                key.to_owned(),
                want.get(key)
                    .map_or(Value::Null, |value| Value::from(value.as_str())),
            )
        })
        .collect();
    (!labels.is_empty() || !annotations.is_empty())
        .then(|| json!({"metadata": {"labels": labels, "annotations": annotations}}))
}

/// Create our Node, or reconcile the one that is there. One try. The second value: it is new.
pub(super) async fn once(api: &Api<Node>, wanted: &Node) -> Result<(Node, bool), kube::Error> {
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    match api.create(&PostParams::default(), wanted).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => return other.map(|node| (node, true)),
    }
    let found = api.get(name).await?;
    info!(node = name, "node was registered before");
    let node = match reconcile(wanted, &found) {
        Some(patch) => {
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await?
        }
        None => found,
    };
    Ok((node, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    fn machine() -> Machine {
        Machine {
            arch: "amd64",
            ..Machine::default()
        }
    }

    #[test]
    fn a_new_node_has_labels_annotation_and_taints() {
        let mut config = testing::config("registerWithTaints: [{key: a, value: b, effect: NoSchedule}]");
        config.node_labels.insert("pool".into(), "blue".into());
        config.external_cloud_provider = true;
        config.node_ips = vec!["10.0.0.5".parse().unwrap()];
        let node = initial(&config, &machine(), NodeStatus::default());
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "node-1");
        assert_eq!(labels["kubernetes.io/arch"], "amd64");
        assert_eq!(labels["pool"], "blue");
        let annotations = node.metadata.annotations.unwrap();
        assert_eq!(annotations[ATTACH], "true");
        assert_eq!(annotations[PROVIDED_IP], "10.0.0.5");
        let taints = node.spec.unwrap().taints.unwrap();
        assert_eq!(
            taints.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(),
            ["a", "node.cloudprovider.kubernetes.io/uninitialized"]
        );
    }

    #[test]
    fn an_existing_node_keeps_what_is_not_ours() {
        let config = testing::config("");
        let wanted = initial(&config, &machine(), NodeStatus::default());
        assert_eq!(reconcile(&wanted, &wanted), None);
        let mut found = wanted.clone();
        let labels = found.metadata.labels.as_mut().unwrap();
        labels.insert("kubernetes.io/arch".into(), "arm64".into());
        labels.insert("foreign".into(), "label".into());
        found.metadata.annotations = Some(BTreeMap::from([("foreign".to_owned(), "annotation".to_owned())]));
        assert_eq!(
            reconcile(&wanted, &found).unwrap(),
            json!({"metadata": {"labels": {"kubernetes.io/arch": "amd64"}, "annotations": {ATTACH: "true"}}})
        );
    }
}
