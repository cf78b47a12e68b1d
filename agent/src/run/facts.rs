//! What pods are told of the node, from the configuration, the machine and our Node object. Pure, but for reading
//! what the kernel offers.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use gantry_agent_core::{
    admission::NodeView,
    dns::{NodeDns, parse_resolv_conf},
    machine,
    resources::{Amounts, CpuQuota, amounts},
};
use k8s_openapi::api::core::v1::Node;

use crate::{
    cgroups::{CgroupsConfig, PodsLimit},
    config::Config,
    images::ImagesConfig,
    node::{Machine, reserved_for_system},
    pods::spec::{KernelFacts, NodeFacts, Swap, hugepage_size_name},
    runtime::CgroupDriver,
    volumes::Allocatable,
};

/// `status.addresses` of type InternalIP.
pub(super) fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node
        .status
        .iter()
        .filter_map(|status| status.addresses.as_ref())
        .flatten();
    all.filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

/// `status.allocatable`.
pub(super) fn allocatable(node: &Node) -> Allocatable {
    Arc::new(
        node.status
            .as_ref()
            .and_then(|status| status.allocatable.clone())
            .unwrap_or_default(),
    )
}

fn allocatable_amounts(node: &Node) -> Amounts {
    amounts(Some(&allocatable(node)))
}

