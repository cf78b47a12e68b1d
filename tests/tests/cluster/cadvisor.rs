//! `/metrics/cadvisor`: the families and labels that dashboards name, and which cgroups have rows.
//!
//! The families below were recorded from the reference (v1.36.3) with a pod that has a CPU limit. Those that depend on
//! the kernel, on what disks did or on the cgroup version may be missing; no others may be there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_tests::cluster::{NodeApi, Test, pods, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::exposition::{Sample, parse};

/// The reference looks every 10 to 15 s; a figure of its is that old.
const SETTLED: Duration = secs(60);

/// With the labels of a cgroup and no others.
const PLAIN: &[&str] = &[
    "container_cpu_cfs_burst_periods_total",
    "container_cpu_cfs_burst_seconds_total",
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_cpu_load_average_10s",
    "container_cpu_load_d_average_10s",
    "container_cpu_system_seconds_total",
    "container_cpu_user_seconds_total",
    "container_file_descriptors",
    "container_health_state",
    "container_last_seen",
    "container_memory_cache",
    "container_memory_failcnt",
    "container_memory_kernel_usage",
    "container_memory_mapped_file",
    "container_memory_max_usage_bytes",
    "container_memory_rss",
    "container_memory_swap",
    "container_memory_total_active_file_bytes",
    "container_memory_total_inactive_file_bytes",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_oom_events_total",
    "container_processes",
    "container_sockets",
    "container_spec_cpu_period",
    "container_spec_cpu_quota",
    "container_spec_cpu_shares",
    "container_spec_memory_limit_bytes",
    "container_spec_memory_reservation_limit_bytes",
    "container_spec_memory_swap_limit_bytes",
    "container_start_time_seconds",
    "container_threads",
    "container_threads_max",
];

/// With more labels.
const LABELLED: &[(&str, &[&str])] = &[
    ("container_cpu_usage_seconds_total", &["cpu"]),
    ("container_fs_inodes_free", &["device"]),
    ("container_fs_inodes_total", &["device"]),
    ("container_fs_io_current", &["device"]),
    ("container_fs_io_time_seconds_total", &["device"]),
    ("container_fs_io_time_weighted_seconds_total", &["device"]),
    ("container_fs_limit_bytes", &["device"]),
    ("container_fs_read_seconds_total", &["device"]),
    ("container_fs_reads_merged_total", &["device"]),
    ("container_fs_reads_total", &["device"]),
    ("container_fs_sector_reads_total", &["device"]),
    ("container_fs_sector_writes_total", &["device"]),
    ("container_fs_usage_bytes", &["device"]),
    ("container_fs_write_seconds_total", &["device"]),
    ("container_fs_writes_merged_total", &["device"]),
    ("container_fs_writes_total", &["device"]),
    ("container_memory_failures_total", &["failure_type", "scope"]),
    ("container_network_receive_bytes_total", &["interface"]),
    ("container_network_receive_errors_total", &["interface"]),
    ("container_network_receive_packets_dropped_total", &["interface"]),
    ("container_network_receive_packets_total", &["interface"]),
    ("container_network_transmit_bytes_total", &["interface"]),
    ("container_network_transmit_errors_total", &["interface"]),
    ("container_network_transmit_packets_dropped_total", &["interface"]),
    ("container_network_transmit_packets_total", &["interface"]),
    ("container_tasks_state", &["state"]),
    ("container_ulimits_soft", &["ulimit"]),
];

/// Of the machine, with its three labels.
const MACHINE: &[(&str, &[&str])] = &[
    ("machine_cpu_books", &[]),
    ("machine_cpu_cores", &[]),
    ("machine_cpu_drawers", &[]),
    ("machine_cpu_physical_cores", &[]),
    ("machine_cpu_sockets", &[]),
    ("machine_memory_bytes", &[]),
    ("machine_nvm_avg_power_budget_watts", &[]),
    ("machine_nvm_capacity", &["mode"]),
    ("machine_swap_bytes", &[]),
];

