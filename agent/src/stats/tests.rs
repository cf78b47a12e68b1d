//! On a tree of files that looks like cgroups.

mod answers;
mod asleep;

use std::fs;
use std::path::PathBuf;

use gantry_agent_core::observed::{Container, ContainerState, Sandbox};
use gantry_agent_core::resources::CpuQuota;
use gantry_agent_core::stats::cadvisor::Row;
use gantry_agent_core::stats::figures::Figures;

use super::entry::Entry;
use super::*;
use crate::cgroups::{CgroupsConfig, Layout};
use crate::runtime::CgroupDriver;

const SANDBOX: &str = "5a4db0c5";
const CONTAINER: &str = "c0471a13";

/// A file system of cgroups in a directory.
struct Tree {
    folder: tempfile::TempDir,
    layout: Layout,
    driver: CgroupDriver,
}

impl Tree {
    fn v2(driver: CgroupDriver) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::V2 {
            mount: folder.path().to_owned(),
        };
        Self {
            folder,
            layout,
            driver,
        }
    }

    fn v1() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = |name: &str| (name.to_owned(), folder.path().join(name));
        let controllers = ["cpu", "cpuacct", "memory", "pids", "blkio"];
        let layout = Layout::V1 {
            mounts: controllers.map(mount).into(),
        };
        Self {
            folder,
            layout,
            driver: CgroupDriver::Cgroupfs,
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path: PathBuf = self.folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A cgroup of version 2 that used so many microseconds and so many bytes.
    fn group(&self, path: &str, usec: u64, bytes: u64) {
        let files = [
            ("cpu.stat", format!("usage_usec {usec}\nnr_periods 3\n")),
            ("cpu.max", "50000 100000\n".to_owned()),
            ("cpu.weight", "39\n".to_owned()),
            ("memory.current", format!("{bytes}\n")),
            ("memory.max", "max\n".to_owned()),
            ("memory.swap.max", "0\n".to_owned()),
            ("memory.stat", "anon 10\ninactive_file 5\n".to_owned()),
            ("memory.events.local", "oom 2\noom_kill 1\n".to_owned()),
            ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2\n".to_owned()),
            ("pids.current", "2\n".to_owned()),
            ("pids.max", "max\n".to_owned()),
            ("cgroup.procs", format!("{}\n", std::process::id())),
            (
                "cpu.pressure",
                "some avg10=1.00 avg60=0.00 avg300=0.00 total=7\n".to_owned(),
            ),
        ];
        for (name, text) in files {
            self.write(&format!("{path}/{name}"), &text);
        }
    }

    fn collector(&self) -> Collector {
        let config = CgroupsConfig {
            driver: self.driver,
            root: String::new(),
            per_qos: true,
            quota: CpuQuota::default(),
            pod_pids_limit: None,
            hugepage_sizes: Vec::new(),
        };
        let cgroups = Cgroups::new(config, self.layout.clone());
        let own = vec!["/system.slice/kubelet.service".to_owned()];
        Collector::new(cgroups, own, self.folder.path(), Timestamp::UNIX_EPOCH)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(state: ContainerState) -> Arc<ObservedPod> {
    Arc::new(ObservedPod {
        uid: "12-34".to_owned(),
        name: "p".to_owned(),
        namespace: "n".to_owned(),
        sandboxes: vec![Sandbox {
            id: SANDBOX.to_owned(),
            attempt: 0,
            ready: true,
            created_at: at(1000),
            ips: Vec::new(),
            host_network: false,
        }],
        containers: vec![Container {
            id: CONTAINER.to_owned(),
            sandbox_id: SANDBOX.to_owned(),
            name: "c".to_owned(),
            attempt: 0,
            hash: String::new(),
            image: "i".to_owned(),
            image_id: String::new(),
            state,
            termination_message_path: String::new(),
            termination_message_policy: String::new(),
            grace_secs: None,
        }],
    })
}

fn running() -> Arc<ObservedPod> {
    pod(ContainerState::Running { started_at: at(2000) })
}

fn entry<'a>(collector: &'a Collector, key: &str) -> &'a Entry {
    collector.entry(key).unwrap_or_else(|| panic!("no cgroup {key}"))
}

fn scrape(collector: &Collector) -> Scrape {
    let rows = collector.order.iter().map(|key| {
        let entry = entry(collector, key);
        Row {
            labels: entry.labels.clone(),
            figures: entry.figures.clone().unwrap(),
            limits: entry.limits,
            file_systems: Vec::new(),
        }
    });
    Scrape {
        at: at(0),
        machine: Arc::default(),
        rows: rows.collect(),
        devices: collector.disks.devices.clone(),
        failed: false,
    }
}

fn text(scrape: Scrape) -> String {
    let parts: Vec<Vec<u8>> = scrape.parts().collect();
    String::from_utf8(parts.concat()).unwrap()
}

