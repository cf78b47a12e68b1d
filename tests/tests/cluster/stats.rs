//! What a node tells of its containers, pods and itself: `kubectl top` through metrics-server, and the three pages that
//! it, Prometheus and dashboards read, compared with what pods do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_tests::cluster::{NodeApi, Test, pods, poll, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use crate::exposition::{Sample, parse};

/// The reference looks at its cgroups every 10 to 15 s and needs two looks.
const SETTLED: Duration = secs(60);

/// A pod of three: one that wants a whole CPU and gets 0.3 (less on a busy machine), one that sleeps, one that holds 40 MB.
const WORKLOAD: &str = "{nodeName: NODE, containers: [
  {name: busy, image: 'busybox:1.36', command: [sh, -c, 'while true; do :; done'], resources: {requests: {cpu: 10m}, limits: {cpu: 300m, memory: 32Mi}}},
  {name: idle, image: 'busybox:1.36', command: [sleep, '100000']},
  {name: holds, image: 'busybox:1.36', command: [sh, -c, 'held=$(head -c 40000000 /dev/zero | tr \"\\0\" x); sleep 100000; echo $held'],
   resources: {limits: {memory: 256Mi}}}]}";

const CPU: f64 = 1e9;

fn workload(test: &Test) -> (Pod, NodeApi) {
    let node = &test.cluster.node_names()[0];
    test.pod("work", &WORKLOAD.replace("NODE", node));
    (test.wait_ready("work"), NodeApi::of_api_server(test, node))
}

fn metrics(api: &NodeApi, path: &str) -> Vec<Sample> {
    let answer = api.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert!(
        answer.content_type().starts_with("text/plain; version=0.0.4"),
        "{}",
        answer.content_type()
    );
    parse(&answer.text())
}

/// The pod in `/stats/summary`.
fn pod_in(summary: &Value, pod: &Pod) -> Option<Value> {
    let uid = pod.uid();
    let all = summary["pods"].as_array()?;
    all.iter()
        .find(|of| of["podRef"]["uid"].as_str() == uid.as_deref())
        .cloned()
}

fn container_in(pod: &Value, name: &str) -> Option<Value> {
    let all = pod["containers"].as_array()?;
    all.iter().find(|of| of["name"] == name).cloned()
}

fn within(value: f64, low: f64, high: f64, what: &str) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!("{what} is {value}, not between {low} and {high}"))
    }
}

fn number(value: &Value, what: &str) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("{what} is not there"))
}

#[test]
fn kubectl_top_shows_what_pods_use() {
    let test = Test::start("stats-top");
    workload(&test);
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let amount = |text: &str, unit: &str| text.strip_suffix(unit)?.parse::<f64>().ok();
    poll_ok(
        secs(150),
        "kubectl top pod --containers (hack/metrics-server adds it)",
        || {
            let output = test.try_kubectl(&["top", "pod", "work", "--containers", "--no-headers"]);
            let lines: BTreeMap<String, (f64, f64)> = output
                .out
                .lines()
                .map(columns)
                .filter_map(|line| {
                    let use_of = (amount(line.get(2)?, "m")?, amount(line.get(3)?, "Mi")?);
                    Some((line.get(1)?.clone(), use_of))
                })
                .collect();
            let of = |name: &str| {
                let found = lines.get(name).copied();
                found.ok_or_else(|| format!("no container {name}: {} {}", output.out, output.err))
            };
            within(of("busy")?.0, 30.0, 340.0, "busy's CPU")?;
            within(of("idle")?.0, 0.0, 20.0, "idle's CPU")?;
            within(of("holds")?.1, 38.0, 200.0, "held memory")
        },
    );
    poll_ok(secs(60), "kubectl top node", || {
        let output = test.try_kubectl(&["top", "node", "--no-headers"]);
        for name in test.cluster.node_names() {
            let line = output
                .out
                .lines()
                .map(columns)
                .find(|line| line.first() == Some(&name));
            let line = line.ok_or_else(|| format!("no {name}: {} {}", output.out, output.err))?;
            let (cpu, memory) = (amount(&line[1], "m"), amount(&line[3], "Mi"));
            within(cpu.unwrap_or(0.0), 1.0, 64_000.0, "CPU of the node")?;
            within(memory.unwrap_or(0.0), 10.0, 1e6, "memory of the node")?;
        }
        Ok(())
    });
}

