//! Room to read the kernel's files into.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;

/// Room to read files into, used again and again.
#[derive(Debug)]
pub(super) struct Scratch(Vec<u8>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; 64 * 1024])
    }
}

impl Scratch {
    /// A file from its beginning; in several pieces, as lists of processes come.
    pub(super) fn read(&mut self, file: &OwnedFd) -> Result<&[u8], Errno> {
        let mut end = 0;
        loop {
            if end == self.0.len() {
                self.0.resize(end * 2, 0);
            }
            let offset = u64::try_from(end).unwrap_or(u64::MAX);
            match rustix::io::pread(file, &mut self.0[end..], offset)? {
                0 => return Ok(&self.0[..end]),
                read => end += read,
            }
        }
    }

    /// A file that comes in one piece.
    pub(super) fn read_once(&mut self, file: &OwnedFd) -> Result<&[u8], Errno> {
        let read = rustix::io::pread(file, &mut self.0[..], 0)?;
        Ok(&self.0[..read])
    }

    /// A file by its path.
    pub(super) fn read_path(&mut self, path: &Path) -> Option<&[u8]> {
        let file = File::open(path).ok()?;
        self.read(&file.into()).ok()
    }
}
