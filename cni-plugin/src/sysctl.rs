//! Kernel settings under /proc/sys, of the thread's current network namespace.
//!
//! A directory is opened once for all settings in it: below `net` the kernel keeps the names of all namespaces in one list, which
//! it walks at each look-up. With 900 pods that is a tenth of a millisecond.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::fs::{Mode, OFlags, openat};

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
        let full = format!("/proc/sys/{path}");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&full, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(Self {
                path,
                directory: directory.into(),
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
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

/// Sets a single one, in the directory `path`, if the kernel has it.
pub(crate) fn set(path: String, name: &str, value: u8) -> Result<(), SysctlError> {
    match Settings::open(path)? {
        Some(settings) => settings.set(name, value),
        None => Ok(()),
    }
}