#[test]
fn the_summary_tells_what_a_pod_does() {
    let test = Test::start("stats-summary");
    let (pod, api) = workload(&test);
    poll_ok(SETTLED, "the pod's figures in /stats/summary", || {
        let summary = api.get("/stats/summary").json();
        let found = pod_in(&summary, &pod).ok_or("the pod is not there")?;
        let container = |name: &str| container_in(&found, name).ok_or(format!("no container {name}"));
        let cores = |of: &Value| number(&of["cpu"]["usageNanoCores"], "usageNanoCores");
        let set = |of: &Value| number(&of["memory"]["workingSetBytes"], "workingSetBytes");
        let (busy, idle, holds) = (container("busy")?, container("idle")?, container("holds")?);
        within(cores(&busy)?, 0.03 * CPU, 0.34 * CPU, "busy's CPU")?;
        within(cores(&idle)?, 0.0, 0.02 * CPU, "idle's CPU")?;
        within(set(&holds)?, 40e6, 200e6, "held memory")?;
        within(set(&idle)?, 1.0, 10e6, "idle's memory")?;
        let left = number(&holds["memory"]["availableBytes"], "availableBytes")?;
        within(left + set(&holds)?, 268_435_456.0, 268_435_456.0, "limit")?;
        assert_eq!(idle["memory"].get("availableBytes"), None, "idle has no limit");
        within(cores(&found)?, 0.03 * CPU, 0.4 * CPU, "the pod's CPU")?;
        within(set(&found)?, 40e6, 300e6, "the pod's memory")?;
        within(
            number(&found["process_stats"]["process_count"], "process_count")?,
            3.0,
            8.0,
            "processes",
        )?;
        for (part, field) in [("swap", "swapUsageBytes"), ("network", "rxBytes")] {
            number(&found[part][field], field)?;
        }
        assert_eq!(found["network"]["name"], "eth0");
        assert_eq!(found["podRef"]["namespace"], test.namespace());
        Ok(())
    });
    let node = api.get("/stats/summary").json()["node"].clone();
    for (part, field) in [
        ("cpu", "usageCoreNanoSeconds"),
        ("memory", "workingSetBytes"),
        ("network", "rxBytes"),
        ("fs", "capacityBytes"),
        ("fs", "inodesUsed"),
        ("rlimit", "maxpid"),
        ("rlimit", "curproc"),
        ("swap", "swapUsageBytes"),
    ] {
        assert!(node[part][field].is_u64(), "{part}.{field} of {node}");
    }
    assert!(node["runtime"]["imageFs"]["usedBytes"].as_u64() > Some(1_000_000));
    let system: BTreeSet<&str> = node["systemContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|of| of["name"].as_str())
        .collect();
    assert_eq!(system, BTreeSet::from(["kubelet", "pods"]));
}

#[test]
fn the_summary_without_disks_is_short() {
    let test = Test::start("stats-short");
    let (pod, api) = workload(&test);
    let found = poll(SETTLED, "the pod in the short summary", || {
        let summary = api.get("/stats/summary?only_cpu_and_memory=true").json();
        let found = pod_in(&summary, &pod)?;
        (found["containers"].as_array()?.len() == 3 && found["cpu"].is_object()).then_some((summary, found))
    });
    let (summary, pod) = found;
    for absent in ["network", "volume", "ephemeral-storage", "process_stats", "io"] {
        assert_eq!(pod.get(absent), None, "{absent}");
    }
    for container in pod["containers"].as_array().into_iter().flatten() {
        let fields: BTreeSet<&str> = container
            .as_object()
            .into_iter()
            .flat_map(|of| of.keys().map(String::as_str))
            .collect();
        assert_eq!(
            fields,
            BTreeSet::from(["name", "startTime", "cpu", "memory", "swap"])
        );
    }
    for absent in ["network", "fs", "runtime", "rlimit", "io"] {
        assert_eq!(summary["node"].get(absent), None, "{absent}");
    }
    assert_eq!(api.send("POST", "/stats/summary").status, 200);
}

#[test]
fn the_summary_tells_what_a_pod_has_on_disk() {
    let test = Test::start("stats-disk");
    let node = &test.cluster.node_names()[0];
    test.pod(
        "writes",
        &format!(
            "{{nodeName: {node}, volumes: [{{name: scratch, emptyDir: {{}}}}, {{name: memory, emptyDir: {{medium: Memory}}}}], \
             containers: [{{name: c, image: 'busybox:1.36', command: [sh, -c, 'head -c 3000000 /dev/urandom >/scratch/file; \
             head -c 2000000 /dev/urandom >/memory/file; head -c 5000000 /dev/urandom >/file; head -c 100000 /dev/zero | tr \"\\0\" x; \
             sleep 100000'], volumeMounts: [{{name: scratch, mountPath: /scratch}}, {{name: memory, mountPath: /memory}}]}}]}}"
        ),
    );
    let (pod, api) = (test.wait_ready("writes"), NodeApi::of_api_server(&test, node));
    poll_ok(secs(150), "what the pod has written", || {
        let summary = api.get("/stats/summary").json();
        let found = pod_in(&summary, &pod).ok_or("the pod is not there")?;
        let container = container_in(&found, "c").ok_or("no container")?;
        let used = |of: &Value, what: &str| number(&of["usedBytes"], what);
        within(used(&container["rootfs"], "rootfs")?, 5e6, 5.4e6, "rootfs")?;
        within(used(&container["logs"], "logs")?, 5e4, 3e5, "logs")?;
        let volume = |name: &str| {
            let all = found["volume"].as_array().into_iter().flatten();
            let mut named = all.filter(|of| of["name"] == name);
            named.next().cloned().ok_or(format!("no volume {name}"))
        };
        within(used(&volume("scratch")?, "scratch")?, 3e6, 3.2e6, "scratch")?;
        within(used(&volume("memory")?, "memory")?, 2e6, 2.2e6, "memory")?;
        within(
            number(&volume("scratch")?["inodesUsed"], "inodes")?,
            2.0,
            2.0,
            "inodes of scratch",
        )?;
        let capacity = number(&container["rootfs"]["capacityBytes"], "capacity")?;
        within(capacity, 1e9, 1e16, "capacity")?;
        // What is in memory is not on the disk.
        within(
            used(&found["ephemeral-storage"], "all")?,
            8.1e6,
            9.5e6,
            "all of it",
        )
    });
}

#[test]
fn resource_metrics_have_a_time_and_grow() {
    let test = Test::start("stats-resource");
    let (pod, api) = workload(&test);
    let of_container = |samples: &[Sample], family: &str, container: &str| {
        let mut found = samples.iter().filter(|sample| {
            sample.name == family
                && sample.label("container") == container
                && sample.label("pod") == pod.name_any()
                && sample.label("namespace") == test.namespace()
        });
        found.next().cloned()
    };
    let busy = |samples: &[Sample]| of_container(samples, "container_cpu_usage_seconds_total", "busy");
    let first = poll(SETTLED, "CPU seconds of the busy container", || {
        busy(&metrics(&api, "/metrics/resource"))
    });
    poll_ok(SETTLED, "its CPU seconds grow as its limit lets them", || {
        let samples = metrics(&api, "/metrics/resource");
        let now = busy(&samples).ok_or("not there")?;
        let seconds = now.seconds_since(&first);
        if seconds < 8.0 {
            return Err(format!("only {seconds} s have passed"));
        }
        within((now.value - first.value) / seconds, 0.03, 0.34, "CPUs")?;
        let held = of_container(&samples, "container_memory_working_set_bytes", "holds");
        within(held.map_or(0.0, |held| held.value), 40e6, 200e6, "held memory")
    });
    let samples = metrics(&api, "/metrics/resource");
    let families: BTreeSet<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
    let mut expected = BTreeSet::from([
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_start_time_seconds",
        "container_swap_usage_bytes",
        "node_cpu_usage_seconds_total",
        "node_memory_working_set_bytes",
        "node_swap_usage_bytes",
        "pod_cpu_usage_seconds_total",
        "pod_memory_working_set_bytes",
        "pod_swap_usage_bytes",
        "resource_scrape_error",
    ]);
    // Where the kernel limits swap.
    expected.extend(families.get("container_swap_limit_bytes"));
    assert_eq!(families, expected);
    for sample in &samples {
        let untimed = ["container_start_time_seconds", "resource_scrape_error"];
        assert_eq!(
            sample.time_ms.is_none(),
            untimed.contains(&sample.name.as_str()),
            "{sample:?}"
        );
    }
    let started = of_container(&samples, "container_start_time_seconds", "busy").map(|of| of.value);
    let status = pods::container(&pod, "busy").and_then(|status| status.state.clone()?.running?.started_at);
    #[allow(clippy::cast_precision_loss, reason = "some seconds")]
    let running = status.map(|time| time.0.as_second() as f64);
    let apart = started.zip(running).map(|(one, other)| (one - other).abs());
    assert!(apart.is_some_and(|apart| apart < 3.0), "{started:?} {running:?}");
}