#[test]
fn pods_are_found_with_both_drivers() {
    let cgroupfs = "/kubepods/burstable/pod12-34";
    let systemd = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_34.slice";
    for (driver, pod, container) in [
        (CgroupDriver::Cgroupfs, cgroupfs, CONTAINER.to_owned()),
        (
            CgroupDriver::Systemd,
            systemd,
            format!("cri-containerd-{CONTAINER}.scope"),
        ),
    ] {
        let tree = Tree::v2(driver);
        tree.group("/", 0, 0);
        tree.group(pod, 30, 300);
        tree.group(&format!("{pod}/{container}"), 20, 200);
        let mut collector = tree.collector();
        collector.collect(&[running()], &ImageNames::default(), Depth::Full);
        // The sandbox's cgroup is not there, and neither is the agent's.
        assert_eq!(collector.order.last().map(|key| &**key), Some(CONTAINER));
        assert_eq!(entry(&collector, "12-34").path, pod);
        let found = entry(&collector, CONTAINER);
        assert_eq!(found.path, format!("{pod}/{container}"));
        assert!(text(scrape(&collector)).contains(&format!(
            "container_memory_working_set_bytes{{container=\"c\",id=\"{pod}/{container}\",image=\"\",name=\"{CONTAINER}\",\
             namespace=\"n\",pod=\"p\"}} 195 "
        )));
    }
}

#[test]
fn figures_of_version_2() {
    let tree = Tree::v2(CgroupDriver::Cgroupfs);
    let pod = "/kubepods/pod12-34";
    tree.group("/", 0, 0);
    tree.group(pod, 30, 300);
    tree.group(&format!("{pod}/{CONTAINER}"), 20, 200);
    let mut collector = tree.collector();
    collector.collect(&[running()], &ImageNames::default(), Depth::Full);
    let found = entry(&collector, CONTAINER);
    let figures = found.figures.as_ref().unwrap();
    assert_eq!((figures.cpu.usage_ns, figures.cpu.periods), (20_000, 3));
    let memory = figures.memory.unwrap();
    assert_eq!((memory.usage, memory.working_set(), memory.rss), (200, 195, 10));
    assert_eq!((figures.oom_kills, figures.devices.len()), (1, 1));
    assert_eq!(figures.pressures.unwrap().cpu.some.total_us, 7);
    let processes = figures.processes;
    assert_eq!(
        (processes.count, processes.threads, processes.threads_max),
        (1, 2, 0)
    );
    assert!(processes.open_files > 0 && processes.open_files_limit.is_some());
    assert_eq!(
        (
            found.limits.cpu_quota_us,
            found.limits.cpu_shares,
            found.limits.memory
        ),
        (Some(50_000), 998, u64::MAX)
    );
    assert_eq!(found.limits.created, at(2000));
    // The root has no memory.current of its own in the kernel; here it is empty, and the sum of its parts is taken.
    let root = entry(&collector, ROOT).figures.as_ref().unwrap();
    assert_eq!(root.memory.unwrap().usage, 10);
    assert!(root.interfaces.is_some());
}

/// A pod's files in the trees of version 1.
const V1_FILES: &[(&str, &str)] = &[
    ("cpu/cpu.stat", ""),
    ("memory/memory.usage_in_bytes", "9"),
    ("cpu/kubepods/pod12-34/cpu.stat", "nr_periods 4\n"),
    ("cpu/kubepods/pod12-34/cpu.shares", "512\n"),
    ("cpu/kubepods/pod12-34/cpu.cfs_quota_us", "50000\n"),
    ("cpu/kubepods/pod12-34/cpu.cfs_period_us", "100000\n"),
    ("cpu/kubepods/pod12-34/cgroup.procs", ""),
    ("cpuacct/kubepods/pod12-34/cpuacct.usage", "77\n"),
    ("cpuacct/kubepods/pod12-34/cpuacct.stat", "user 2\nsystem 1\n"),
    ("memory/kubepods/pod12-34/memory.usage_in_bytes", "100\n"),
    (
        "memory/kubepods/pod12-34/memory.limit_in_bytes",
        "9223372036854771712\n",
    ),
    (
        "memory/kubepods/pod12-34/memory.stat",
        "total_inactive_file 40\ntotal_rss 5\n",
    ),
    (
        "memory/kubepods/pod12-34/memory.oom_control",
        "under_oom 0\noom_kill 3\n",
    ),
    (
        "blkio/kubepods/pod12-34/blkio.throttle.io_service_bytes_recursive",
        "8:0 Read 1\nTotal 1\n",
    ),
    (
        "blkio/kubepods/pod12-34/blkio.throttle.io_serviced_recursive",
        "8:0 Read 2\nTotal 2\n",
    ),
    ("pids/kubepods/pod12-34/pids.current", "6\n"),
    ("pids/kubepods/pod12-34/pids.max", "9\n"),
];

