//! Processes: `cgroup.procs`, `/proc/<pid>/limits`, `/proc/loadavg`, `/proc/<pid>/cgroup`.

use super::{digits, lines, text, words};

/// The process ids of a `cgroup.procs`.
pub fn pids(file: &[u8]) -> impl Iterator<Item = u32> {
    lines(file).filter_map(|line| u32::try_from(digits(line.trim_ascii())?).ok())
}

/// The soft limit of open files in `/proc/<pid>/limits`; -1 when there is none.
#[must_use]
pub fn open_files_limit(file: &[u8]) -> Option<i64> {
    const NAME: &[u8] = b"Max open files";
    let line = lines(file).find_map(|line| line.strip_prefix(NAME))?;
    match words(line).next()? {
        b"unlimited" => Some(-1),
        value => i64::try_from(digits(value)?).ok(),
    }
}

/// How many processes and threads there are: the fourth word of `/proc/loadavg` is `RUNNING/ALL`.
#[must_use]
pub fn tasks(loadavg: &[u8]) -> Option<u64> {
    let word = words(loadavg).nth(3)?;
    let slash = word.iter().position(|byte| *byte == b'/')?;
    digits(&word[slash + 1..])
}

/// The cgroup of a process from its `/proc/<pid>/cgroup`, whose lines are `ID:CONTROLLERS:PATH`. `None` when CPU and
/// memory (version 1) are accounted in different cgroups.
#[must_use]
pub fn cgroup(file: &[u8], v2: bool) -> Option<String> {
    let path_of = |controller: &[u8]| {
        lines(file).find_map(|line| {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let controllers = parts.nth(1)?;
            let named = controllers.split(|byte| *byte == b',').any(|c| c == controller);
            named.then(|| parts.next()).flatten()
        })
    };
    if v2 {
        return path_of(b"").map(text);
    }
    let (cpu, memory) = (path_of(b"cpu")?, path_of(b"memory")?);
    // systemd knows best: without accounting the controllers' own path is one above.
    (cpu == memory).then(|| text(path_of(b"name=systemd").unwrap_or(cpu)))
}
