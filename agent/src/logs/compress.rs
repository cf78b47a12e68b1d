//! Compression of a rotated log, as gzip beside it. Blocking.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use gantry_agent_core::logs::rotation::{COMPRESSED, TEMPORARY};

const BUFFER: usize = 128 * 1024;

/// Replaces `log` by `log.gz`. The name appears when the file is whole.
pub(super) fn compress(log: &Path) -> io::Result<()> {
    let temporary = with_suffix(log, &format!("{COMPRESSED}{TEMPORARY}"));
    let whole = write(log, &temporary).and_then(|()| fs::rename(&temporary, with_suffix(log, COMPRESSED)));
    if whole.is_err() {
        // What stays is removed before the next rotation.
        let _ = fs::remove_file(&temporary);
    }
    whole?;
    fs::remove_file(log)
}

fn write(log: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(log)?;
    let mode = from.metadata()?.permissions().mode();
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(to)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut BufReader::with_capacity(BUFFER, from), &mut encoder)?;
    encoder.finish().map(drop)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
