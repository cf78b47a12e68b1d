//! Which files of a rotated log stay, go or are compressed.
//!
//! Beside `<n>.log`, which the runtime writes, stand `<n>.log.<YYYYMMDD-HHMMSS>`, the newest of them as it was, the
//! older ones with `.gz` behind. Names therefore sort by age.

use std::collections::BTreeSet;

/// Of a log that has been rotated, or a part of one.
pub const COMPRESSED: &str = ".gz";
/// Of a file that is being compressed; one that is found was left by an agent that ended.
pub const TEMPORARY: &str = ".tmp";
/// The suffix of a rotated log, a format of `strftime`.
pub const STAMP: &str = "%Y%m%d-%H%M%S";

/// What to do before the newest file is rotated, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order: leftovers, then the oldest.
    pub remove: Vec<String>,
    /// To be compressed.
    pub compress: Vec<String>,
}

/// The names of `names` that hold a part of the log `log`, from the oldest to the newest, without that of the log itself.
#[must_use]
pub fn rotated(log: &str, names: &[String]) -> Vec<String> {
    let (used, _) = split(log, names);
    used.into_iter().map(str::to_owned).collect()
}

/// What must happen to the rotated files of `log` among `names` so that at most `max_files` files remain after one
/// more rotation.
#[must_use]
pub fn plan(log: &str, names: &[String], max_files: usize) -> Plan {
    let (used, unused) = split(log, names);
    // The file that the runtime will write and the one that is about to be rotated count.
    let excess = used.len().saturating_sub(max_files.saturating_sub(2));
    let (old, kept) = used.split_at(excess);
    let owned = |name: &&str| (*name).to_owned();
    Plan {
        remove: unused.iter().chain(old).map(owned).collect(),
        compress: kept
            .iter()
            .filter(|name| !name.ends_with(COMPRESSED))
            .map(owned)
            .collect(),
    }
}

/// Files that hold a part of the log, oldest first, and leftovers: temporary files and originals of what has been
/// compressed.
fn split<'a>(log: &str, names: &'a [String]) -> (Vec<&'a str>, Vec<&'a str>) {
    let of_log = |name: &&str| name.strip_prefix(log).is_some_and(|rest| rest.starts_with('.'));
    let all: BTreeSet<&str> = names.iter().map(String::as_str).filter(of_log).collect();
    all.iter().partition(|name| {
        !name.ends_with(TEMPORARY)
            && (name.ends_with(COMPRESSED) || !all.contains(format!("{name}{COMPRESSED}").as_str()))
    })
}
