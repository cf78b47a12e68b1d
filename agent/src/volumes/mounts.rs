//! The few mount operations that volumes need.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

/// Kernels before 6.4 have no tmpfs without swap; found out by the first mount.
static NO_SWAP_OPTION: AtomicBool = AtomicBool::new(true);

/// Something is mounted at this very path. A missing path is no mount point.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Mounts a tmpfs, swapped out never where the kernel can promise that. The size is in bytes.
pub(super) fn mount_tmpfs(target: &Path, size_bytes: Option<u64>) -> io::Result<()> {
    let size = size_bytes.map(|bytes| format!("size={bytes}"));
    if NO_SWAP_OPTION.load(Ordering::Relaxed) {
        let options: Vec<&str> = size.as_deref().into_iter().chain(["noswap"]).collect();
        match mount_with(target, &options.join(",")) {
            Err(Errno::INVAL) => NO_SWAP_OPTION.store(false, Ordering::Relaxed),
            other => return other.map_err(io::Error::from),
        }
    }
    mount_with(target, &size.unwrap_or_default()).map_err(io::Error::from)
}

fn mount_with(target: &Path, options: &str) -> rustix::io::Result<()> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    mount(
        "tmpfs",
        target,
        "tmpfs",
        MountFlags::empty(),
        Some(options.as_c_str()),
    )
}

/// Binds what is open as file descriptor `number` of this process to `target`, without what is mounted below it.
pub(super) fn bind_fd(number: i32, target: &Path) -> io::Result<()> {
    mount_bind(format!("/proc/self/fd/{number}"), target).map_err(io::Error::from)
}

/// Unmounts what is mounted at `path`: at once when it can be, lazily when somebody still uses it. Never follows a
/// link. Nothing there is no error.
pub(super) fn unmount_at(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => match unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        },
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is mounted at or below `dir`, in the order to unmount it: the youngest first.
pub(super) fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(mount_point)
        .filter(|path| path.starts_with(dir))
        .collect();
    found.reverse();
    Ok(found)
}

/// The fifth field of a line of `mountinfo` (`proc_pid_mountinfo(5)`).
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    line.split(|byte| *byte == b' ')
        .nth(4)
        .map(|field| PathBuf::from(OsString::from_vec(unescaped(field))))
}

/// Spaces, tabs, newlines and backslashes are octal escapes.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escape = (*first == b'\\').then(|| tail.split_at_checked(3)).flatten();
        let code =
            escape.and_then(|(digits, _)| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (code, escape) {
            (Some(code), Some((_, after))) => {
                bytes.push(code);
                rest = after;
            }
            (Some(_), None) | (None, _) => bytes.push(*first),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let line = b"36 35 98:0 /mnt1 /var/lib/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/var/lib/a b\\c")));
        assert_eq!(mount_point(b""), None);
        assert_eq!(mount_point(b"1 2 3 4 /x\\04"), Some(PathBuf::from("/x\\04")));
        assert_eq!(mount_point(b"1 2 3 4 /x\\999"), Some(PathBuf::from("/x\\999")));
    }

    proptest::proptest! {
        #[test]
        fn any_line_has_a_mount_point_or_not(line: Vec<u8>) {
            let _ = mount_point(&line);
        }

        #[test]
        fn what_the_kernel_escapes_is_read_back(path: Vec<u8>) {
            let escape = |byte: &u8| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                other => vec![*other],
            };
            let escaped: Vec<u8> = path.iter().flat_map(escape).collect();
            proptest::prop_assert_eq!(unescaped(&escaped), path);
        }
    }
}
