//! Notices that the configuration file is not any more what it was when it was read.
//!
//! The directory is watched for what is replaced (an editor's rename, the links of a ConfigMap's volume), the file behind the links for
//! what is written in place. What counts is the content.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gantry_chassis::ready;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Enough for any event: its name has at most 255 bytes.
const EVENT_BYTES: usize = 4096;

/// A watched file.
#[derive(Debug)]
pub struct ConfigWatch {
    events: AsyncFd<OwnedFd>,
    path: PathBuf,
    content: String,
}

impl ConfigWatch {
    /// Watches `path`, whose content was this. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the system has no watch to give.
    pub fn new(path: &Path, content: String) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let replaced = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&events, directory, replaced)?;
        inotify::add_watch(&events, path, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE)?;
        Ok(Self {
            events: ready::readable(events)?,
            path: path.to_owned(),
            content,
        })
    }

    /// Returns when the file has another content. One that is away for a moment has not.
    ///
    /// # Errors
    /// When the system's events cannot be read.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let now = std::fs::read_to_string(&self.path);
            if now.is_ok_and(|now| now != self.content) {
                return Ok(());
            }
            // Cancel safe: readiness stays until it is cleared.
            let mut ready = self.events.readable().await?;
            self.drain()?;
            ready.clear_ready();
        }
    }

    fn drain(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(self.events.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn notices(path: &Path, change: impl FnOnce()) -> bool {
        let content = std::fs::read_to_string(path).expect("readable");
        let watch = ConfigWatch::new(path, content).expect("a watch");
        change();
        tokio::time::timeout(Duration::from_millis(300), watch.changed())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn another_content_is_noticed_however_it_comes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.conf");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write("a: 1\n");
        assert!(notices(&path, || write("a: 2\n")).await, "written in place");
        let other = dir.path().join("other");
        let replace = |text: &str| {
            std::fs::write(&other, text).expect("written");
            std::fs::rename(&other, &path).expect("renamed");
        };
        assert!(notices(&path, || replace("a: 3\n")).await, "replaced");
        assert!(!notices(&path, || replace("a: 3\n")).await, "the same again");
        assert!(!notices(&path, || std::fs::remove_file(&path).expect("removed")).await);
    }

    #[tokio::test]
    async fn a_config_maps_volume_is_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let version = |name: &str, text: &str| {
            std::fs::create_dir(dir.path().join(name)).expect("made");
            std::fs::write(dir.path().join(name).join("config.conf"), text).expect("written");
            std::os::unix::fs::symlink(name, dir.path().join("..data_tmp")).expect("linked");
            std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).expect("renamed");
        };
        version("..1", "a: 1\n");
        let path = dir.path().join("config.conf");
        std::os::unix::fs::symlink("..data/config.conf", &path).expect("linked");
        assert!(notices(&path, || version("..2", "a: 2\n")).await);
    }
}
