//! `fsGroup`: the files of a volume belong to the pod's group (`pkg/volume/volume_linux.go`).

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;

const SET_GID: u32 = 0o2000;
const GROUP_TRAVERSE: u32 = 0o110;

/// Gives everything at and below `dir` to `group`: readable by it, and writable unless the volume is read-only;
/// directories hand the group on. Children first, so that an interrupted pass shows at the top.
pub(super) fn give_to_group(dir: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let meta = fs::symlink_metadata(dir)?;
    if meta.is_dir() {
        for entry in fs::read_dir(dir)? {
            give_to_group(&entry?.path(), group, read_only)?;
        }
    }
    change(dir, &meta, group, read_only)
}

fn change(path: &Path, meta: &Metadata, group: u32, read_only: bool) -> io::Result<()> {
    lchown(path, None, Some(group))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mut mode = meta.permissions().mode() | if read_only { 0o440 } else { 0o660 };
    if meta.is_dir() {
        mode |= SET_GID | GROUP_TRAVERSE;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}
