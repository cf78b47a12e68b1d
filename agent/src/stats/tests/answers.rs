//! What is answered.

use super::*;

#[test]
fn the_text_of_resources_and_the_summary_name_the_pod() {
    let tree = Tree::v2(CgroupDriver::Cgroupfs);
    let pods = [running()];
    tree.group("/", 5, 0);
    tree.group("/kubepods", 5, 0);
    tree.group("/kubepods/pod12-34", 30, 300);
    tree.group(&format!("/kubepods/pod12-34/{SANDBOX}"), 10, 100);
    tree.group(&format!("/kubepods/pod12-34/{CONTAINER}"), 20, 200);
    let mut collector = tree.collector();
    collector.collect(&pods, &ImageNames::default(), Depth::Basic);
    let text = String::from_utf8(resources(&collector, &pods)).unwrap();
    for line in [
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 0.00002 ",
        "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 295 ",
        "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 2000\n",
        "node_cpu_usage_seconds_total 0.000005 ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let facts = Facts {
        node_name: "node".to_owned(),
        root_dir: tree.folder.path().to_owned(),
        pod_logs_dir: tree.folder.path().join("logs"),
        boot: at(1),
        started: at(2),
        own_cgroup: None,
    };
    let maker = Maker {
        facts: &facts,
        collector: &collector,
        pods: &pods,
        disks: None,
    };
    let summary = serde_json::to_value(maker.summary().unwrap()).unwrap();
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"]["uid"], "12-34");
    assert_eq!(pod["startTime"], "1970-01-01T00:16:40Z");
    assert_eq!(pod["containers"][0]["memory"]["workingSetBytes"], 195);
    assert_eq!(pod["memory"]["workingSetBytes"], 295);
    assert!(pod.get("network").is_none() && pod["containers"][0].get("rootfs").is_none());
    assert_eq!(summary["node"]["systemContainers"][0]["name"], "pods");
}

#[test]
fn a_full_summary_has_disks() {
    let tree = Tree::v2(CgroupDriver::Cgroupfs);
    let pods = [running()];
    tree.group("/", 5, 0);
    tree.group("/kubepods/pod12-34", 30, 300);
    tree.group(&format!("/kubepods/pod12-34/{SANDBOX}"), 10, 100);
    tree.group(&format!("/kubepods/pod12-34/{CONTAINER}"), 20, 200);
    tree.write("logs/n_p_12-34/c/0.log", &"x".repeat(9000));
    tree.write("pods/12-34/etc-hosts", "127.0.0.1 localhost\n");
    let mut collector = tree.collector();
    collector.collect(&pods, &ImageNames::default(), Depth::Full);
    let facts = Facts {
        node_name: "node".to_owned(),
        root_dir: tree.folder.path().to_owned(),
        pod_logs_dir: tree.folder.path().join("logs"),
        boot: at(1),
        started: at(2),
        own_cgroup: None,
    };
    let layer = crate::runtime::FsUsage {
        at: at(3),
        mount_point: String::new(),
        usage: gantry_agent_core::stats::figures::Usage {
            bytes: 1_000_000,
            inodes: 7,
        },
    };
    let layers = layers::Layers {
        writable: [(CONTAINER.to_owned(), layer)].into(),
        ..layers::Layers::default()
    };
    let disks = DiskParts {
        layers: &layers,
        logs: &LogSizes::default(),
        volumes: &Volumes::idle(),
        room: summary::own_room(&facts),
        now: at(4),
    };
    let maker = Maker {
        facts: &facts,
        collector: &collector,
        pods: &pods,
        disks: Some(disks),
    };
    let summary = serde_json::to_value(maker.summary().unwrap()).unwrap();
    let pod = &summary["pods"][0];
    let container = &pod["containers"][0];
    assert_eq!(container["rootfs"]["usedBytes"], 1_000_000);
    assert_eq!(container["logs"]["inodesUsed"], 1);
    assert!(container["logs"]["usedBytes"].as_u64().unwrap() >= 9000);
    let all = pod["ephemeral-storage"]["usedBytes"].as_u64().unwrap();
    assert!((1_009_000..1_100_000).contains(&all), "{all}");
    assert_eq!(pod["process_stats"]["process_count"], 1);
    assert!(pod["network"]["interfaces"].is_array() || pod["network"]["name"] == "");
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64().unwrap() > 0);
    assert!(summary["node"]["rlimit"]["maxpid"].as_u64().unwrap() > 0);
}
