use std::fs;

use super::*;

/// A version 2 tree: the kernel would make the files, here they are made for `paths`.
fn v2_tree(paths: &[&str]) -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    for path in std::iter::once(&"").chain(paths) {
        let folder = dir.path().join(path);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.controllers"), "cpu cpuset io memory pids\n").unwrap();
        fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
    }
    let layout = Layout::V2 {
        mount: dir.path().to_owned(),
    };
    (dir, layout)
}

fn v1_trees() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let names = ["cpu", "cpuset", "memory", "pids", "name=systemd"];
    let mounts = names.map(|name| (name.to_owned(), dir.path().join(name)));
    for (_, mount) in &mounts {
        fs::create_dir_all(mount).unwrap();
    }
    let layout = Layout::V1 {
        mounts: mounts.into(),
    };
    (dir, layout)
}

fn values() -> CgroupValues {
    CgroupValues {
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_limit: Some(1 << 30),
        pids_limit: Some(100),
        hugepage_limits: [(2 << 20, 0)].into(),
    }
}

#[test]
fn mountinfo_of_both_versions() {
    let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    assert_eq!(
        Layout::parse(v2),
        Some(Layout::V2 {
            mount: "/sys/fs/cgroup".into()
        })
    );
    let hybrid = "31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                  32 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  33 23 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  34 23 0:29 / /mnt/very/long/memory rw - cgroup cgroup rw,memory\n\
                  35 23 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
    let Some(Layout::V1 { mounts }) = Layout::parse(hybrid) else {
        panic!("hybrid is version 1")
    };
    assert_eq!(mounts["memory"], Path::new("/sys/fs/cgroup/memory"));
    assert_eq!(mounts["cpuacct"], mounts["cpu"]);
    assert_eq!(
        mounts.keys().map(String::as_str).collect::<Vec<_>>(),
        ["cpu", "cpuacct", "memory", "name=systemd", "unified"]
    );
    assert_eq!(Layout::parse("1 1 0:1 / / rw - ext4 /dev/sda rw\n"), None);
}

#[test]
fn version_2_switches_controllers_on_along_the_path_and_writes_values() {
    let (dir, layout) = v2_tree(&["kubepods", "kubepods/burstable", "kubepods/burstable/podu"]);
    layout.create("/kubepods/burstable/podu").unwrap();
    layout.set("/kubepods/burstable/podu", &values()).unwrap();
    // Each write replaces the last one in this tree; the kernel adds them up.
    let control =
        |path: &str| fs::read_to_string(dir.path().join(path).join("cgroup.subtree_control")).unwrap();
    assert_eq!(control(""), "+pids");
    assert_eq!(control("kubepods/burstable"), "+pids");
    assert_eq!(control("kubepods/burstable/podu"), "");
    let file =
        |name: &str| fs::read_to_string(dir.path().join("kubepods/burstable/podu").join(name)).unwrap();
    assert_eq!(
        (file("cpu.max").as_str(), file("memory.max").as_str()),
        ("50000 100000", "1073741824")
    );
    assert_eq!(
        (file("cpu.weight").as_str(), file("pids.max").as_str()),
        ("20", "100")
    );
    assert!(
        !dir.path()
            .join("kubepods/burstable/podu/hugetlb.2MB.max")
            .exists()
    );
}

#[test]
fn a_missing_controller_is_an_error() {
    let (dir, layout) = v2_tree(&["kubepods"]);
    fs::write(dir.path().join("kubepods/cgroup.controllers"), "cpu pids\n").unwrap();
    let error = layout.create("/kubepods").unwrap_err();
    assert!(matches!(error, CgroupError::Controllers { missing, .. } if missing == ["cpuset", "memory"]));
}

#[test]
fn version_1_makes_every_tree_and_hands_cpus_down() {
    let (dir, layout) = v1_trees();
    for folder in ["cpuset", "cpuset/kubepods", "cpuset/kubepods/podu"] {
        let folder = dir.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(folder.join(file), "\n").unwrap();
        }
    }
    fs::write(dir.path().join("cpuset/cpuset.cpus"), "0-3\n").unwrap();
    fs::write(dir.path().join("cpuset/cpuset.mems"), "0\n").unwrap();
    layout.create("/kubepods/podu").unwrap();
    layout.set("/kubepods/podu", &values()).unwrap();
    let file = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    assert_eq!(file("cpuset/kubepods/podu/cpuset.cpus"), "0-3");
    assert_eq!(file("cpu/kubepods/podu/cpu.shares"), "512");
    assert_eq!(file("cpu/kubepods/podu/cpu.cfs_quota_us"), "50000");
    assert_eq!(file("memory/kubepods/podu/memory.limit_in_bytes"), "1073741824");
    assert!(dir.path().join("name=systemd/kubepods/podu").is_dir());
    assert!(layout.exists("/kubepods/podu") && !layout.exists("/kubepods/podv"));
    let mut children = layout.children("/kubepods");
    children.dedup();
    assert_eq!(children, ["podu"]);
}

#[test]
fn removal_goes_depth_first_and_is_done_when_nothing_is_there() {
    let (dir, layout) = v1_trees();
    for tree in ["cpu", "memory"] {
        fs::create_dir_all(dir.path().join(tree).join("kubepods/podu/container")).unwrap();
    }
    assert!(layout.remove("/kubepods/podu").unwrap());
    assert!(!layout.exists("/kubepods/podu") && layout.exists("/kubepods"));
    assert!(layout.remove("/kubepods/podu").unwrap());
}

#[test]
fn a_busy_cgroup_is_left_for_later_and_its_processes_are_killed() {
    let (dir, layout) = v2_tree(&[]);
    let folder = dir.path().join("podu");
    fs::create_dir_all(&folder).unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    // In a real tree this file goes with the folder; here it keeps the folder busy.
    fs::write(folder.join("cgroup.procs"), format!("{}\n", child.id())).unwrap();
    assert!(!layout.remove("/podu").unwrap());
    assert!(!child.wait().unwrap().success());
    assert!(
        !layout.remove("/podu").unwrap(),
        "a process that is gone already is no error"
    );
    fs::remove_file(folder.join("cgroup.procs")).unwrap();
    assert!(layout.remove("/podu").unwrap());
}

proptest::proptest! {
    #[test]
    fn any_mount_table_is_read(
        table in "((([0-9a-z/:\\\\]{0,6} ){0,8}- (cgroup2?|tmpfs) ([a-z,]{0,8} ?){0,4})?\n){0,4}|(.|\n){0,200}",
    ) {
        let _ = Layout::parse(&table);
    }
}
