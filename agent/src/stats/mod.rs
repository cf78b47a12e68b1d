//! Figures of containers, pods and the node, read when somebody asks.
//!
//! ```text
//! runtime's cache (what runs) ──┐
//! cgroup files, /proc ──────────┼─> Collector ─> core::stats: text or JSON ─> server
//! runtime (layers, images) ─────┤
//! Volumes (measured beside) ────┘
//! ```
//!
//! * Inputs: the runtime's cache of pods, cgroup file systems, `/proc`, the runtime's own figures, volumes on disk.
//! * Outputs: the bodies of `/metrics/cadvisor` (in parts, made while it is sent, of figures that it shares until then),
//!   `/metrics/resource` and `/stats/summary`.
//! * Tasks: one, which measures volumes ([`volumes`]). There is no sampling in the background: figures are as old as the
//!   question. Scrapes take turns on a thread of their own ([`reader`]).
//!
//! [`collector`]: which cgroups; [`entry`]: one of them; [`group`]: its files, open; [`files`]: what there is to read in it; [`limits`],
//! [`processes`], [`disks`], [`usage`]: what is read elsewhere; [`images`], [`layers`]: what the runtime knows;
//! [`links`]: whether a pod's interface has work to tell; [`logs`]: what logs take; [`summary`]: the JSON put together.

mod collector;
mod disks;
mod entry;
mod files;
mod group;
mod images;
mod layers;
mod limits;
mod links;
mod logs;
mod machine;
mod processes;
mod reader;
mod scratch;
mod summary;
#[cfg(test)]
mod tests;
mod usage;
mod volumes;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use gantry_agent_core::observed::ObservedPod;
use gantry_agent_core::stats::cadvisor::{Parts, Row, Scrape};
use gantry_agent_core::stats::machine::MachineFacts;
use gantry_agent_core::stats::parse::process;
use gantry_agent_core::stats::resource::{self, Resources};
use jiff::Timestamp;
use serde::Serialize as _;

use self::collector::{Collector, ROOT};
use self::entry::What;
use self::group::Depth;
use self::images::ImageNames;
use self::layers::LayerCache;
use self::logs::LogSizes;
pub(crate) use self::reader::Reader;
use self::summary::{DiskParts, Facts, Maker};
use self::volumes::Volumes;
use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::node::Machine;
use crate::process::is_cgroup_v2;
use crate::runtime::Runtime;

/// There are no figures. Retry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatsError {
    /// The agent starts: it does not know yet where the cgroups of pods are.
    #[error("failed to get root cgroup stats: the container runtime was not reached yet")]
    Starting,
    /// The root cgroup cannot be read.
    #[error("failed to get root cgroup stats: unable to read them")]
    Node,
    /// The agent stops.
    #[error("the agent is stopping")]
    Stopping,
}

/// The node's figures. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stats {
    shared: Arc<Shared>,
    reader: Reader,
}

struct Shared {
    runtime: Runtime,
    facts: Facts,
    machine: Arc<MachineFacts>,
    collector: OnceLock<Mutex<Collector>>,
    images: tokio::sync::Mutex<ImageNames>,
    layers: LayerCache,
    logs: LogSizes,
    volumes: Volumes,
}

impl Stats {
    /// Figures of what `runtime` runs; none before [`Self::attach`]. Must be called inside a runtime.
    #[must_use]
    pub(crate) fn new(config: &Config, runtime: Runtime) -> Self {
        let settings = &config.kubelet;
        let volumes = Volumes::start(
            runtime.clone(),
            &config.root_dir,
            settings.volume_stats_agg_period,
        );
        let own = std::fs::read("/proc/self/cgroup").unwrap_or_default();
        let facts = Facts {
            node_name: config.node_name.clone(),
            root_dir: config.root_dir.clone(),
            pod_logs_dir: settings.pod_logs_dir.clone(),
            boot: machine::boot_time(),
            started: Timestamp::now(),
            own_cgroup: process::cgroup(&own, is_cgroup_v2()).filter(|path| path != ROOT),
        };
        Self {
            reader: Reader::start(),
            shared: Arc::new(Shared {
                runtime,
                facts,
                machine: Arc::new(machine::facts(&Machine::read(Path::new("/")))),
                collector: OnceLock::new(),
                images: tokio::sync::Mutex::default(),
                layers: LayerCache::default(),
                logs: LogSizes::default(),
                volumes,
            }),
        }
    }

    /// Tells where the cgroups of pods are.
    pub(crate) fn attach(&self, cgroups: &Cgroups) {
        let Shared { facts, collector, .. } = &*self.shared;
        let own = facts.own_cgroup.iter().cloned().collect();
        let new = || Mutex::new(Collector::new(cgroups.clone(), own, &facts.root_dir, facts.boot));
        collector.get_or_init(new);
    }

    /// When the agent was started: scrapers are told with their metrics.
    #[must_use]
    pub(crate) fn started(&self) -> Timestamp {
        self.shared.facts.started
    }

