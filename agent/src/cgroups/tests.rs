//! Against fixture trees, and, as root on a version 1 host, against the kernel's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;

fn config(driver: CgroupDriver, root: &str) -> CgroupsConfig {
    CgroupsConfig {
        driver,
        root: root.to_owned(),
        per_qos: true,
        quota: CpuQuota::default(),
        pod_pids_limit: Some(64),
        hugepage_sizes: Vec::new(),
    }
}

fn v1_layout(dir: &Path) -> Layout {
    let mounts: BTreeMap<String, PathBuf> = ["cpu", "memory", "pids"]
        .map(|name| (name.to_owned(), dir.join(name)))
        .into();
    mounts
        .values()
        .for_each(|mount| fs::create_dir_all(mount).unwrap());
    Layout::V1 { mounts }
}

fn pod(uid: &str, resources: &str) -> Pod {
    let json = format!(
        r#"{{"metadata":{{"name":"p","namespace":"n","uid":"{uid}"}},
            "spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

const NONE: &str = "{}";
const BURSTABLE: &str = r#"{"requests":{"cpu":"250m"},"limits":{"cpu":"500m","memory":"64Mi"}}"#;
const GUARANTEED: &str = r#"{"requests":{"cpu":"1","memory":"64Mi"},"limits":{"cpu":"1","memory":"64Mi"}}"#;

#[test]
fn parents_in_both_drivers_forms() {
    let dir = tempfile::tempdir().unwrap();
    let parent = |driver, root: &str, resources: &str| {
        Cgroups::new(config(driver, root), v1_layout(dir.path())).pod_parent(&pod("a-b", resources))
    };
    assert_eq!(
        parent(CgroupDriver::Cgroupfs, "", NONE),
        "/kubepods/besteffort/poda-b"
    );
    assert_eq!(
        parent(CgroupDriver::Cgroupfs, "/x", BURSTABLE),
        "/x/kubepods/burstable/poda-b"
    );
    assert_eq!(
        parent(CgroupDriver::Cgroupfs, "/", GUARANTEED),
        "/kubepods/poda-b"
    );
    assert_eq!(
        parent(CgroupDriver::Systemd, "", BURSTABLE),
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice"
    );
    assert_eq!(
        parent(CgroupDriver::Systemd, "", GUARANTEED),
        "/kubepods.slice/kubepods-poda_b.slice"
    );
    let flat = CgroupsConfig {
        per_qos: false,
        ..config(CgroupDriver::Cgroupfs, "/x")
    };
    assert_eq!(
        Cgroups::new(flat, v1_layout(dir.path())).pod_parent(&pod("u", NONE)),
        "/x"
    );
}

#[tokio::test]
async fn a_root_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::new(config(CgroupDriver::Cgroupfs, "/nowhere"), v1_layout(dir.path()));
    let error = cgroups.ensure_root(&PodsLimit::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid configuration: cgroup-root \"/nowhere\" doesn't exist"
    );
}

#[tokio::test]
async fn the_burstable_tier_weighs_what_its_pods_request() {
    let dir = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::new(config(CgroupDriver::Cgroupfs, ""), v1_layout(dir.path()));
    let limit = PodsLimit {
        cpu_milli: 2000,
        memory: Some(1 << 30),
        pids: Some(1000),
    };
    cgroups.ensure_root(&limit).await.unwrap();
    let file = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    assert_eq!(file("cpu/kubepods/cpu.shares"), "2048");
    assert_eq!(file("memory/kubepods/memory.limit_in_bytes"), "1073741824");
    assert_eq!(file("cpu/kubepods/besteffort/cpu.shares"), "2");
    let pods = [
        pod("a", BURSTABLE),
        pod("b", BURSTABLE),
        pod("c", GUARANTEED),
        pod("d", NONE),
    ];
    cgroups.update_qos(&pods).await.unwrap();
    assert_eq!(file("cpu/kubepods/burstable/cpu.shares"), "512");
    fs::write(dir.path().join("cpu/kubepods/burstable/cpu.shares"), "kept").unwrap();
    cgroups.update_qos(&pods).await.unwrap();
    assert_eq!(
        file("cpu/kubepods/burstable/cpu.shares"),
        "kept",
        "an unchanged weight is not written again"
    );
    cgroups.create_pod(&pods[0]).await.unwrap();
    assert_eq!(file("cpu/kubepods/burstable/poda/cpu.cfs_quota_us"), "50000");
    assert_eq!(file("pids/kubepods/burstable/poda/pids.max"), "64");
    assert_eq!(cgroups.pods().await, ["a"]);
}

/// The kernel's own trees, in a cgroup that the test makes and removes.
#[tokio::test]
async fn the_kernel_takes_it_all() {
    let layout = Layout::detect().unwrap();
    assert!(
        rustix::process::getuid().is_root(),
        "this test makes cgroups: run it as root"
    );
    let root = format!("/gantry-test-{}", std::process::id());
    layout.create(&root).unwrap();
    let cgroups = Cgroups::new(config(CgroupDriver::Cgroupfs, &root), layout.clone());
    let limit = PodsLimit {
        cpu_milli: 2000,
        memory: Some(1 << 30),
        pids: Some(1000),
    };
    cgroups.ensure_root(&limit).await.unwrap();
    let pods = [pod("12-34", BURSTABLE), pod("56", GUARANTEED), pod("78", NONE)];
    for pod in &pods {
        cgroups.create_pod(pod).await.unwrap();
        cgroups.create_pod(pod).await.unwrap();
    }
    cgroups.update_qos(&pods).await.unwrap();
    assert_eq!(cgroups.pods().await, ["12-34", "56", "78"]);
    let read = |controller: &str, v1: &str, v2: &str| match &layout {
        Layout::V1 { mounts } => fs::read_to_string(
            mounts[controller]
                .join(&cgroups.pod_parent(&pods[0])[1..])
                .join(v1),
        ),
        Layout::V2 { mount } => fs::read_to_string(mount.join(&cgroups.pod_parent(&pods[0])[1..]).join(v2)),
    };
    assert_eq!(
        read("memory", "memory.limit_in_bytes", "memory.max")
            .unwrap()
            .trim(),
        "67108864"
    );
    let quota = read("cpu", "cpu.cfs_quota_us", "cpu.max").unwrap();
    assert!(quota.starts_with("50000"), "{quota}");
    // A process that nobody stopped: the removal kills it and waits until it is gone.
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let procs = match &layout {
        Layout::V1 { mounts } => mounts["memory"].clone(),
        Layout::V2 { mount } => mount.clone(),
    };
    let inside = procs
        .join(&cgroups.pod_parent(&pods[0])[1..])
        .join("cgroup.procs");
    fs::write(inside, sleeper.id().to_string()).unwrap();
    let reaper = std::thread::spawn(move || sleeper.wait().unwrap());
    for uid in ["12-34", "56", "78", "unknown"] {
        cgroups.remove_pod(uid).await.unwrap();
    }
    assert!(!reaper.join().unwrap().success());
    assert!(cgroups.pods().await.is_empty());
    assert!(layout.remove(&root).unwrap(), "nothing is left behind");
}
