//! Removal of directory trees that containers could write to.
//!
//! Every step is relative to an open directory and follows neither links nor mounts (`openat2` with `NO_SYMLINKS` and
//! `NO_XDEV`): whatever a container put there, nothing outside of the tree is touched (CVE-2017-1002102), and a tree
//! with something still mounted in it is left alone from there on.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, renameat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Deeper directories are moved up to the top of the tree first: no more open files and stack than this.
const MAX_DEPTH: u32 = 64;

/// Opens directory `name` of `parent`: itself, never what a link in its place points to or what is mounted there.
pub(super) fn open_dir(parent: impl AsFd, name: impl Arg) -> rustix::io::Result<OwnedFd> {
    openat2(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
}

/// Removes `name` in `parent` with everything in it. Nothing there is no error.
///
/// # Errors
/// `EXDEV` when something is mounted at or below it; what the kernel says otherwise. What could be removed is removed.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = match open_dir(parent, name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut moved = 0;
    loop {
        let before = moved;
        clear(top.as_fd(), top.as_fd(), 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Empties `dir`, except for directories that it moved to `top`. Goes on after an error; answers the first.
fn clear(dir: BorrowedFd<'_>, top: BorrowedFd<'_>, depth: u32, moved: &mut u64) -> rustix::io::Result<()> {
    let mut result = Ok(());
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let removed = match entry.file_type() {
            FileType::Directory => Err(Errno::ISDIR),
            _ => unlinkat(dir, name, AtFlags::empty()),
        };
        let removed = match removed {
            Err(Errno::ISDIR) => clear_child(dir, name, top, depth, moved),
            Err(Errno::NOENT) => Ok(()),
            other => other,
        };
        result = result.and(removed);
    }
    result
}

fn clear_child(
    dir: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    depth: u32,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    if depth >= MAX_DEPTH {
        *moved += 1;
        return renameat(dir, name, top, format!("..deep.{moved}"));
    }
    let child = open_dir(dir, name)?;
    clear(child.as_fd(), top, depth + 1, moved)?;
    drop(child);
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}