    /// The body of `/metrics/cadvisor`.
    ///
    /// # Errors
    /// See [`StatsError`].
    pub(crate) async fn cadvisor(&self) -> Result<Parts, StatsError> {
        let pods = self.shared.runtime.pods().all();
        let images = {
            let mut images = self.shared.images.lock().await;
            images.refresh(&self.shared.runtime, &pods).await;
            images.clone()
        };
        self.collect(pods, images, Depth::Full, |shared, collector, _| {
            Ok(shared.cadvisor(collector).parts())
        })
        .await
    }

    /// The body of `/metrics/resource`.
    ///
    /// # Errors
    /// See [`StatsError`].
    pub(crate) async fn resources(&self) -> Result<Bytes, StatsError> {
        let pods = self.shared.runtime.pods().all();
        let images = self.shared.images.lock().await.clone();
        self.collect(pods, images, Depth::Basic, |_, collector, pods| {
            Ok(Bytes::from(resources(collector, pods)))
        })
        .await
    }

    /// The body of `/stats/summary`.
    ///
    /// # Errors
    /// See [`StatsError`].
    pub(crate) async fn summary(&self, only_cpu_and_memory: bool) -> Result<Bytes, StatsError> {
        let pods = self.shared.runtime.pods().all();
        let images = self.shared.images.lock().await.clone();
        let (depth, layers) = if only_cpu_and_memory {
            (Depth::Basic, None)
        } else {
            let layers = self.shared.layers.get(&self.shared.runtime).await;
            (Depth::Full, Some(layers))
        };
        self.collect(pods, images, depth, move |shared, collector, pods| {
            let disks = layers.as_deref().map(|layers| DiskParts {
                layers,
                logs: &shared.logs,
                volumes: &shared.volumes,
                room: summary::own_room(&shared.facts),
                now: Timestamp::now(),
            });
            let maker = Maker {
                facts: &shared.facts,
                collector,
                pods,
                disks,
            };
            let summary = maker.summary().ok_or(StatsError::Node)?;
            shared.logs.keep(|key| collector.entry(key).is_some());
            // As the reference: indented by one space.
            let format = serde_json::ser::PrettyFormatter::with_indent(b" ");
            let mut json = serde_json::Serializer::with_formatter(Vec::new(), format);
            // Writing to memory does not fail.
            let _ = summary.serialize(&mut json);
            Ok(Bytes::from(json.into_inner()))
        })
        .await
    }

    /// What the logs of containers that run take on disk: the container, its pod's namespace, name and UID. Blocking.
    pub(crate) fn log_bytes(&self) -> Vec<([String; 4], u64)> {
        let pods = self.shared.runtime.pods().all();
        let facts = &self.shared.facts;
        pods.iter()
            .flat_map(|pod| summary::log_bytes(facts, pod))
            .collect()
    }

    /// Where figures are read, and texts are made of them.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Reads everything on the reader's thread, then lets `make` look at it there.
    async fn collect<T: Send + 'static>(
        &self,
        pods: Vec<Arc<ObservedPod>>,
        images: ImageNames,
        depth: Depth,
        make: impl FnOnce(&Shared, &Collector, &[Arc<ObservedPod>]) -> Result<T, StatsError> + Send + 'static,
    ) -> Result<T, StatsError> {
        let shared = Arc::clone(&self.shared);
        let done = self.reader.run(move || {
            let collector = shared.collector.get().ok_or(StatsError::Starting)?;
            let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
            collector.collect(&pods, &images, depth);
            make(&shared, &collector, &pods)
        });
        done.await.unwrap_or(Err(StatsError::Stopping))
    }
}

impl Shared {
    fn cadvisor(&self, collector: &Collector) -> Scrape {
        let entries = collector.order.iter().filter_map(|key| collector.entry(key));
        let rows = entries.filter_map(|entry| {
            Some(Row {
                labels: Arc::clone(&entry.labels),
                figures: Arc::clone(entry.figures.as_ref()?),
                limits: entry.limits,
                file_systems: if entry.what == What::Node {
                    collector.disks.file_systems.clone()
                } else {
                    Vec::new()
                },
            })
        });
        Scrape {
            at: Timestamp::now(),
            machine: Arc::clone(&self.machine),
            rows: rows.collect(),
            devices: collector.disks.devices.clone(),
            failed: collector.entry(ROOT).is_none(),
        }
    }
}

fn resources(collector: &Collector, pods: &[Arc<ObservedPod>]) -> Vec<u8> {
    let pods: Vec<resource::Pod<'_>> = pods
        .iter()
        .map(|pod| resource::Pod {
            name: &pod.name,
            namespace: &pod.namespace,
            own: collector.entry(&pod.uid).and_then(|entry| entry.resource()),
            containers: containers(collector, pod),
        })
        .filter(|pod| !pod.containers.is_empty())
        .collect();
    let resources = Resources {
        node: collector.entry(ROOT).and_then(|entry| entry.resource()),
        pods: &pods,
    };
    resources.write()
}

fn containers<'a>(collector: &'a Collector, pod: &'a ObservedPod) -> Vec<resource::Container<'a>> {
    let running = pod.containers.iter().filter_map(|container| {
        let entry = collector.entry(&container.id)?;
        Some(resource::Container {
            name: &container.name,
            started: entry.limits.created,
            reading: entry.resource()?,
        })
    });
    running.collect()
}
