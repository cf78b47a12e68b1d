//! Volumes that are directories of this node: emptyDir on disk and in memory, and hostPath.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use gantry_agent_core::volumes::path::{PathError, check_sub_path};
use gantry_agent_core::volumes::plan::HostPathKind;

use super::mounts::{is_mount_point, mount_tmpfs};
use super::ownership::give_to_group;

/// The file that says that a volume is complete.
const READY: &str = "ready";

/// Where an emptyDir lives, with what the shell needs to know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// On the disk of the root directory.
    Disk,
    /// A tmpfs of at most this many bytes.
    Memory {
        /// `None`: the kernel's default, half of the memory.
        size_bytes: Option<u64>,
    },
}

/// Why a hostPath is not what the pod demands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostPathError {
    /// Something else, or nothing, is there.
    #[error("hostPath type check failed: {} is not {wanted}", path.display())]
    Type {
        /// The path.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// The type is no word of the API.
    #[error("{} is an invalid volume type", path.display())]
    UnknownType {
        /// The path.
        path: PathBuf,
    },
    /// The path has a `..` element.
    #[error("invalid HostPath `{path}`: must not contain '..'")]
    Backstep {
        /// The path.
        path: String,
    },
    /// It could not be made.
    #[error("failed to create {}", path.display())]
    Create {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Makes an emptyDir, or finds it made: what is in it stays.
pub(super) fn empty_dir(dir: &Path, marker: &Path, space: Space, group: Option<u32>) -> io::Result<()> {
    if space_is_ready(dir, marker, space)? {
        return Ok(());
    }
    make_space(dir, space)?;
    if let Some(group) = group {
        give_to_group(dir, group, false)?;
    }
    mark_ready(marker)
}

/// A directory, or the tmpfs on it, that everybody may write to.
pub(super) fn make_space(dir: &Path, space: Space) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    match DirBuilder::new().mode(0o777).create(dir) {
        // The umask is not asked.
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o777))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    match space {
        Space::Disk => Ok(()),
        Space::Memory { .. } if is_mount_point(dir)? => Ok(()),
        Space::Memory { size_bytes } => mount_tmpfs(dir, size_bytes),
    }
}

pub(super) fn mark_ready(marker: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(marker)?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(marker.join(READY))
        .map(drop)
}

fn space_is_ready(dir: &Path, marker: &Path, space: Space) -> io::Result<bool> {
    if !marker.join(READY).exists() {
        return Ok(false);
    }
    match space {
        Space::Disk => Ok(dir.is_dir()),
        Space::Memory { .. } => is_mount_point(dir),
    }
}

/// Checks, or makes, what a hostPath demands (`pkg/volume/hostpath`).
pub(super) fn host_path(path: &str, kind: HostPathKind) -> Result<PathBuf, HostPathError> {
    if let Err(PathError::SubPathBackstep(path)) = check_sub_path(path) {
        return Err(HostPathError::Backstep { path });
    }
    let path = PathBuf::from(path);
    let create_error = |source| HostPathError::Create {
        path: path.clone(),
        source,
    };
    if !path.exists() {
        match kind {
            HostPathKind::DirectoryOrCreate => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(&path)
                    .map_err(create_error)?;
            }
            HostPathKind::FileOrCreate => {
                let create = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o644)
                    .open(&path);
                create.map_err(create_error)?;
            }
            HostPathKind::Any
            | HostPathKind::Directory
            | HostPathKind::File
            | HostPathKind::Socket
            | HostPathKind::CharDevice
            | HostPathKind::BlockDevice
            | HostPathKind::Unknown => {}
        }
    }
    let found = fs::metadata(&path).ok().map(|meta| meta.file_type());
    let is = |check: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(check);
    let (good, wanted) = match kind {
        HostPathKind::Any => (true, "anything"),
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => {
            (is(fs::FileType::is_dir), "a directory")
        }
        HostPathKind::FileOrCreate | HostPathKind::File => (is(fs::FileType::is_file), "a file"),
        HostPathKind::Socket => (is(fs::FileType::is_socket), "a socket file"),
        HostPathKind::CharDevice => (is(fs::FileType::is_char_device), "a character device"),
        HostPathKind::BlockDevice => (is(fs::FileType::is_block_device), "a block device"),
        HostPathKind::Unknown => return Err(HostPathError::UnknownType { path }),
    };
    if good {
        Ok(path)
    } else {
        Err(HostPathError::Type { path, wanted })
    }
}
