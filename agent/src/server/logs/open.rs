//! The beginning: finds the file, and the place in it where the reader wants to start. Blocking.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_agent_core::logs::{Printer, Show, quote, tail::Tail};
use thiserror::Error;

use super::place::{Place, Source};
use crate::logs::{Reel, Tapes};

const BLOCK: usize = 64 * 1024;

/// There is nothing to read. The texts are the reference's: users see them as the log.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    #[error("unable to retrieve container logs for {0}")]
    Unknown(String),
    #[error("failed to try resolving symlinks in path {path}: lstat {missing}: {why}")]
    Resolve {
        path: String,
        missing: String,
        why: String,
    },
    #[error("failed to open log file {path}: open {plain}: {why}")]
    Open {
        path: String,
        plain: String,
        why: String,
    },
    #[error("failed to tail {lines} lines of log file {path}: {why}")]
    Tail { lines: u64, path: String, why: String },
}

/// How a log is opened.
pub(super) struct Opening {
    pub(super) path: PathBuf,
    pub(super) show: Show,
    pub(super) tail: Option<u64>,
}

/// The file with its symbolic links followed.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    path.canonicalize().map_err(|error| {
        let mut parents: Vec<&Path> = path.ancestors().collect();
        parents.reverse();
        let missing = parents.into_iter().find(|parent| !parent.exists());
        OpenError::Resolve {
            path: quoted(path),
            missing: missing.unwrap_or(path).display().to_string(),
            why: words(&error),
        }
    })
}

impl Opening {
    /// For a reader of what there is.
    pub(super) fn once(self) -> Result<Place, OpenError> {
        let path = resolve(&self.path)?;
        let file = File::open(&path).map_err(|error| not_opened(&path, &error))?;
        self.place(Source::File(Arc::new(file)), &path)
    }

    /// For a reader that stays.
    pub(super) fn follow(self, tapes: &Tapes) -> Result<(Place, Reel), OpenError> {
        let path = resolve(&self.path)?;
        let reel = tapes.follow(&path).map_err(|error| not_opened(&path, &error))?;
        let place = self.place(Source::Followed(reel.generation().clone()), &path)?;
        Ok((place, reel))
    }

    fn place(self, source: Source, path: &Path) -> Result<Place, OpenError> {
        let file = match &source {
            Source::File(file) => Some(file.clone()),
            Source::Followed(generation) => generation.file(),
        };
        let offset = match (self.tail, file) {
            (Some(lines), Some(file)) => start(&file, lines).map_err(|error| OpenError::Tail {
                lines,
                path: quoted(path),
                why: words(&error),
            })?,
            (None, _) | (_, None) => 0,
        };
        Ok(Place::new(source, offset, Printer::new(&self.show)))
    }
}

/// Where the last lines begin.
fn start(file: &File, lines: u64) -> io::Result<u64> {
    let mut tail = Tail::new(lines);
    let mut block = vec![0; BLOCK];
    let mut right = file.metadata()?.len();
    while right > 0 {
        let left = right.saturating_sub(BLOCK as u64);
        let length = usize::try_from(right - left).unwrap_or(BLOCK);
        let block = &mut block[..length];
        file.read_exact_at(block, left)?;
        if let Some(at) = tail.back(block) {
            return Ok(left + at as u64);
        }
        right = left;
    }
    Ok(0)
}

fn not_opened(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Open {
        path: quoted(path),
        plain: path.display().to_string(),
        why: words(error),
    }
}

fn quoted(path: &Path) -> String {
    quote(path.as_os_str().as_encoded_bytes())
}

/// As the C library says it, in lower case.
fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    }
}
