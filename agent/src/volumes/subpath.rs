//! Sub paths: a part of a volume, mounted into one container.
//!
//! The volume's files belong to containers, so a path in it proves nothing: it is opened once, by the kernel, confined
//! to the volume (`openat2` with `BENEATH` and `NO_MAGICLINKS`), and what is then open is bound by its file descriptor
//! (CVE-2017-1002101, CVE-2021-25741). A link may lead to another place of the same volume, not out of it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use gantry_agent_core::volumes::path::{PathError, check_sub_path};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, mkdirat, open, openat2, statat,
};
use rustix::io::Errno;

use super::mounts::{bind_fd, is_mount_point, unmount_at};

const CONFINED: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// A rename at the wrong moment makes the kernel give up (EAGAIN).
const TRIES: u32 = 16;

/// Why a sub path cannot be mounted. The texts tell nothing about the node's files, as in the reference; the cause is
/// for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubPathError {
    /// The path itself is refused.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A missing directory could not be made.
    #[error("failed to create subPath directory for volumeMount {volume:?} of container {container:?}")]
    Create {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It could not be opened inside the volume, or not be bound.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    Prepare {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Opens `sub_path` of the volume, making it a directory when it is missing.
pub(super) fn open_or_make(volume: &Path, sub_path: &str) -> Result<OwnedFd, Failure> {
    check_sub_path(sub_path).map_err(Failure::Path)?;
    let root = open(
        volume,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| Failure::Prepare(error.into()))?;
    match open_confined(&root, sub_path) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(|error| Failure::Prepare(error.into())),
    }
    make_dirs(&root, sub_path).map_err(|error| Failure::Create(error.into()))?;
    open_confined(&root, sub_path).map_err(|error| Failure::Prepare(error.into()))
}

/// Binds what is open to `target`. What is bound there already stays when it is the same, and goes otherwise.
pub(super) fn bind(source: &OwnedFd, target: &Path) -> io::Result<()> {
    let wanted = fstat(source)?;
    if is_mount_point(target)? {
        if is_same(&wanted, target)? {
            return Ok(());
        }
        unmount_at(target)?;
    }
    make_target(target, FileType::from_raw_mode(wanted.st_mode))?;
    bind_fd(source.as_raw_fd(), target)?;
    if is_same(&wanted, target)? {
        return Ok(());
    }
    unmount_at(target)?;
    Err(io::Error::other("another file was bound than was opened"))
}

/// How [`open_or_make`] failed, before the names are added.
pub(super) enum Failure {
    Path(PathError),
    Create(io::Error),
    Prepare(io::Error),
}

fn open_confined(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    for _ in 0..TRIES {
        match openat2(
            root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            CONFINED,
        ) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Makes the missing directories of `path`, with the permissions of the volume's root: a pod's fsGroup must be able
/// to write there.
fn make_dirs(root: &OwnedFd, path: &str) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(statat(root, "", AtFlags::EMPTY_PATH)?.st_mode & 0o7777);
    let mut parent = String::from(".");
    for element in path
        .split('/')
        .filter(|element| !element.is_empty() && *element != ".")
    {
        let child = format!("{parent}/{element}");
        match open_confined(root, &child) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let dir = openat2(
                    root,
                    &parent,
                    OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                    CONFINED,
                )?;
                make_dir(dir, element, mode)?;
            }
            Err(error) => return Err(error),
        }
        parent = child;
    }
    Ok(())
}

fn make_dir(parent: impl AsFd, name: &str, mode: Mode) -> rustix::io::Result<()> {
    match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        // Another container's start made it meanwhile.
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat2(
        parent,
        name,
        flags,
        Mode::empty(),
        CONFINED | ResolveFlags::NO_SYMLINKS,
    )?;
    fchmod(made, mode)
}

fn is_same(wanted: &Stat, target: &Path) -> io::Result<bool> {
    let found = statat(CWD, target, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino))
}

/// The empty file or directory that the mount covers.
fn make_target(target: &Path, kind: FileType) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    let is_dir = fs::symlink_metadata(target).map(|meta| meta.is_dir());
    match (kind, is_dir) {
        (FileType::Directory, Ok(true)) => Ok(()),
        (FileType::Directory, Ok(false)) => {
            fs::remove_file(target)?;
            DirBuilder::new().mode(0o750).create(target)
        }
        (FileType::Directory, Err(_)) => DirBuilder::new().mode(0o750).create(target),
        (_, Ok(false)) => Ok(()),
        (_, Ok(true)) => {
            fs::remove_dir(target)?;
            make_file(target)
        }
        (_, Err(_)) => make_file(target),
    }
}

fn make_file(target: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(target)
        .map(drop)
}

#[cfg(test)]
mod tests;
