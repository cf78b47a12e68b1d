//! The followed logs, and the one inotify instance that tells when something happens to any of them.
//!
//! Watched are directories, because a log's name moves from file to file. Writes only wake the log's followers; what
//! moves or closes files is looked at where blocking is allowed. After each look at the queue the task pauses for a
//! moment, so that a container that writes without end wakes its followers a hundred times in a second, not for each
//! line. Without inotify (its instances or watches are used up) followers look for themselves each second.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::{StreamExt as _, future::poll_immediate};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio_util::task::AbortOnDropHandle;

use super::tape::{Reel, Tape};

/// Room for a few hundred events.
const BUFFER: usize = 16 * 1024;
/// Events of the same kind pile up as one while we wait.
const PAUSE: Duration = Duration::from_millis(10);
/// Events taken before what they say is passed on.
const MOST: usize = 1024;

/// The followed logs; clones share them.
#[derive(Clone)]
pub(crate) struct Tapes {
    shared: Arc<Shared>,
    _task: Option<Arc<AbortOnDropHandle<()>>>,
}

struct Shared {
    /// Held for look-ups and for system calls on directories, never across an await.
    folders: Mutex<Folders>,
}

struct Folders {
    /// `None` without inotify.
    watches: Option<Watches>,
    by_path: HashMap<PathBuf, Folder>,
    by_watch: HashMap<WatchDescriptor, PathBuf>,
}

/// A directory with followed logs.
#[derive(Default)]
struct Folder {
    watch: Option<WatchDescriptor>,
    tapes: HashMap<PathBuf, Followed>,
}

struct Followed {
    tape: Arc<Tape>,
    reels: usize,
}

/// What a look at the queue has brought.
#[derive(Default)]
struct News {
    written: HashSet<WatchDescriptor>,
    /// A name in the directory stands for another file.
    moved: HashSet<WatchDescriptor>,
    closed: Vec<(WatchDescriptor, OsString)>,
    /// The directory is gone.
    ended: Vec<WatchDescriptor>,
    /// Events have been lost.
    overflow: bool,
}

/// Counts a reel; the tape and the watch of its directory end with the last one.
pub(super) struct Hold {
    path: PathBuf,
    shared: Arc<Shared>,
    /// Nobody tells when something happens.
    pub(super) unwatched: bool,
}

// === impl Tapes ===

impl Tapes {
    /// Nothing is followed yet. Must be called inside a runtime.
    pub(crate) fn start() -> Self {
        let stream = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER]));
        let (watches, stream) = match stream {
            Ok(stream) => (Some(stream.watches()), Some(stream)),
            Err(error) => {
                tracing::warn!(%error, "no inotify: followed logs are looked at each second (raise fs.inotify.max_user_instances)");
                (None, None)
            }
        };
        let folders = Folders {
            watches,
            by_path: HashMap::new(),
            by_watch: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            folders: Mutex::new(folders),
        });
        let task = stream.map(|stream| {
            let task = tokio::spawn(listen(stream, Arc::downgrade(&shared)));
            Arc::new(AbortOnDropHandle::new(task))
        });
        Self { shared, _task: task }
    }

    /// Begins to follow the log at `path`, which is canonical. Blocking.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn follow(&self, path: &Path) -> io::Result<Reel> {
        let mut folders = self.shared.lock();
        // Opened after the watch is there: nothing that happens to the file from then on is missed.
        let unwatched = !folders.watch(parent(path));
        let tape = folders.tape(path);
        if tape.is_err() {
            folders.forget(path);
        }
        drop(folders);
        let hold = Hold {
            path: path.to_owned(),
            shared: self.shared.clone(),
            unwatched,
        };
        Ok(Reel::new(tape?, hold))
    }

    /// Another file has taken the name `path`. Blocking.
    pub(crate) fn rotated(&self, path: &Path) {
        let folders = self.shared.lock();
        let folder = folders.by_path.get(parent(path));
        let tape = folder.and_then(|folder| folder.tapes.get(path));
        let tape = tape.map(|followed| followed.tape.clone());
        drop(folders);
        if let Some(tape) = tape {
            tape.look();
        }
    }

    /// Directories that are watched.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        let folders = self.shared.lock();
        assert_eq!(folders.by_path.len(), folders.by_watch.len());
        folders.by_watch.len()
    }
}

// === impl Hold ===

