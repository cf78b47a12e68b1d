//! Announcements on disk, or rather in memory: `/run` ends with the boot, as pods do. A file for each interface, in the words of the
//! announcement.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use gantry_announce::{Announcement, Attached, READ_BYTES};
use gantry_chassis::files::gone_is_fine;
use tracing::warn;

/// Not an interface's name: those begin with no dot.
const TEMPORARY: &str = ".new";

/// The directory.
#[derive(Debug)]
pub(super) struct Files(PathBuf);

/// Why an announcement is not kept, so that it cannot be acted on either.
#[derive(Debug, thiserror::Error)]
#[error("the pod cannot be remembered in {path}")]
pub(super) struct KeepError {
    path: PathBuf,
    source: io::Error,
}

impl Files {
    /// Makes the directory if it is not there.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// All that is kept; what cannot be understood is said once and removed.
    pub(super) fn read(&self) -> Vec<Attached> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) => {
                warn!(%error, dir = %self.0.display(), "what the CNI plugin told before is lost");
                return Vec::new();
            }
        };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter_map(|path| read(&path)).collect()
    }

    /// Replaces the file whole, so that a program that is killed leaves the old or the new one.
    pub(super) fn keep(&self, attached: &Attached) -> Result<(), KeepError> {
        let path = self.0.join(&attached.interface);
        let temporary = self.0.join(TEMPORARY);
        let line = Announcement::Attached(attached.clone()).line();
        fs::write(&temporary, line)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| KeepError { path, source })
    }

    pub(super) fn forget(&self, interface: &str) {
        let path = self.0.join(interface);
        if let Err(error) = gone_is_fine(fs::remove_file(&path)) {
            warn!(%error, path = %path.display(), "cannot be removed");
        }
    }
}

fn read(path: &Path) -> Option<Attached> {
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(READ_BYTES).read_to_end(&mut text));
    let name = path.file_name().and_then(|name| name.to_str());
    match (read, Announcement::parse(&text)) {
        (Ok(_), Ok(Announcement::Attached(attached))) if name == Some(&attached.interface) => Some(attached),
        (read, _) => {
            if name != Some(TEMPORARY) {
                warn!(path = %path.display(), ?read, "this is no interface of a pod and is removed");
            }
            let _ = fs::remove_file(path);
            None
        }
    }
}
