//! The blocking half of a set up: from decided work to files and mounts, all volumes of a pod in one go.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gantry_agent_core::volumes::path::nested_mount_points;
use gantry_agent_core::volumes::payload::{self, Inputs, Payload};
use gantry_agent_core::volumes::plan::{Content, HostPathKind, Medium, Source, VolumePlan};
use k8s_openapi::api::core::v1::Pod;

use super::error::{SetUpError, VolumeFailure};
use super::layout::{EMPTY_DIR, Layout};
use super::local::{Space, empty_dir, host_path, make_space, mark_ready};
use super::node::NodeResources;
use super::ownership::give_to_group;
use super::{MountedVolume, atomic, count};
use crate::metrics::VolumeMetrics;

/// Which volume, and what to do for it.
pub(super) struct Work {
    pub(super) volume: String,
    /// The plugin's name in kubelet's words.
    plugin: &'static str,
    job: Job,
}

enum Job {
    EmptyDir {
        dir: PathBuf,
        marker: PathBuf,
        space: Space,
        group: Option<u32>,
    },
    HostPath {
        path: String,
        kind: HostPathKind,
    },
    Content(Box<ContentJob>),
}

struct ContentJob {
    dir: PathBuf,
    marker: PathBuf,
    space: Space,
    group: Option<u32>,
    nested: Vec<String>,
    payload: Payload,
}

/// What the decisions are made from, besides the volume itself.
pub(super) struct Ground<'a> {
    pub(super) layout: &'a Layout,
    pub(super) pod: &'a Pod,
    pub(super) uid: &'a str,
    pub(super) group: Option<u32>,
    pub(super) inputs: &'a Inputs,
    pub(super) node: &'a NodeResources,
}

impl Work {
    /// Decides what a volume needs. `None`: nothing on this node (images are mounted by the runtime).
    pub(super) fn decide(plan: &VolumePlan<'_>, ground: &Ground<'_>) -> Result<Option<Self>, VolumeFailure> {
        let job = ground.job(plan).map_err(|cause| VolumeFailure {
            volume: plan.name.to_owned(),
            cause,
        })?;
        Ok(job.map(|job| Self {
            volume: plan.name.to_owned(),
            plugin: count::plugin(&plan.source),
            job,
        }))
    }

    /// Files that change when an object does.
    pub(super) fn has_content(&self) -> bool {
        match self.job {
            Job::Content(_) => true,
            Job::EmptyDir { .. } | Job::HostPath { .. } => false,
        }
    }

    /// Does it. Blocks.
    pub(super) fn run(self, metrics: &VolumeMetrics) -> Result<(String, MountedVolume), VolumeFailure> {
        let (begun, plugin) = (Instant::now(), self.plugin);
        let done = self.mount();
        metrics.operated(plugin, "volume_mount", begun.elapsed(), done.is_ok());
        done
    }

    fn mount(self) -> Result<(String, MountedVolume), VolumeFailure> {
        let done = match self.job {
            Job::EmptyDir {
                dir,
                marker,
                space,
                group,
            } => empty_dir(&dir, &marker, space, group)
                .map_err(|source| SetUpError::Io {
                    path: dir.clone(),
                    source,
                })
                .map(|()| MountedVolume {
                    host_path: dir,
                    read_only: false,
                }),
            Job::HostPath { path, kind } => {
                host_path(&path, kind)
                    .map_err(SetUpError::from)
                    .map(|host_path| MountedVolume {
                        host_path,
                        read_only: false,
                    })
            }
            Job::Content(job) => job
                .run()
                .map_err(|source| SetUpError::Io {
                    path: job.dir.clone(),
                    source,
                })
                .map(|()| MountedVolume {
                    host_path: job.dir,
                    read_only: true,
                }),
        };
        match done {
            Ok(mounted) => Ok((self.volume, mounted)),
            Err(cause) => Err(VolumeFailure {
                volume: self.volume,
                cause,
            }),
        }
    }
}

impl Ground<'_> {
    fn job(&self, plan: &VolumePlan<'_>) -> Result<Option<Job>, SetUpError> {
        match &plan.source {
            Source::EmptyDir { medium, size_limit } => {
                let space = match medium {
                    Medium::Disk => Space::Disk,
                    Medium::Memory => Space::Memory {
                        size_bytes: self.node.memory_volume_bytes(self.pod, *size_limit),
                    },
                    Medium::Other(word) => return Err(SetUpError::Medium((*word).to_owned())),
                };
                let dir = self.layout.volume(self.uid, EMPTY_DIR, plan.name)?;
                let marker = self.layout.marker(self.uid, plan.name)?;
                Ok(Some(Job::EmptyDir {
                    dir,
                    marker,
                    space,
                    group: self.group,
                }))
            }
            Source::HostPath { path, kind } => Ok(Some(Job::HostPath {
                path: (*path).to_owned(),
                kind: *kind,
            })),
            Source::Content(content) => self.content(plan.name, content).map(Some),
            Source::Image => Err(SetUpError::Unsupported("image")),
            Source::Refused(kind) => Err(SetUpError::Refused(kind)),
            Source::Unsupported(kind) => Err(SetUpError::Unsupported(kind)),
        }
    }

    fn content(&self, name: &str, content: &Content<'_>) -> Result<Job, SetUpError> {
        let payload = payload::payload(content, self.pod, self.inputs, &self.node.allocatable)
            .map_err(SetUpError::Payload)?;
        let space = if content.plugin.in_memory() {
            Space::Memory {
                size_bytes: self.node.memory_volume_bytes(self.pod, None),
            }
        } else {
            Space::Disk
        };
        Ok(Job::Content(Box::new(ContentJob {
            dir: self.layout.volume(self.uid, content.plugin.dir_name(), name)?,
            marker: self.layout.marker(self.uid, &format!("wrapped_{name}"))?,
            space,
            group: self.group,
            nested: nested_mount_points(self.pod, name)?,
            payload,
        })))
    }
}

impl ContentJob {
    fn run(&self) -> io::Result<()> {
        make_space(&self.dir, self.space)?;
        for nested in &self.nested {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(self.dir.join(nested))?;
        }
        atomic::write(&self.dir, &self.payload, |volume: &Path| match self.group {
            Some(group) => give_to_group(volume, group, true),
            None => Ok(()),
        })?;
        mark_ready(&self.marker)
    }
}
