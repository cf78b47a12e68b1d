//! Things made of files that others replace: certificates, keys, authorities.
//!
//! Whoever needs the thing asks for it; the files are looked at again when the last look is a second old, and read
//! again when their time, size or inode has changed. What cannot be used is named in the log, and the thing stays what
//! it was.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{info, warn};

/// Between two looks at the files. The reference looks each minute.
const LOOK: Duration = Duration::from_secs(1);

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {files}: {reason}")]
pub(crate) struct LoadError {
    files: String,
    reason: String,
}

type Parse<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

/// A thing made of files.
pub(super) struct Reloading<T> {
    files: Vec<PathBuf>,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Option<T>,
    /// What the files looked like when they were read.
    print: Vec<Option<Print>>,
    looked: Option<Instant>,
}

/// Modification time, size, inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print(i64, i64, u64, u64);

impl<T: Clone> Reloading<T> {
    /// Reads the files; `parse` gets their contents in the same order.
    ///
    /// # Errors
    /// When that does not work now.
    pub(super) fn new(
        files: &[&Path],
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, LoadError> {
        let this = Self::later(files, parse);
        let value = this.read()?;
        {
            let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.value = Some(value);
            state.looked = Some(Instant::now());
            state.print = this.print();
        }
        Ok(this)
    }

    /// The files may come later.
    pub(super) fn later(
        files: &[&Path],
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        let state = State {
            value: None,
            print: Vec::new(),
            looked: None,
        };
        Self {
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            parse: Box::new(parse),
            state: Mutex::new(state),
        }
    }

    /// The thing as of now; `None` while the files have never been usable.
    pub(super) fn current(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return state.value.clone();
        }
        state.looked = Some(Instant::now());
        let print = self.print();
        if print != state.print && print.iter().all(Option::is_some) {
            match self.read() {
                Ok(value) => {
                    info!(files = self.names(), "read again");
                    state.value = Some(value);
                }
                Err(error) => warn!(%error, "what was read before stays in use"),
            }
            state.print = print;
        }
        state.value.clone()
    }

    fn read(&self) -> Result<T, LoadError> {
        let failed = |reason: String| LoadError {
            files: self.names(),
            reason,
        };
        let contents: Result<Vec<_>, io::Error> = self.files.iter().map(fs::read).collect();
        let contents = contents.map_err(|error| failed(error.to_string()))?;
        (self.parse)(&contents).map_err(failed)
    }

    fn print(&self) -> Vec<Option<Print>> {
        let print = |file: &PathBuf| {
            let metadata = fs::metadata(file).ok()?;
            Some(Print(
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.size(),
                metadata.ino(),
            ))
        };
        self.files.iter().map(print).collect()
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        names.join(", ")
    }

    /// The next question looks at the files.
    #[cfg(test)]
    pub(super) fn look_again(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).looked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Vec<u8>]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(&contents[0]);
        text.parse().map_err(|_| format!("{text:?} is no number"))
    }

    #[test]
    fn follows_its_file_and_survives_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n");
        assert!(Reloading::new(&[&file], number).is_err());
        let thing = Reloading::later(&[&file], number);
        assert_eq!(thing.current(), None);
        for (text, seen) in [("1", 1), ("23", 23), ("rubbish", 23), ("4567", 4567)] {
            fs::write(&file, text).unwrap();
            thing.look_again();
            assert_eq!(thing.current(), Some(seen));
        }
        fs::remove_file(&file).unwrap();
        thing.look_again();
        assert_eq!(thing.current(), Some(4567));
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n");
        fs::write(&file, "x").unwrap();
        let error = Reloading::new(&[&file], number).err().unwrap().to_string();
        assert!(error.contains("is no number") && error.contains("/n"), "{error}");
    }
}
