//! What the agent asks of its machine before it starts, and what it sets for its own process.

use std::{fs, path::Path};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Settings;

/// `f_type` of cgroup v2 (statfs(2)).
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The machine is not one that the configuration allows. Final.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// Swap is on and `failSwapOn` is true.
    #[error(
        "swap is on ({0}): turn it off, or set failSwapOn: false in the configuration (--fail-swap-on=false)"
    )]
    Swap(String),
    /// cgroup v1 and `failCgroupV1` is true.
    #[error(
        "this machine uses cgroup v1: boot it with cgroup v2, or set failCgroupV1: false in the configuration"
    )]
    CgroupV1,
}

/// Does the machine use cgroup v2 only?
pub(crate) fn is_cgroup_v2() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == CGROUP2_SUPER_MAGIC)
}

/// Refuse machines that the configuration excludes.
pub(crate) fn check_machine(settings: &Settings) -> Result<(), MachineError> {
    if settings.fail_cgroup_v1 && !is_cgroup_v2() {
        return Err(MachineError::CgroupV1);
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    match swap_device(&swaps) {
        Some(device) if settings.fail_swap_on => Err(MachineError::Swap(device.to_owned())),
        Some(_) | None => Ok(()),
    }
}

/// The first swap device of `/proc/swaps`, whose first line is a heading.
fn swap_device(swaps: &str) -> Option<&str> {
    swaps.lines().nth(1)?.split_ascii_whitespace().next()
}

/// Limits and OOM score of our own process; a failure is logged, as in the reference.
pub(crate) fn prepare(settings: &Settings) {
    let score = settings.oom_score_adj.to_string();
    if let Err(error) = fs::write(Path::new("/proc/self/oom_score_adj"), score) {
        warn!(%error, "cannot set oomScoreAdj");
    }
    let limit = getrlimit(Resource::Nofile);
    let wanted = settings.max_open_files;
    if limit.current.is_some_and(|current| current < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
        let raise = |current, maximum| setrlimit(Resource::Nofile, Rlimit { current, maximum });
        if let Err(error) = raise(Some(wanted), maximum) {
            // As far as it goes without privileges.
            let raised = raise(limit.maximum, limit.maximum).is_ok();
            warn!(%error, wanted, raised, "cannot raise the limit of open files (maxOpenFiles)");
        }
    }
}

/// Lets all threads that are still to come share one heap. Left to itself the allocator makes one for each of the first
/// threads, up to eight for each processor, and what is free in one is of no use to another.
pub(crate) fn share_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: the declaration is that of mallopt(3), which takes any number.
        #[allow(unsafe_code)]
        unsafe extern "C" {
            safe fn mallopt(param: core::ffi::c_int, value: core::ffi::c_int) -> core::ffi::c_int;
        }
        /// malloc.h.
        const M_ARENA_MAX: core::ffi::c_int = -8;
        mallopt(M_ARENA_MAX, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_swap() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(swap_device(heading), None);
        assert_eq!(swap_device(""), None);
        assert_eq!(
            swap_device(&format!("{heading}/dev/sda2 partition 8388604 0 -2\n")),
            Some("/dev/sda2")
        );
    }
}
