//! The answer of `/stats/summary`, put together.

use std::path::PathBuf;
use std::sync::Arc;

use gantry_agent_core::observed::{Container, ContainerState, ObservedPod};
use gantry_agent_core::stats::figures::Room;
use gantry_agent_core::stats::parse::{self, process};
use gantry_agent_core::stats::summary::{self as api, Fs, Time, make};
use jiff::Timestamp;

use super::collector::{Collector, ROOT};
use super::layers::Layers;
use super::logs::LogSizes;
use super::volumes::Volumes;
use super::{disks, usage};

/// What stays the same between answers.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) node_name: String,
    pub(super) root_dir: PathBuf,
    pub(super) pod_logs_dir: PathBuf,
    pub(super) boot: Timestamp,
    /// When the agent was started.
    pub(super) started: Timestamp,
    /// The agent's own cgroup.
    pub(super) own_cgroup: Option<String>,
}

/// Everything that goes into an answer.
pub(super) struct Maker<'a> {
    pub(super) facts: &'a Facts,
    pub(super) collector: &'a Collector,
    pub(super) pods: &'a [Arc<ObservedPod>],
    /// `None`: only CPU and memory.
    pub(super) disks: Option<DiskParts<'a>>,
}

/// What is only in the full answer.
pub(super) struct DiskParts<'a> {
    pub(super) layers: &'a Layers,
    pub(super) logs: &'a LogSizes,
    pub(super) volumes: &'a Volumes,
    /// The file system of the agent's directory.
    pub(super) room: Option<Room>,
    pub(super) now: Timestamp,
}

impl Maker<'_> {
    /// The answer; `None` when the node's own figures could not be read.
    pub(super) fn summary(&self) -> Option<api::Summary> {
        Some(api::Summary {
            node: self.node()?,
            pods: self.pods.iter().filter_map(|pod| self.pod(pod)).collect(),
        })
    }

    fn node(&self) -> Option<api::Node> {
        let root = self.collector.entry(ROOT)?;
        let reading = root.reading()?;
        let full = self.disks.as_ref();
        let runtime = full.map(|disks| {
            let images = disks.layers.images.as_ref();
            let fs = images.map(|images| make::fs(images.at, disks.layers.room, Some(images.usage)));
            api::Runtime {
                image_fs: fs,
                container_fs: fs,
            }
        });
        let started = if full.is_some() {
            self.facts.boot
        } else {
            root.limits.created
        };
        Some(api::Node {
            node_name: self.facts.node_name.clone(),
            system_containers: self.system_containers(),
            start_time: Time(started),
            cpu: Some(reading.cpu()),
            memory: Some(reading.memory()),
            io: full.and_then(|_| reading.io()),
            network: full.and_then(|_| reading.network()),
            fs: full.and_then(|disks| Some(make::whole_fs(reading.figures.at, disks.room?))),
            runtime,
            rlimit: full.map(|disks| rlimit(disks.now)),
            swap: reading.swap(),
        })
    }

    fn system_containers(&self) -> Vec<api::Container> {
        let own = self.facts.own_cgroup.as_deref();
        let pods = self.collector.pods_root();
        let named = [
            ("kubelet", own, Some(self.facts.started)),
            ("pods", Some(pods.as_str()), None),
        ];
        let container = |(name, path, started): (&str, Option<&str>, Option<Timestamp>)| {
            let entry = self.collector.entry(path?)?;
            let reading = entry.reading()?;
            Some(api::Container {
                name: name.to_owned(),
                start_time: Time(started.unwrap_or(entry.limits.created)),
                cpu: Some(reading.cpu()),
                memory: Some(reading.memory()),
                io: self.disks.as_ref().and_then(|_| reading.io()),
                rootfs: None,
                logs: None,
                swap: reading.swap(),
            })
        };
        named.into_iter().filter_map(container).collect()
    }

    /// A pod with a container that runs.
    fn pod(&self, pod: &ObservedPod) -> Option<api::Pod> {
        let sandbox = pod.sandboxes.iter().find(|sandbox| sandbox.ready)?;
        let running = pod.containers.iter().filter_map(|container| {
            let entry = self.collector.entry(&container.id)?;
            Some((
                entry.figures.as_ref()?.processes.count,
                self.container(pod, container)?,
            ))
        });
        let (processes, containers): (Vec<u64>, Vec<api::Container>) = running.unzip();
        if containers.is_empty() {
            return None;
        }
        let own = self.collector.entry(&pod.uid).and_then(|entry| entry.reading());
        let network = self
            .collector
            .entry(&sandbox.id)
            .and_then(|entry| entry.reading());
        let full = self.disks.as_ref();
        let (volumes, ephemeral) = full
            .map(|disks| {
                let cpu_ns = own.map_or(0, |own| own.figures.cpu.usage_ns);
                disk_use(self.facts, disks, (pod, cpu_ns), &containers)
            })
            .unwrap_or_default();
        Some(api::Pod {
            pod_ref: api::PodRef {
                name: pod.name.clone(),
                namespace: pod.namespace.clone(),
                uid: pod.uid.clone(),
            },
            start_time: Time(sandbox.created_at),
            containers,
            cpu: own.map(|own| own.cpu()),
            memory: own.map(|own| own.memory()),
            io: own.filter(|_| full.is_some()).and_then(|own| own.io()),
            network: network.filter(|_| full.is_some()).and_then(|of| of.network()),
            volumes,
            ephemeral_storage: ephemeral,
            process_stats: full.map(|_| api::ProcessStats {
                process_count: processes.iter().sum(),
            }),
            swap: own.and_then(|own| own.swap()),
        })
    }

    fn container(&self, pod: &ObservedPod, container: &Container) -> Option<api::Container> {
        let entry = self.collector.entry(&container.id)?;
        let reading = entry.reading()?;
        let full = self.disks.as_ref();
        let rootfs = full.and_then(|disks| {
            let layer = disks.layers.writable.get(&container.id)?;
            Some(make::fs(layer.at, disks.layers.room, Some(layer.usage)))
        });
        let logs = full.map(|disks| {
            let measure = || usage::of_files(&log_folder(self.facts, pod).join(&container.name));
            let cpu_ns = reading.figures.cpu.usage_ns;
            let usage = disks.logs.of(&container.id, cpu_ns, measure);
            make::fs(disks.now, disks.room, usage)
        });
        Some(api::Container {
            name: container.name.clone(),
            start_time: Time(entry.limits.created),
            cpu: Some(reading.cpu()),
            memory: Some(reading.memory()),
            io: full.and_then(|_| reading.io()),
            rootfs,
            logs,
            swap: reading.swap(),
        })
    }
}

