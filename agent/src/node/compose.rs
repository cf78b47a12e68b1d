//! The node's status from what is known: setters in the reference's order. Pure.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, NodeAddress, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
        NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
    },
    jiff::Timestamp,
};

use super::{
    conditions,
    machine::Machine,
    resources::{self, Resources},
    runtime_state::RuntimeState,
    usage::Gauge,
};
use crate::{
    cli::VERSION,
    config::{Config, gates},
    runtime::Image,
};

/// Names listed for an image (`MaxNamesPerImageInNodeStatus`).
const IMAGE_NAMES: usize = 5;

/// What the machine and the runtime say at one moment.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) machine: &'a Machine,
    /// Empty while the machine has none.
    pub(super) addresses: &'a [IpAddr],
    /// Size of the filesystem of the root directory, bytes.
    pub(super) disk_bytes: Option<i64>,
    /// `None` when the runtime did not say.
    pub(super) images: Option<&'a [Image]>,
    pub(super) runtime: &'a RuntimeState,
    pub(super) gauge: &'a Gauge,
    /// Both clocks, read together.
    pub(super) now: (Timestamp, Instant),
}

/// A status, and the reasons of the node events that the change from the known one gives.
pub(super) struct Composed {
    pub(super) status: NodeStatus,
    pub(super) events: Vec<&'static str>,
}

/// `known`, brought up to date; what others wrote into it stays.
pub(super) fn compose(config: &Config, known: &NodeStatus, facts: &Facts<'_>) -> Composed {
    let settings = &config.kubelet;
    let known_capacity: Resources = known.capacity.clone().unwrap_or_default();
    let capacity = resources::capacity(facts.machine, facts.disk_bytes, settings, &known_capacity);
    let allocatable = resources::allocatable(&capacity, settings);
    let (wall, monotonic) = facts.now;
    let (conditions, events) = conditions::update(
        known.conditions.as_deref().unwrap_or_default(),
        |pressure| facts.gauge.under(pressure, monotonic),
        &facts.runtime.errors(monotonic),
        wall,
    );
    let runtime = facts.runtime.status.as_deref();
    let status = NodeStatus {
        addresses: addresses(config, known, facts.addresses),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        node_info: Some(node_info(facts)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: settings.port.into(),
            }),
        }),
        images: match facts.images {
            Some(images) => Some(listed(images, settings.node_status_max_images)),
            None => known.images.clone(),
        },
        runtime_handlers: runtime.map_or_else(
            || known.runtime_handlers.clone(),
            |status| {
                Some(
                    status
                        .handlers
                        .iter()
                        .map(|handler| NodeRuntimeHandler {
                            name: Some(handler.name.clone()),
                            features: Some(NodeRuntimeHandlerFeatures {
                                recursive_read_only_mounts: Some(handler.recursive_read_only_mounts),
                                user_namespaces: Some(handler.user_namespaces),
                            }),
                        })
                        .collect(),
                )
            },
        ),
        features: runtime
            .and_then(|status| status.supplemental_groups_policy)
            .map(|on| NodeFeatures {
                supplemental_groups_policy: Some(on),
            })
            .or_else(|| known.features.clone()),
        conditions: Some(conditions),
        declared_features: declared(&settings.feature_gates),
        ..known.clone()
    };
    Composed { status, events }
}

/// What the API server may leave to us (KEP-5328).
fn declared(gates: &BTreeMap<String, bool>) -> Option<Vec<String>> {
    let on = |gate| gates::enabled(gates, gate);
    (on("NodeDeclaredFeatures") && on(gates::WEB_SOCKETS)).then(|| vec![gates::WEB_SOCKETS.to_owned()])
}

fn addresses(config: &Config, known: &NodeStatus, found: &[IpAddr]) -> Option<Vec<NodeAddress>> {
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.into(),
        address,
    };
    let host_name = address("Hostname", config.node_name.clone());
    let has_some = known.addresses.as_ref().is_some_and(|all| !all.is_empty());
    // A cloud controller's addresses stay; before it has spoken, only those given by hand are known.
    if config.external_cloud_provider && (has_some || config.node_ips.is_empty()) {
        return if has_some {
            known.addresses.clone()
        } else {
            Some(vec![host_name])
        };
    }
    if found.is_empty() {
        return known.addresses.clone();
    }
    let internal = found.iter().map(|ip| address("InternalIP", ip.to_string()));
    Some(internal.chain([host_name]).collect())
}

fn node_info(facts: &Facts<'_>) -> NodeSystemInfo {
    let machine = facts.machine;
    let swap = (machine.swap_bytes > 0).then_some(NodeSwapStatus {
        capacity: Some(machine.swap_bytes),
    });
    let version = facts.runtime.version.as_ref();
    NodeSystemInfo {
        machine_id: machine.machine_id.clone(),
        system_uuid: machine.system_uuid.clone(),
        boot_id: machine.boot_id.clone(),
        kernel_version: machine.kernel.clone(),
        os_image: machine.os_image.clone(),
        container_runtime_version: version.map_or_else(|| "unknown://Unknown".into(), |v| v.node_info()),
        kubelet_version: VERSION.into(),
        kube_proxy_version: String::new(),
        operating_system: "linux".into(),
        architecture: machine.arch.into(),
        swap,
    }
}

