//! A place in a log file: reads a block from there and says what of it is to be seen.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use bytes::Bytes;
use gantry_agent_core::logs::{Printer, Unsupported, print::BLOCK};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use thiserror::Error;

use crate::logs::Generation;

thread_local! {
    /// What is read lies here until it is printed, within one call: thousands of readers need no buffer of their own.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The file.
#[derive(Clone)]
pub(super) enum Source {
    /// Whatever happens to its name.
    File(Arc<File>),
    /// One of a followed log, which may be given up.
    Followed(Arc<Generation>),
}

/// A place in a file, and the printer that stands there.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) source: Source,
    pub(super) offset: u64,
    pub(super) printer: Printer,
}

/// What a step has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something to be seen.
    Text(Bytes),
    /// Nothing of what was read is to be seen; there may be more.
    Nothing,
    /// The end of the file, as of now.
    End,
    /// The reader has all that it wants.
    Done,
    /// The file has been given up: it is too old.
    Lost,
    /// The disk must be waited for. Only without leave to block.
    Wait,
}

/// The log cannot be read on. The text is the last that the reader sees.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("failed to read log file: {0}")]
    Io(String),
    #[error(transparent)]
    Format(#[from] Unsupported),
}

/// May a call wait for the disk?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocking {
    Yes,
    No,
}

impl Place {
    pub(super) fn new(source: Source, offset: u64, printer: Printer) -> Self {
        Self {
            source,
            offset,
            printer,
        }
    }

    /// Reads and prints one block.
    pub(super) fn step(&mut self, blocking: Blocking) -> Result<Step, ReadError> {
        if self.printer.is_done() {
            return Ok(Step::Done);
        }
        let Some(file) = self.file() else {
            return Ok(Step::Lost);
        };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(BLOCK, 0);
            let length = match read(&file, scratch, self.offset, blocking) {
                Ok(length) => length,
                Err(error) if blocking == Blocking::No && must_wait(&error) => return Ok(Step::Wait),
                Err(error) => return Err(io_error(&error)),
            };
            let mut out = Vec::with_capacity(length + length / 8);
            let used = self.printer.feed(&scratch[..length], &mut out)?;
            self.offset += used as u64;
            Ok(match (used, length, blocking) {
                (0, 0, _) => self.end(&file)?,
                // A line without an end, or one whose end is still on the disk.
                (0, _, Blocking::No) => Step::Wait,
                (0, _, Blocking::Yes) => Step::End,
                _ if out.is_empty() => Step::Nothing,
                _ => Step::Text(bytes(out)),
            })
        })
    }

    /// At the end of a file that will not grow any more: a last line without an end.
    pub(super) fn rest(&mut self) -> Result<Bytes, ReadError> {
        let mut out = Vec::new();
        let mut pending = vec![0; BLOCK];
        let length = match self.file() {
            Some(file) => read(&file, &mut pending, self.offset, Blocking::Yes).map_err(|e| io_error(&e))?,
            None => 0,
        };
        self.offset += length as u64;
        self.printer.finish(&pending[..length], &mut out)?;
        Ok(bytes(out))
    }

    /// Goes on at the beginning of another file.
    pub(super) fn move_to(&mut self, source: Source) {
        self.source = source;
        self.offset = 0;
    }

    fn file(&self) -> Option<Arc<File>> {
        match &self.source {
            Source::File(file) => Some(file.clone()),
            Source::Followed(generation) => generation.file(),
        }
    }

    /// Somebody may have cut the file instead of renaming it; then it begins anew.
    fn end(&mut self, file: &File) -> Result<Step, ReadError> {
        let length = file.metadata().map_err(|e| io_error(&e))?.len();
        if length >= self.offset {
            return Ok(Step::End);
        }
        self.offset = 0;
        self.printer.finish(b"", &mut Vec::new())?;
        Ok(Step::Nothing)
    }
}

/// A read that does not block may bring less than there is.
fn read(file: &File, buffer: &mut [u8], offset: u64, blocking: Blocking) -> io::Result<usize> {
    match blocking {
        Blocking::Yes => file.read_at(buffer, offset),
        Blocking::No => Ok(preadv2(
            file,
            &mut [IoSliceMut::new(buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        )?),
    }
}

/// The page is not in memory, or this file system does not tell.
fn must_wait(error: &io::Error) -> bool {
    [Errno::AGAIN, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn io_error(error: &io::Error) -> ReadError {
    ReadError::Io(error.to_string())
}

/// Room that is not used is given back when it is most of it.
fn bytes(mut out: Vec<u8>) -> Bytes {
    if out.len() < out.capacity() / 2 {
        out.shrink_to_fit();
    }
    out.into()
}
