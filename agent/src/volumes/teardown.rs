//! Removes what a pod left on the node, from what the disk and the mount table say: a crash of the agent changes
//! nothing (users.md, row 3).
//!
//! First everything mounted below the pod's directory is unmounted. Then files go: those in directories of plugins
//! that belong to the agent with all that is in them; of others only empty directories, because what is left there may
//! be somebody's data.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, open, unlinkat};
use rustix::io::Errno;

use super::layout::{Layout, NameError, OWN_PLUGINS, VOLUME_DEVICES, VOLUMES};
use super::mounts::{mounts_below, unmount_at};
use super::removal::{open_dir, remove_tree};

/// Why something of a pod is still there. All are worth another try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TearDownError {
    /// The UID is no file name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The mount table could not be read.
    #[error("cannot read the mount table")]
    MountTable(#[source] io::Error),
    /// Something could not be unmounted.
    #[error("cannot unmount {}", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The agent shuts down.
    #[error("the agent is stopping")]
    Stopping,
    /// Something could not be removed. Directories of foreign plugins must be empty.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// What.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Removes everything of the pod. Nothing there is no error.
pub(super) fn tear_down(layout: &Layout, uid: &str) -> Result<(), TearDownError> {
    let pod = layout.pod(uid)?;
    if !pod.exists() {
        return Ok(());
    }
    for path in mounts_below(&pod).map_err(TearDownError::MountTable)? {
        unmount_at(&path).map_err(|source| TearDownError::Unmount { path, source })?;
    }
    let failed = |source: Errno| TearDownError::Remove {
        path: pod.clone(),
        source: source.into(),
    };
    let name = c_name(uid.as_bytes());
    let pods = open_pods(layout).map_err(failed)?;
    let dir = match open_dir(&pods, name.as_c_str()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed)?,
    };
    remove_content(&pod, dir.as_fd())?;
    drop(dir);
    gone(unlinkat(&pods, name.as_c_str(), AtFlags::REMOVEDIR)).map_err(failed)
}

/// The UIDs that have a directory.
pub(super) fn pods_on_disk(layout: &Layout) -> io::Result<Vec<String>> {
    let pods = match open_pods(layout) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let names = names(pods.as_fd())?;
    Ok(names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect())
}

fn open_pods(layout: &Layout) -> rustix::io::Result<OwnedFd> {
    open(
        layout.pods(),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Removes what is in the pod's directory. Goes on after an error; answers the first.
fn remove_content(pod: &Path, dir: BorrowedFd<'_>) -> Result<(), TearDownError> {
    let mut result = Ok(());
    let listed = names(dir).map_err(|source| TearDownError::Remove {
        path: pod.to_owned(),
        source: source.into(),
    })?;
    for name in listed {
        let removed = match name.to_bytes() {
            b if b == VOLUMES.as_bytes() => remove_plugins(dir, &name, true),
            b if b == VOLUME_DEVICES.as_bytes() => remove_plugins(dir, &name, false),
            _ => remove_tree(dir, &name),
        };
        let path = pod.join(name.to_string_lossy().as_ref());
        result = result.and(removed.map_err(|source| TearDownError::Remove {
            path,
            source: source.into(),
        }));
    }
    result
}

/// Removes `<plugin>/<volume>` directories: the agent's own with their content, others when they are empty.
fn remove_plugins(pod: BorrowedFd<'_>, name: &CStr, own: bool) -> rustix::io::Result<()> {
    let volumes = open_dir(pod, name)?;
    let mut result = Ok(());
    for plugin in names(volumes.as_fd())? {
        let is_own = own
            && OWN_PLUGINS
                .iter()
                .any(|known| known.as_bytes() == plugin.to_bytes());
        let removed = if is_own {
            remove_tree(volumes.as_fd(), &plugin)
        } else {
            remove_empty(volumes.as_fd(), &plugin)
        };
        result = result.and(removed);
    }
    result?;
    gone(unlinkat(pod, name, AtFlags::REMOVEDIR))
}

fn remove_empty(volumes: BorrowedFd<'_>, plugin: &CStr) -> rustix::io::Result<()> {
    let dir = open_dir(volumes, plugin)?;
    for volume in names(dir.as_fd())? {
        gone(unlinkat(&dir, volume.as_c_str(), AtFlags::REMOVEDIR))?;
    }
    gone(unlinkat(volumes, plugin, AtFlags::REMOVEDIR))
}

fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            found.push(entry.file_name().to_owned());
        }
    }
    Ok(found)
}

fn gone(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// A name that [`Layout::pod`] has accepted has no zero byte: the kernel could not have such a file.
fn c_name(name: &[u8]) -> CString {
    let until_zero = name.split(|byte| *byte == 0).next().unwrap_or_default();
    CString::new(until_zero).expect("no zero byte is left")
}

#[cfg(test)]
mod tests;