#[test]
fn figures_of_version_1() {
    let tree = Tree::v1();
    for (path, text) in V1_FILES {
        tree.write(path, text);
    }
    let mut collector = tree.collector();
    collector.collect(&[running()], &ImageNames::default(), Depth::Full);
    let pod = entry(&collector, "12-34");
    let figures = pod.figures.as_ref().unwrap();
    assert_eq!((figures.cpu.usage_ns, figures.cpu.periods), (77, 4));
    assert_eq!(figures.cpu.user_ns, 20_000_000);
    assert_eq!(figures.memory.unwrap().working_set(), 60);
    assert_eq!(
        (
            figures.oom_kills,
            figures.processes.threads,
            figures.processes.threads_max
        ),
        (3, 6, 9)
    );
    assert_eq!(figures.devices.len(), 1);
    assert!(figures.pressures.is_none());
    assert_eq!(
        (pod.limits.cpu_quota_us, pod.limits.cpu_shares),
        (Some(50_000), 512)
    );
    let mut collector = tree.collector();
    let basic = |collector: &mut Collector| {
        collector.collect(&[running()], &ImageNames::default(), Depth::Basic);
        entry(collector, "12-34").figures.clone().unwrap()
    };
    let figures = basic(&mut collector);
    assert_eq!(
        (figures.cpu.usage_ns, figures.memory.unwrap().working_set()),
        (77, 60)
    );
    assert_eq!(figures.processes.threads, 0, "not asked for");
}

#[test]
fn what_ends_is_forgotten_and_what_returns_is_found() {
    let tree = Tree::v2(CgroupDriver::Cgroupfs);
    let pod_path = "/kubepods/besteffort/pod12-34";
    tree.group("/", 0, 0);
    tree.group(pod_path, 30, 300);
    tree.group(&format!("{pod_path}/{CONTAINER}"), 20, 200);
    let mut collector = tree.collector();
    let names = ImageNames::default();
    collector.collect(&[running()], &names, Depth::Full);
    assert!(collector.entry(CONTAINER).is_some());
    collector.collect(&[pod(ContainerState::Created)], &names, Depth::Full);
    assert!(collector.entry(CONTAINER).is_none() && collector.entry("12-34").is_some());
    collector.collect(&[], &names, Depth::Full);
    assert!(collector.entry("12-34").is_none());
    collector.collect(&[running()], &names, Depth::Full);
    assert!(collector.entry(CONTAINER).is_some());
}

#[test]
fn figures_come_also_when_files_cannot_stay_open() {
    let tree = Tree::v2(CgroupDriver::Cgroupfs);
    tree.group("/", 0, 0);
    tree.group("/kubepods/pod12-34", 30, 300);
    let mut collector = tree.collector();
    collector.keep_open(0);
    for bytes in [300, 400] {
        tree.group("/kubepods/pod12-34", 30, bytes);
        collector.collect(&[running()], &ImageNames::default(), Depth::Full);
        let figures = entry(&collector, "12-34").figures.as_ref().unwrap();
        assert_eq!(figures.memory.unwrap().usage, bytes);
    }
}

#[test]
fn an_answer_under_way_keeps_the_figures_of_its_look() {
    let tree = Tree::v2(CgroupDriver::Cgroupfs);
    tree.group("/", 0, 0);
    let mut collector = tree.collector();
    let mut look = |bytes| {
        tree.group("/kubepods/pod12-34", 30, bytes);
        collector.collect(&[running()], &ImageNames::default(), Depth::Full);
        scrape(&collector)
    };
    let (first, second) = (look(300), look(400));
    for (scrape, bytes) in [(first, 300), (second, 400)] {
        let text = text(scrape);
        let mut lines = text.lines();
        let of_pod =
            lines.find(|line| line.starts_with("container_memory_usage_bytes{") && line.contains("pod12-34"));
        assert!(of_pod.unwrap().contains(&format!("}} {bytes} ")), "{of_pod:?}");
    }
}

#[test]
fn cpu_just_now_is_the_life_at_first() {
    let tree = Tree::v2(CgroupDriver::Cgroupfs);
    tree.group("/", 0, 0);
    tree.group("/kubepods/pod12-34", 0, 300);
    let now = Timestamp::now();
    // Half of the time since the container was started.
    let age = u64::try_from(now.as_microsecond() - at(2000).as_microsecond()).unwrap();
    tree.group(&format!("/kubepods/pod12-34/{CONTAINER}"), age / 2, 1);
    let mut collector = tree.collector();
    collector.collect(&[running()], &ImageNames::default(), Depth::Basic);
    let cpu = entry(&collector, CONTAINER).reading().unwrap().cpu();
    let cores = cpu.usage_nano_cores.unwrap();
    assert!((499_000_000..=500_000_000).contains(&cores), "{cores}");
}