/// Where disks were used by containers, where the kernel accounts pressure or cost of disks.
const SOMETIMES: &[(&str, &[&str])] = &[
    (
        "container_blkio_device_usage_total",
        &["device", "major", "minor", "operation"],
    ),
    ("container_fs_reads_bytes_total", &["device"]),
    ("container_fs_writes_bytes_total", &["device"]),
    ("container_fs_io_cost_usage_seconds_total", &["device"]),
    ("container_fs_io_cost_wait_seconds_total", &["device"]),
    ("container_fs_io_cost_indebt_seconds_total", &["device"]),
    ("container_fs_io_cost_indelay_seconds_total", &["device"]),
    ("container_pressure_cpu_stalled_seconds_total", &[]),
    ("container_pressure_cpu_waiting_seconds_total", &[]),
    ("container_pressure_memory_stalled_seconds_total", &[]),
    ("container_pressure_memory_waiting_seconds_total", &[]),
    ("container_pressure_io_stalled_seconds_total", &[]),
    ("container_pressure_io_waiting_seconds_total", &[]),
];

const CGROUP: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// Names of labels as [`Sample::label_names`] writes them.
fn names(base: &[&str], more: &[&str]) -> String {
    let mut all: Vec<&str> = base.iter().chain(more).copied().collect();
    all.sort_unstable();
    all.join(",")
}

fn recorded() -> BTreeMap<&'static str, String> {
    let plain = PLAIN.iter().map(|name| (*name, names(&CGROUP, &[])));
    let labelled = LABELLED.iter().map(|(name, more)| (*name, names(&CGROUP, more)));
    let base = ["boot_id", "machine_id", "system_uuid"];
    let machine = MACHINE.iter().map(|(name, more)| (*name, names(&base, more)));
    let version = [
        "cadvisorRevision",
        "cadvisorVersion",
        "dockerVersion",
        "kernelVersion",
        "osVersion",
    ];
    plain
        .chain(labelled)
        .chain(machine)
        .chain([
            ("cadvisor_version_info", names(&version, &[])),
            ("container_scrape_error", String::new()),
            ("machine_scrape_error", String::new()),
        ])
        .collect()
}

const LIMITED: &str = "{nodeName: NODE, containers: [
  {name: busy, image: 'busybox:1.36', command: [sh, -c, 'while true; do :; done'], resources: {requests: {cpu: 10m}, limits: {cpu: 200m, memory: 32Mi}}},
  {name: idle, image: 'busybox:1.36', command: [sleep, '100000']}]}";

fn limited_pod(test: &Test) -> (Pod, NodeApi) {
    let node = &test.cluster.node_names()[0];
    test.pod("limited", &LIMITED.replace("NODE", node));
    (test.wait_ready("limited"), NodeApi::of_api_server(test, node))
}

fn scrape(api: &NodeApi) -> Vec<Sample> {
    parse(&api.get("/metrics/cadvisor").text())
}

/// The pod's lines, once every row has some.
fn settled(api: &NodeApi, pod: &Pod) -> Vec<Sample> {
    let mut found = Vec::new();
    poll_ok(SETTLED, "rows of the pod, its sandbox and its containers", || {
        found = scrape(api);
        let of_pod = found
            .iter()
            .filter(|sample| sample.name == "container_memory_rss" && sample.label("pod") == pod.name_any());
        let rows = of_pod.filter(|sample| sample.label("namespace") == pod.namespace().unwrap_or_default());
        match rows.count() {
            4 => Ok(()),
            other => Err(format!("{other} rows")),
        }
    });
    found
}

#[test]
fn families_and_labels_are_the_recorded_ones() {
    let test = Test::start("cadvisor-families");
    let (pod, api) = limited_pod(&test);
    let samples = settled(&api, &pod);
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for sample in &samples {
        found
            .entry(&sample.name)
            .or_default()
            .insert(sample.label_names());
    }
    let recorded = recorded();
    for (name, labels) in &recorded {
        let seen = found.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(seen, &BTreeSet::from([labels.clone()]), "labels of {name}");
    }
    let sometimes: BTreeMap<&str, String> = SOMETIMES
        .iter()
        .map(|(name, more)| (*name, names(&CGROUP, more)))
        .collect();
    for (name, seen) in found.iter().filter(|(name, _)| !recorded.contains_key(*name)) {
        let labels = sometimes
            .get(name)
            .unwrap_or_else(|| panic!("nobody knows {name}"));
        assert_eq!(seen, &BTreeSet::from([labels.clone()]), "labels of {name}");
    }
}

