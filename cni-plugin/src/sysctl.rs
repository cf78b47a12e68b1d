//! Kernel settings under /proc/sys, of the thread's current network namespace.
//!
//! A directory is opened once for all settings in it, in a procfs of its own. In the one that all share the kernel keeps the
//! directories `net/ipv6` of all namespaces in one list, which it walks at each look-up: with 900 pods 350 microseconds, where an
//! own procfs takes 90 with them and 30 without.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The magic number of procfs (statfs(2)).
const PROC_MAGIC: u64 = 0x9fa0;

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the kernel setting {path}")]
pub(crate) struct SysctlError {
    verb: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

/// A directory of settings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Below /proc/sys.
    path: String,
    directory: File,
}

impl Settings {
    /// Opens the directory `path`, below /proc/sys. None when the kernel has none, as when it has no IPv6.
    pub(crate) fn open(path: String) -> Result<Option<Self>, SysctlError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let shared = |_| rustix::fs::open("/proc", flags, Mode::empty());
        let procfs = own_procfs().or_else(shared);
        match procfs.and_then(|procfs| openat(procfs, format!("sys/{path}"), flags, Mode::empty())) {
            Ok(directory) => Ok(Some(Self {
                path,
                directory: directory.into(),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(SysctlError {
                verb: "open",
                path,
                source: error.into(),
            }),
        }
    }

    /// Sets one to a digit, unless it is so already or the kernel has no such setting.
    pub(crate) fn set(&self, name: &str, value: u8) -> Result<(), SysctlError> {
        let failed = |verb| {
            move |source| SysctlError {
                verb,
                path: format!("{}/{name}", self.path),
                source,
            }
        };
        let mut file = match self.file(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("open")(error)),
        };
        let mut current = String::new();
        file.read_to_string(&mut current).map_err(failed("read"))?;
        let value = value.to_string();
        if current.trim() == value {
            return Ok(());
        }
        let mut file = self.file(name, OFlags::WRONLY).map_err(failed("open"))?;
        file.write_all(value.as_bytes()).map_err(failed("write"))
    }

    /// Refuses a file that something else was mounted over, as in CVE-2025-52881.
    fn file(&self, name: &str, access: OFlags) -> io::Result<File> {
        let file = openat(&self.directory, name, access | OFlags::CLOEXEC, Mode::empty())?;
        let kind = rustix::fs::fstatfs(&file)?;
        if u64::try_from(kind.f_type).ok() != Some(PROC_MAGIC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a file of procfs",
            ));
        }
        Ok(file.into())
    }
}

/// A procfs that is mounted nowhere and goes when its last file is closed. Linux has had such since 5.2; it takes `CAP_SYS_ADMIN`,
/// and in some user namespaces there is none.
fn own_procfs() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Sets a single one, in the directory `path`, if the kernel has it.
pub(crate) fn set(path: String, name: &str, value: u8) -> Result<(), SysctlError> {
    match Settings::open(path)? {
        Some(settings) => settings.set(name, value),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    use super::*;

    #[test]
    fn settings_are_those_of_the_kernel_whatever_is_mounted_over_them() {
        let found = std::thread::spawn(|| {
            // SAFETY: this thread's view of mounts and interfaces is unshared, neither descriptors nor memory.
            #[allow(unsafe_code, reason = "see SAFETY")]
            unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount("none", "/proc/sys", "tmpfs", MountFlags::empty(), None).unwrap();
            let settings = Settings::open("net/ipv4/conf/lo".to_owned()).unwrap().unwrap();
            settings.set("accept_local", 1).unwrap();
            settings.set("no_such_setting", 1).unwrap();
            let mut value = String::new();
            let mut file = settings.file("accept_local", OFlags::RDONLY).unwrap();
            file.read_to_string(&mut value).unwrap();
            let missing = Settings::open("net/ipv4/conf/no-such-link".to_owned());
            (value, missing.unwrap().is_none())
        });
        assert_eq!(found.join().unwrap(), ("1\n".to_owned(), true));
    }
}