impl Drop for Hold {
    fn drop(&mut self) {
        let mut folders = self.shared.lock();
        let folder = folders.by_path.get_mut(parent(&self.path));
        if let Some(followed) = folder.and_then(|folder| folder.tapes.get_mut(&self.path)) {
            followed.reels -= 1;
        }
        folders.forget(&self.path);
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Folders> {
        // No code panics while it holds the lock, and the maps stay sound if one did.
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tapes in a watched directory.
    fn tapes(&self, watch: &WatchDescriptor) -> Vec<Arc<Tape>> {
        let folders = self.lock();
        let folder = folders
            .by_watch
            .get(watch)
            .and_then(|path| folders.by_path.get(path));
        let tapes = folder.into_iter().flat_map(|folder| folder.tapes.values());
        tapes.map(|followed| followed.tape.clone()).collect()
    }

    /// Passes on what needs no blocking.
    fn wake(&self, news: &News) {
        for watch in &news.written {
            self.tapes(watch).iter().for_each(|tape| tape.wake());
        }
    }

    /// Passes on the rest. Blocking.
    fn look(&self, news: News) {
        if news.overflow {
            let folders = self.lock();
            let all = folders.by_path.values().flat_map(|folder| folder.tapes.values());
            let all: Vec<_> = all.map(|followed| followed.tape.clone()).collect();
            drop(folders);
            for tape in all {
                tape.look();
                tape.wake();
            }
        }
        for watch in &news.moved {
            self.tapes(watch).iter().for_each(|tape| tape.look());
        }
        for (watch, name) in &news.closed {
            for tape in self.tapes(watch) {
                tape.closed(&tape.path().with_file_name(name));
            }
        }
        for watch in news.ended {
            let mut folders = self.lock();
            if let Some(path) = folders.by_watch.remove(&watch)
                && let Some(folder) = folders.by_path.get_mut(&path)
            {
                folder.watch = None;
            }
        }
    }
}

// === impl Folders ===

impl Folders {
    /// Answers whether the directory is watched now.
    fn watch(&mut self, path: &Path) -> bool {
        let folder = self.by_path.entry(path.to_owned()).or_default();
        if folder.watch.is_some() {
            return true;
        }
        let Some(watches) = &mut self.watches else {
            return false;
        };
        let mask = WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::CLOSE_WRITE
            | WatchMask::ONLYDIR;
        match watches.add(path, mask) {
            Ok(watch) => {
                folder.watch = Some(watch.clone());
                self.by_watch.insert(watch, path.to_owned());
                true
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot watch the directory of a followed log: it is looked at each second");
                false
            }
        }
    }

    /// The tape of the log at `path`, with one reel more.
    fn tape(&mut self, path: &Path) -> io::Result<Arc<Tape>> {
        let folder = self.by_path.entry(parent(path).to_owned()).or_default();
        if let Some(followed) = folder.tapes.get_mut(path) {
            followed.tape.look();
            followed.reels += 1;
            return Ok(followed.tape.clone());
        }
        let tape = Arc::new(Tape::open(path)?);
        let followed = Followed {
            tape: tape.clone(),
            reels: 1,
        };
        folder.tapes.insert(path.to_owned(), followed);
        Ok(tape)
    }

    /// Ends what no reel needs any more: the tape of the log, the watch of its directory.
    fn forget(&mut self, path: &Path) {
        let Some(folder) = self.by_path.get_mut(parent(path)) else {
            return;
        };
        folder.tapes.retain(|_, followed| followed.reels > 0);
        if !folder.tapes.is_empty() {
            return;
        }
        let watch = self.by_path.remove(parent(path)).and_then(|folder| folder.watch);
        if let (Some(watch), Some(watches)) = (watch, &mut self.watches) {
            self.by_watch.remove(&watch);
            // It may have ended by itself with the directory.
            let _ = watches.remove(watch);
        }
    }
}

// === impl News ===

impl News {
    fn take(&mut self, event: EventOwned) {
        let mask = event.mask;
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.overflow = true;
        } else if mask.contains(EventMask::IGNORED) {
            self.ended.push(event.wd);
        } else if mask.intersects(EventMask::CREATE | EventMask::MOVED_TO | EventMask::MOVED_FROM) {
            self.moved.insert(event.wd);
        } else if mask.contains(EventMask::CLOSE_WRITE) {
            self.closed.extend(event.name.map(|name| (event.wd, name)));
        } else {
            self.written.insert(event.wd);
        }
    }

    fn needs_a_look(&self) -> bool {
        self.overflow || !(self.moved.is_empty() && self.closed.is_empty() && self.ended.is_empty())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Reads events until the last handle is gone or inotify breaks.
async fn listen(mut stream: EventStream<Vec<u8>>, shared: Weak<Shared>) {
    loop {
        let mut news = News::default();
        let mut next = stream.next().await;
        for _ in 0..MOST {
            match next {
                Some(Ok(event)) => news.take(event),
                Some(Err(error)) => {
                    tracing::error!(%error, "cannot read inotify events: followed logs are looked at now and then");
                    return;
                }
                None => return,
            }
            match poll_immediate(stream.next()).await {
                Some(more) => next = more,
                None => break,
            }
        }
        let Some(shared) = shared.upgrade() else { return };
        shared.wake(&news);
        if news.needs_a_look() {
            // Only a shutdown cancels it.
            let _ = tokio::task::spawn_blocking(move || shared.look(news)).await;
        } else {
            drop(shared);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
