//! A followed log: the files that it has been, the newest last, shared by all its followers.
//!
//! A log is renamed when it is rotated and a new file takes its place. The tape opens each of them once, as soon as it
//! appears, so that a follower that is behind still finds it, whatever has happened to its name. A file that all
//! followers have left is closed; of those that are needed at most [`MAX_KEPT`] stay open, so that a reader that has
//! stopped reading does not keep deleted files on the disk: it goes on with the oldest one that is left.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::tapes::Hold;

/// As many as the reference keeps of a log unless told otherwise.
const MAX_KEPT: usize = 5;
/// A file whose writer has not been seen to close it gets this long after its successor has appeared.
const LINGER: Duration = Duration::from_secs(2);

/// A file, by what stays when it is renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// One of the files that a log has been.
#[derive(Debug)]
pub(crate) struct Generation {
    number: u64,
    id: FileId,
    /// `None` once it is too old to be kept.
    file: Mutex<Option<Arc<File>>>,
    /// Its writer has closed it after the next one was there.
    sealed: AtomicBool,
    /// When the next one appeared.
    succeeded: OnceLock<Instant>,
}

/// A followed log.
#[derive(Debug)]
pub(crate) struct Tape {
    path: PathBuf,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct State {
    /// Never empty.
    generations: VecDeque<Arc<Generation>>,
    /// How many followers are where.
    followers: BTreeMap<u64, usize>,
}

/// A follower's place on a tape; when the last one is dropped nothing of the tape is left.
pub(crate) struct Reel {
    tape: Arc<Tape>,
    news: watch::Receiver<State>,
    generation: Arc<Generation>,
    hold: Hold,
}

// === impl FileId ===

impl FileId {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

// === impl Generation ===

impl Generation {
    fn new(number: u64, file: File) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            number,
            id: FileId::of(&file.metadata()?),
            file: Mutex::new(Some(Arc::new(file))),
            sealed: AtomicBool::new(false),
            succeeded: OnceLock::new(),
        }))
    }

    /// The open file, unless it is too old to be kept.
    pub(crate) fn file(&self) -> Option<Arc<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing will be written to it any more: what is read to its end from now on is all.
    pub(crate) fn is_over(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
            || self
                .succeeded
                .get()
                .is_some_and(|since| since.elapsed() >= LINGER)
    }

    fn give_up(&self) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

// === impl Tape ===

impl Tape {
    /// The log at `path`, which is canonical.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let first = Generation::new(0, File::open(path)?)?;
        let state = State {
            generations: VecDeque::from([first]),
            followers: BTreeMap::new(),
        };
        Ok(Self {
            path: path.to_owned(),
            state: watch::Sender::new(state),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Something has been written.
    pub(super) fn wake(&self) {
        self.state.send_modify(|_| {});
    }

    /// Finds out whether another file has taken the name. Blocking.
    pub(super) fn look(&self) {
        let newest = self.newest();
        // Absent: renamed, and the next one is not there yet.
        let Ok(metadata) = fs::metadata(&self.path) else {
            return;
        };
        if FileId::of(&metadata) == newest.id {
            return;
        }
        let next = File::open(&self.path).and_then(|file| Generation::new(newest.number + 1, file));
        match next {
            Ok(next) => self.push(next),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "cannot open the next file of a log")
            }
        }
    }

    /// The writer of the file now called `name` has closed it. Blocking.
    pub(super) fn closed(&self, name: &Path) {
        let Ok(metadata) = fs::metadata(name) else { return };
        let id = FileId::of(&metadata);
        let state = self.state.borrow();
        let found = state.generations.iter().find(|g| g.id == id).cloned();
        drop(state);
        if let Some(generation) = found
            && generation.succeeded.get().is_some()
        {
            generation.sealed.store(true, Ordering::Release);
            self.wake();
        }
    }

    fn newest(&self) -> Arc<Generation> {
        self.state.borrow().newest().clone()
    }

    fn push(&self, next: Arc<Generation>) {
        self.state.send_if_modified(|state| {
            let newest = state.newest();
            // Somebody else was faster.
            if newest.id == next.id || newest.number >= next.number {
                return false;
            }
            let _ = newest.succeeded.set(Instant::now());
            state.generations.push_back(next);
            state.prune();
            true
        });
    }
}

// === impl State ===

impl State {
    fn newest(&self) -> &Arc<Generation> {
        &self.generations[self.generations.len() - 1]
    }

    fn enter(&mut self, number: u64) {
        *self.followers.entry(number).or_default() += 1;
    }

    fn leave(&mut self, number: u64) {
        if let Entry::Occupied(mut count) = self.followers.entry(number) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Lets go of what all followers have left, and of what is too old.
    fn prune(&mut self) {
        let last = self.followers.keys().next().copied().unwrap_or(u64::MAX);
        while self.generations.len() > 1
            && (self.generations.len() > MAX_KEPT || self.generations[0].number < last)
        {
            if let Some(old) = self.generations.pop_front() {
                old.give_up();
            }
        }
    }
}

// === impl Reel ===

impl Reel {
    /// At the file that is written to now.
    pub(super) fn new(tape: Arc<Tape>, hold: Hold) -> Self {
        let mut newest = None;
        // Nobody needs to know.
        tape.state.send_if_modified(|state| {
            let generation = state.newest().clone();
            state.enter(generation.number);
            newest = Some(generation);
            false
        });
        Self {
            generation: newest.unwrap_or_else(|| tape.newest()),
            news: tape.state.subscribe(),
            tape,
            hold,
        }
    }

    /// Nobody tells when something happens: look for yourself.
    pub(crate) fn is_unwatched(&self) -> bool {
        self.hold.unwatched
    }

    /// The file where the follower is.
    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// There is a file after this one.
    pub(crate) fn has_more(&self) -> bool {
        self.tape.newest().number > self.generation.number
    }

    /// Goes on to the next file, or to the oldest one that is left when that one is gone; stays when there is none.
    pub(crate) fn advance(&mut self) {
        let (here, mut next) = (self.generation.number, None);
        // Nobody needs to know.
        self.tape.state.send_if_modified(|state| {
            next = state.generations.iter().find(|g| g.number > here).cloned();
            if let Some(next) = &next {
                state.leave(here);
                state.enter(next.number);
                state.prune();
            }
            false
        });
        if let Some(next) = next {
            self.generation = next;
        }
    }

    /// What has happened so far is seen.
    pub(crate) fn mark(&mut self) {
        self.news.mark_unchanged();
    }

    /// Something has happened since [`Reel::mark`]. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        // The sender lives in the tape, which we hold.
        let _ = self.news.changed().await;
    }

    /// Finds out whether another file has taken the name, for when nobody tells.
    pub(crate) async fn look(&self) {
        let tape = self.tape.clone();
        // Only a shutdown cancels it.
        let _ = tokio::task::spawn_blocking(move || tape.look()).await;
    }
}

impl Drop for Reel {
    fn drop(&mut self) {
        // Nobody needs to know.
        self.tape.state.send_if_modified(|state| {
            state.leave(self.generation.number);
            state.prune();
            false
        });
    }
}