/// The node as admission sees it.
pub(super) fn view(config: &Config, node: &Node) -> NodeView {
    let mut allocatable = allocatable_amounts(node);
    let pods = allocatable.remove("pods").map(|amount| amount.value());
    NodeView {
        name: config.node_name.clone(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default(),
        allocatable,
        max_pods: pods
            .and_then(|pods| u32::try_from(pods).ok())
            .unwrap_or(config.kubelet.max_pods),
    }
}

/// What statuses of pods are told.
pub(super) fn for_status(config: &Config, node: &Node) -> machine::NodeFacts {
    machine::NodeFacts {
        host_ips: addresses(node),
        max_restart_period: config.kubelet.crash_loop_back_off.max_container_restart_period,
    }
}

/// What sandboxes and containers are told.
pub(super) fn for_runtime(config: &Config, machine: &Machine, node: &Node, cgroup_v2: bool) -> NodeFacts {
    let settings = &config.kubelet;
    let host_ips = addresses(node);
    let resolv_conf = &settings.resolv_conf;
    let host_dns = (!resolv_conf.is_empty()).then(|| {
        let text = std::fs::read_to_string(resolv_conf).unwrap_or_else(|error| {
            tracing::warn!(%error, path = resolv_conf, "cannot read resolvConf: pods get no name servers of the host");
            String::new()
        });
        parse_resolv_conf(&text)
    });
    NodeFacts {
        root_dir: config.root_dir.clone(),
        pod_logs_dir: settings.pod_logs_dir.clone(),
        dns: NodeDns {
            cluster_dns: settings.cluster_dns.clone(),
            cluster_domain: settings.cluster_domain.clone(),
            host: host_dns,
            node_ips: host_ips.clone(),
        },
        host_ips,
        allocatable: allocatable_amounts(node),
        memory_capacity: machine.memory_bytes,
        cpu_quota: cpu_quota(config),
        seccomp_default: settings.seccomp_default,
        kernel: kernel(config, machine, cgroup_v2),
    }
}

fn kernel(config: &Config, machine: &Machine, cgroup_v2: bool) -> KernelFacts {
    let limited = config.kubelet.memory_swap.swap_behavior == "LimitedSwap";
    let throttles = (0..machine.cpus).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    KernelFacts {
        cgroup_v2,
        single_process_oom_kill: config.kubelet.single_process_oom_kill.unwrap_or(!cgroup_v2),
        swap: match (has_swap_controller(cgroup_v2), limited) {
            (false, _) => Swap::NoController,
            (true, false) => Swap::No,
            (true, true) => Swap::Limited {
                capacity: machine.swap_bytes,
            },
        },
        hugepage_sizes: hugepage_bytes(machine)
            .into_iter()
            .filter_map(hugepage_size_name)
            .collect(),
        thermal_throttle_paths: throttles.filter(|path| Path::new(path).exists()).collect(),
    }
}

/// Can the kernel limit swap by cgroup?
fn has_swap_controller(cgroup_v2: bool) -> bool {
    if !cgroup_v2 {
        return Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default()
        .to_owned();
    Path::new("/sys/fs/cgroup")
        .join(own)
        .join("memory.swap.max")
        .exists()
}

fn hugepage_bytes(machine: &Machine) -> Vec<i64> {
    let sizes = machine
        .hugepages
        .keys()
        .filter_map(|name| name.strip_prefix("hugepages-"));
    sizes
        .filter_map(|size| {
            Some(
                size.parse::<gantry_agent_core::quantity::Quantity>()
                    .ok()?
                    .value(),
            )
        })
        .collect()
}

fn cpu_quota(config: &Config) -> CpuQuota {
    let period = config.kubelet.cpu_cfs_quota_period;
    CpuQuota {
        enforce: config.kubelet.cpu_cfs_quota,
        // Validation keeps it within a second.
        period_us: u64::try_from(period.as_micros()).unwrap_or(100_000),
    }
}

/// How cgroups are made; `driver` is what the runtime says, if it says.
pub(super) fn cgroups(config: &Config, machine: &Machine, driver: Option<CgroupDriver>) -> CgroupsConfig {
    let settings = &config.kubelet;
    let configured = match settings.cgroup_driver.as_str() {
        "systemd" => CgroupDriver::Systemd,
        _ => CgroupDriver::Cgroupfs,
    };
    CgroupsConfig {
        driver: driver.unwrap_or(configured),
        root: settings.cgroup_root.clone(),
        per_qos: settings.cgroups_per_qos,
        quota: cpu_quota(config),
        pod_pids_limit: (settings.pod_pids_limit > 0).then_some(settings.pod_pids_limit),
        hugepage_sizes: hugepage_bytes(machine),
    }
}

/// What all pods together may use: the machine, less the reservations when they are enforced on pods.
pub(super) fn pods_limit(config: &Config, machine: &Machine) -> PodsLimit {
    let enforced = config
        .kubelet
        .enforce_node_allocatable
        .iter()
        .any(|level| level == "pods");
    let reserved = |name: &str| {
        if enforced {
            reserved_for_system(name, &config.kubelet)
        } else {
            gantry_agent_core::quantity::Quantity::ZERO
        }
    };
    let left = |total: i64, kept: i64| total.saturating_sub(kept).max(0);
    PodsLimit {
        cpu_milli: left(i64::from(machine.cpus) * 1000, reserved("cpu").milli_value()),
        memory: (machine.memory_bytes > 0).then(|| left(machine.memory_bytes, reserved("memory").value())),
        pids: machine.pids.map(|pids| left(pids, reserved("pid").value())),
    }
}

/// How images are pulled.
pub(super) fn images(config: &Config) -> ImagesConfig {
    let settings = &config.kubelet;
    ImagesConfig {
        serialize: settings.serialize_image_pulls,
        max_parallel: settings
            .max_parallel_image_pulls
            .and_then(|n| usize::try_from(n).ok()),
        qps: f64::from(settings.registry_pull_qps),
        burst: settings.registry_burst,
        ..ImagesConfig::new(config.root_dir.clone())
    }
}

/// How long a part waits before it asks the runtime or the API server again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::testing;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "node-1", "labels": {"zone": "a"}},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "10.0.0.5"},
                    {"type": "Hostname", "address": "node-1"},
                    {"type": "InternalIP", "address": "fd00::5"},
                ],
                "allocatable": {"cpu": "2", "pods": "7"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn admission_sees_labels_taints_and_room() {
        let view = view(&testing::config(""), &node());
        assert_eq!(
            (view.max_pods, view.labels["zone"].as_str(), view.taints.len()),
            (7, "a", 1)
        );
        assert_eq!(view.allocatable.keys().collect::<Vec<_>>(), ["cpu"]);
        assert_eq!(
            addresses(&node()),
            ["10.0.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]
        );
    }

    #[test]
    fn reservations_limit_all_pods_together() {
        let machine = Machine {
            cpus: 4,
            memory_bytes: 8 << 30,
            pids: Some(1000),
            ..Machine::default()
        };
        let limit = |yaml: &str| pods_limit(&testing::config(yaml), &machine);
        let reserved = "systemReserved: {cpu: 500m, memory: 1Gi, pid: '100'}\n";
        let kept = limit(reserved);
        assert_eq!(
            (kept.cpu_milli, kept.memory, kept.pids),
            (3500, Some(7 << 30), Some(900))
        );
        let open = limit(&format!("{reserved}enforceNodeAllocatable: [none]"));
        assert_eq!(
            (open.cpu_milli, open.memory, open.pids),
            (4000, Some(8 << 30), Some(1000))
        );
    }

    #[test]
    fn the_runtimes_cgroup_driver_wins() {
        let config = testing::config("cgroupDriver: systemd");
        let driver = |said| cgroups(&config, &Machine::default(), said).driver;
        assert_eq!(driver(None), CgroupDriver::Systemd);
        assert_eq!(driver(Some(CgroupDriver::Cgroupfs)), CgroupDriver::Cgroupfs);
    }
}
