//! Container logs on disk: who reads them while they grow, and their rotation.
//!
//! ```text
//! runtime ── writes ──> <n>.log ── inotify ──> Tapes ──> Tape (one for a followed log) ──> followers
//!                          │                     ▲
//!                          └── Rotation: rename, ReopenContainerLog, "look again", compress, remove
//! ```
//!
//! * Inputs: what runs ([`crate::runtime::PodCache`]), the files below `podLogsDir`.
//! * Outputs: rotated files; for followers, a log's files one after the other without a gap.
//! * Tasks: one of [`Tapes`] that reads inotify, one of [`Rotation`]; each ends with its owner.

use std::path::{Path, PathBuf};

use gantry_agent_core::observed::{Container, ObservedPod};

mod compress;
mod orphans;
mod removal;
mod rotation;
mod tape;
mod tapes;

pub(crate) use orphans::{LogFolders, remove_all as remove_all_logs};
pub(crate) use removal::remove as remove_logs;
pub(crate) use rotation::{Policy, Rotation};
pub(crate) use tape::{Generation, Reel};
pub(crate) use tapes::Tapes;

/// Where the log of a container is, as the agent has it made: `<root>/<namespace>_<pod>_<uid>/<container>/<attempt>.log`.
pub(crate) fn log_path(root: &Path, pod: &ObservedPod, container: &Container) -> PathBuf {
    root.join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
        .join(&container.name)
        .join(format!("{}.log", container.attempt))
}
