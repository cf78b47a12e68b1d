//! Kernel settings under /proc/sys, of the thread's current network namespace.

use std::fs::File;
use std::io::{self, Read, Write};

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

/// Sets `path` (below /proc/sys) to a digit, unless it is so already. False when the kernel has no such setting, as when it
/// has no IPv6.
pub(crate) fn set(path: &str, value: u8) -> Result<bool, SysctlError> {
    let full = format!("/proc/sys/{path}");
    let failed = |verb| {
        move |source| SysctlError {
            verb,
            path: path.to_owned(),
            source,
        }
    };
    let mut file = match File::options().read(true).open(&full).and_then(only_proc) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("open")(error)),
    };
    let mut current = String::new();
    file.read_to_string(&mut current).map_err(failed("read"))?;
    if current.trim() == value.to_string() {
        return Ok(true);
    }
    let mut file = File::options()
        .write(true)
        .open(&full)
        .and_then(only_proc)
        .map_err(failed("open"))?;
    file.write_all(value.to_string().as_bytes())
        .map_err(failed("write"))?;
    Ok(true)
}

/// Refuses a file that something else was mounted over, as in CVE-2025-52881.
fn only_proc(file: File) -> io::Result<File> {
    let kind = rustix::fs::fstatfs(&file)?;
    if u64::try_from(kind.f_type).ok() != Some(PROC_MAGIC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a file of procfs",
        ));
    }
    Ok(file)
}