/// Where the pod's logs are.
fn log_folder(facts: &Facts, pod: &ObservedPod) -> PathBuf {
    let name = format!("{}_{}_{}", pod.namespace, pod.name, pod.uid);
    facts.pod_logs_dir.join(name)
}

/// What the logs of the pod's running containers take, with the labels that tell them apart.
pub(super) fn log_bytes(facts: &Facts, pod: &ObservedPod) -> Vec<([String; 4], u64)> {
    let folder = log_folder(facts, pod);
    let running = pod
        .containers
        .iter()
        .filter(|c| matches!(c.state, ContainerState::Running { .. }));
    let used = running.filter_map(|container| {
        let usage = usage::of_files(&folder.join(&container.name))?;
        let labels = [&container.name, &pod.namespace, &pod.name, &pod.uid].map(Clone::clone);
        Some((labels, usage.bytes))
    });
    used.collect()
}

/// The volumes of the pod, which has used `cpu_ns` so far, and all that it has on the node's own disk.
fn disk_use(
    facts: &Facts,
    disks: &DiskParts<'_>,
    (pod, cpu_ns): (&ObservedPod, u64),
    containers: &[api::Container],
) -> (Vec<api::Volume>, Option<Fs>) {
    let known = disks.volumes.of(&pod.uid);
    let fs = |volume: &super::volumes::VolumeUse| make::fs(volume.at, volume.room, Some(volume.usage));
    let volumes = known.iter().map(|volume| api::Volume {
        fs: fs(volume),
        name: volume.name.clone(),
        claim: None,
    });
    let own = |usage| make::fs(disks.now, None, usage);
    let files = || {
        let hosts = facts.root_dir.join("pods").join(&pod.uid).join("etc-hosts");
        let both = [usage::of_files(&log_folder(facts, pod)), usage::of_file(&hosts)];
        both.into_iter().flatten().reduce(|one, other| one + other)
    };
    let mut parts: Vec<Fs> = containers
        .iter()
        .flat_map(|container| container.rootfs.into_iter().chain(container.logs))
        .collect();
    parts.extend(known.iter().filter(|volume| volume.is_ephemeral).map(fs));
    parts.push(own(disks.logs.of(&pod.uid, cpu_ns, files)));
    let whole = disks.room.map(|room| make::whole_fs(disks.now, room));
    let sum = whole.map(|whole| make::ephemeral(&whole, parts.iter()));
    (volumes.collect(), sum)
}

fn rlimit(now: Timestamp) -> api::Rlimit {
    let number = |path: &str| parse::number(&std::fs::read(path).ok()?);
    let highest = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let tasks = std::fs::read("/proc/loadavg").ok();
    api::Rlimit {
        maxpid: highest.iter().filter_map(|path| number(path)).min(),
        curproc: tasks.as_deref().and_then(process::tasks),
        ..api::Rlimit::at(now)
    }
}

/// The file system of the agent's directory.
pub(super) fn own_room(facts: &Facts) -> Option<Room> {
    disks::room(&facts.root_dir)
}