/// The biggest images, each with a few names, digests first.
fn listed(images: &[Image], max: i32) -> Vec<ContainerImage> {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.id.cmp(&b.id)));
    // -1: all of them.
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    sorted
        .into_iter()
        .take(max)
        .map(|image| ContainerImage {
            names: Some(
                image
                    .repo_digests
                    .iter()
                    .chain(&image.repo_tags)
                    .take(IMAGE_NAMES)
                    .cloned()
                    .collect(),
            ),
            size_bytes: i64::try_from(image.size_bytes).ok(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;
    use crate::{config::testing, node::runtime_state::tests::state};

    fn image(id: &str, size_bytes: u64) -> Image {
        Image {
            id: id.into(),
            repo_tags: (0..6).map(|n| format!("{id}:{n}")).collect(),
            repo_digests: vec![format!("{id}@sha256:0")],
            size_bytes,
            uid: None,
            username: String::new(),
            pinned: false,
        }
    }

    fn with<T>(config: &Config, known: &NodeStatus, check: impl FnOnce(Composed) -> T) -> T {
        let machine = Machine {
            cpus: 2,
            memory_bytes: 1 << 30,
            arch: "amd64",
            ..Machine::default()
        };
        let gauge = Gauge::new(Vec::new(), Duration::from_secs(300));
        let now = (Timestamp::now(), Instant::now());
        let runtime = state(true, true, Some(now.1));
        let images = [image("small", 1), image("big", 9), image("middle", 5)];
        let facts = Facts {
            machine: &machine,
            addresses: &["10.0.0.5".parse().unwrap()],
            disk_bytes: Some(1 << 30),
            images: Some(&images),
            runtime: &runtime,
            gauge: &gauge,
            now,
        };
        check(compose(config, known, &facts))
    }

    #[test]
    fn a_ready_node_has_everything() {
        let config = testing::config("nodeStatusMaxImages: 2");
        with(&config, &NodeStatus::default(), |composed| {
            let status = composed.status;
            let addresses: Vec<_> = status
                .addresses
                .unwrap()
                .into_iter()
                .map(|a| format!("{} {}", a.type_, a.address))
                .collect();
            assert_eq!(addresses, ["InternalIP 10.0.0.5", "Hostname node-1"]);
            assert_eq!(
                status.daemon_endpoints.unwrap().kubelet_endpoint.unwrap().port,
                10250
            );
            let images = status.images.unwrap();
            assert_eq!(
                images.iter().map(|i| i.size_bytes).collect::<Vec<_>>(),
                [Some(9), Some(5)]
            );
            let names = images[0].names.as_ref().unwrap();
            assert_eq!((names.len(), names[0].as_str()), (5, "big@sha256:0"));
            let info = status.node_info.unwrap();
            assert_eq!(
                (info.kubelet_version.as_str(), info.operating_system.as_str()),
                ("v1.36.3", "linux")
            );
            assert_eq!(status.conditions.unwrap()[3].status, "True");
        });
    }

    #[test]
    fn what_is_translated_here_is_declared() {
        let declared = |config: &str| {
            let config = testing::config(config);
            with(&config, &NodeStatus::default(), |composed| {
                composed.status.declared_features
            })
        };
        assert_eq!(declared(""), Some(vec!["ExtendWebSocketsToKubelet".to_owned()]));
        assert_eq!(declared("featureGates: {ExtendWebSocketsToKubelet: false}"), None);
        assert_eq!(declared("featureGates: {NodeDeclaredFeatures: false}"), None);
    }

    #[test]
    fn what_others_wrote_stays() {
        let config = testing::config("");
        let known = NodeStatus {
            capacity: Some(BTreeMap::from([(
                "example.com/gpu".to_owned(),
                Quantity("2".into()),
            )])),
            volumes_attached: Some(Vec::new()),
            ..NodeStatus::default()
        };
        with(&config, &known, |composed| {
            assert_eq!(composed.status.allocatable.unwrap()["example.com/gpu"].0, "2");
            assert_eq!(composed.status.volumes_attached, Some(Vec::new()));
        });
    }

    #[test]
    fn a_cloud_controllers_addresses_stay() {
        let mut config = testing::config("");
        config.external_cloud_provider = true;
        let given = vec![NodeAddress {
            type_: "ExternalIP".into(),
            address: "198.51.100.1".into(),
        }];
        let known = NodeStatus {
            addresses: Some(given.clone()),
            ..NodeStatus::default()
        };
        with(&config, &known, |composed| {
            assert_eq!(composed.status.addresses, Some(given))
        });
        with(&config, &NodeStatus::default(), |composed| {
            assert_eq!(composed.status.addresses.unwrap()[0].type_, "Hostname");
        });
    }
}