#[test]
fn a_pod_has_rows_of_its_own_its_sandbox_and_its_containers() {
    let test = Test::start("cadvisor-rows");
    let (pod, api) = limited_pod(&test);
    let samples = settled(&api, &pod);
    let uid = pod.uid().unwrap_or_default();
    let rows: BTreeMap<&str, &Sample> = samples
        .iter()
        .filter(|sample| sample.name == "container_memory_rss" && sample.label("id").contains(&uid))
        .map(|sample| (sample.label("id"), sample))
        .collect();
    let row = |what: &str, test: &dyn Fn(&Sample) -> bool| {
        let found: Vec<&Sample> = rows.values().copied().filter(|sample| test(sample)).collect();
        assert_eq!(found.len(), 1, "{what}: {rows:?}");
        found[0]
    };
    let own = row("the pod", &|sample| sample.label("name").is_empty());
    assert_eq!((own.label("container"), own.label("image")), ("", ""));
    assert!(own.label("id").ends_with(&format!("pod{uid}")), "{own:?}");
    let sandbox = row("the sandbox", &|sample| sample.label("image").contains("/pause:"));
    assert_eq!(sandbox.label("container"), "");
    assert_eq!(
        sandbox.label("id"),
        format!("{}/{}", own.label("id"), sandbox.label("name"))
    );
    for name in ["busy", "idle"] {
        let id = pods::container_id(&pod, name).unwrap_or_default();
        let container = row(name, &|sample| sample.label("name") == id);
        assert_eq!(container.label("container"), name);
        assert_eq!(container.label("image"), "docker.io/library/busybox:1.36");
        assert_eq!(container.label("id"), format!("{}/{id}", own.label("id")));
    }
    // The network is the sandbox's, once.
    let network: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.name == "container_network_receive_bytes_total")
        .filter(|sample| sample.label("pod") == "limited" && sample.label("namespace") == test.namespace())
        .collect();
    assert_eq!(network.len(), 1, "{network:?}");
    assert_eq!(
        (network[0].label("interface"), network[0].label("id")),
        ("eth0", sandbox.label("id"))
    );
    let ids: BTreeSet<&str> = samples.iter().map(|sample| sample.label("id")).collect();
    for id in [
        "/",
        "/kubepods",
        "/kubepods/burstable",
        "/kubepods/besteffort",
        "/system.slice/kubelet.service",
    ] {
        assert!(ids.contains(id), "{id} is not in {ids:?}");
    }
}

#[test]
fn figures_are_those_of_the_pod_and_carry_their_time() {
    let test = Test::start("cadvisor-figures");
    let (pod, api) = limited_pod(&test);
    let of = |samples: &[Sample], family: &str, container: &str| {
        let mut found = samples.iter().filter(|sample| {
            sample.name == family
                && sample.label("container") == container
                && sample.label("pod") == "limited"
                && sample.label("namespace") == test.namespace()
        });
        found.next().cloned().ok_or(format!("no {family} of {container}"))
    };
    let first = settled(&api, &pod);
    let start =
        of(&first, "container_cpu_usage_seconds_total", "busy").unwrap_or_else(|error| panic!("{error}"));
    poll_ok(
        SETTLED,
        "the busy container uses its limit and is throttled",
        || {
            let samples = scrape(&api);
            let now = of(&samples, "container_cpu_usage_seconds_total", "busy")?;
            let seconds = now.seconds_since(&start);
            if seconds < 8.0 {
                return Err(format!("only {seconds} s have passed"));
            }
            let cpus = (now.value - start.value) / seconds;
            let throttled = of(&samples, "container_cpu_cfs_throttled_periods_total", "busy")?.value;
            match (cpus, throttled) {
                (0.02..0.24, 1.0..) => Ok(()),
                (cpus, throttled) => Err(format!("{cpus} CPUs, throttled in {throttled} periods")),
            }
        },
    );
    let samples = scrape(&api);
    for (family, value) in [
        ("container_spec_cpu_quota", 20_000.0),
        ("container_spec_cpu_period", 100_000.0),
        ("container_spec_memory_limit_bytes", 33_554_432.0),
        ("container_processes", 1.0),
        ("container_threads", 1.0),
    ] {
        let found = of(&samples, family, "busy").unwrap_or_else(|error| panic!("{error}"));
        assert!((found.value - value).abs() < 0.5, "{found:?}");
        assert_eq!(
            found.time_ms.is_none(),
            family.starts_with("container_spec"),
            "{found:?}"
        );
    }
    assert!(of(&samples, "container_spec_cpu_quota", "idle").is_err());
    let bytes = |family: &str| of(&samples, family, "idle").map_or(0.0, |sample| sample.value);
    let (set, usage) = (
        bytes("container_memory_working_set_bytes"),
        bytes("container_memory_usage_bytes"),
    );
    assert!(0.0 < set && set <= usage && usage < 20e6, "{set} {usage}");
}
