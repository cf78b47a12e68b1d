//! What files take on disk: `du`, at a walker's pace.
//!
//! A directory of a million files costs seconds of CPU. So the walk rests nine times as long as it works, and never
//! takes more than a tenth of a processor.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use gantry_agent_core::stats::figures::Usage;

/// Works this long at a time.
const WORK: Duration = Duration::from_millis(2);
/// And rests this many times as long.
const REST: u32 = 9;
/// `st_blocks` counts these, whatever the file system's blocks are.
const BLOCK: u64 = 512;

/// A directory and everything in it, as far as it is in the same file system; a file with several names counts once.
/// What vanishes meanwhile counts nothing. `None` when it cannot be looked at.
pub(super) fn of_tree(path: &Path) -> Option<Usage> {
    let top = fs::symlink_metadata(path).ok()?;
    let mut walk = Walk {
        device: top.dev(),
        linked: HashSet::new(),
        sum: Usage::default(),
        since: Instant::now(),
    };
    walk.count(&top);
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries {
            walk.rest();
            let Ok(metadata) = entry.metadata() else { continue };
            if walk.count(&metadata) && metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Some(walk.sum)
}

/// The files right in a directory, without those in directories below; `None` when it is not there.
pub(super) fn of_files(folder: &Path) -> Option<Usage> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let files = entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(|metadata| !metadata.is_dir());
    Some(files.map(|metadata| of(&metadata)).sum())
}

/// One file; `None` when it is not there.
pub(super) fn of_file(path: &Path) -> Option<Usage> {
    fs::symlink_metadata(path).ok().as_ref().map(of)
}

fn of(metadata: &Metadata) -> Usage {
    Usage {
        bytes: metadata.blocks().saturating_mul(BLOCK),
        inodes: 1,
    }
}

struct Walk {
    device: u64,
    linked: HashSet<u64>,
    sum: Usage,
    since: Instant,
}

impl Walk {
    /// False when it belongs to another file system.
    fn count(&mut self, metadata: &Metadata) -> bool {
        if metadata.dev() != self.device {
            return false;
        }
        let several_names = metadata.nlink() > 1 && !metadata.is_dir();
        if !several_names || self.linked.insert(metadata.ino()) {
            self.sum = self.sum + of(metadata);
        }
        true
    }

    fn rest(&mut self) {
        let worked = self.since.elapsed();
        if worked >= WORK {
            std::thread::sleep(worked * REST);
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_blocks_and_inodes_once() {
        let folder = tempfile::tempdir().unwrap();
        let empty = of_tree(folder.path()).unwrap();
        assert_eq!(empty.inodes, 1);
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("file"), vec![1; 10_000]).unwrap();
        fs::hard_link(below.join("file"), folder.path().join("again")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        let full = of_tree(folder.path()).unwrap();
        // The directories, the file, and the link itself, not what it points to.
        assert_eq!(full.inodes, 5);
        assert!(
            full.bytes >= empty.bytes + 10_000 && full.bytes < empty.bytes + 100_000,
            "{full:?}"
        );
        let files = of_files(folder.path()).unwrap();
        assert_eq!(files.inodes, 2);
        assert_eq!(of_file(&below.join("file")).unwrap().inodes, 1);
        assert_eq!(of_tree(&below.join("nothing")), None);
        assert_eq!(of_files(&below.join("nothing")), None);
    }
}
