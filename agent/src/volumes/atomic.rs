//! Writes the files of a volume so that a reader sees all of the old or all of the new ones.
//!
//! ```text
//! <volume>/..2026_11_21_08_00_00.1234567/{ca.crt,dir/token}    the files
//! <volume>/..data   -> ..2026_11_21_08_00_00.1234567           swapped by rename
//! <volume>/ca.crt   -> ..data/ca.crt                           what the container sees
//! <volume>/dir      -> ..data/dir
//! ```
//!
//! Behaviour of `pkg/volume/util/atomic_writer.go`: nothing is written when nothing changed, missing links are made
//! again, names that are gone lose their link. The volume is mounted read-only in containers.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use gantry_agent_core::volumes::payload::{File, Payload};
use gantry_chassis::files::gone_is_fine;
use jiff::Timestamp;

use super::removal::remove_tree;

/// The link to the current files.
pub(super) const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the files of `volume` those of `payload`. `prepare` gets the ownership right before the new files are shown.
/// Answers whether anything was written.
pub(super) fn write(
    volume: &Path,
    payload: &Payload,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    let old = match fs::read_link(volume.join(DATA)) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let current = old.as_deref().map(|old| volume.join(old));
    let known = current.as_deref().map(files_of).transpose()?.unwrap_or_default();
    let unchanged = current
        .as_deref()
        .is_some_and(|dir| is_same(dir, &known, payload));
    if !unchanged {
        publish(volume, payload, prepare)?;
    }
    link(volume, payload)?;
    if unchanged {
        return Ok(false);
    }
    unlink(volume, &known, payload)?;
    if let Some(old) = old {
        remove(volume, &old)?;
    }
    Ok(true)
}

/// Writes the files to a new directory and swaps the link to it. Leaves nothing behind when it fails.
fn publish(
    volume: &Path,
    payload: &Payload,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let name = new_dir(volume)?;
    let shown = fill(&volume.join(&name), payload)
        .and_then(|()| prepare(volume))
        .and_then(|()| {
            let fresh = volume.join(NEW_DATA);
            gone_is_fine(fs::remove_file(&fresh))?;
            symlink(&name, &fresh)?;
            fs::rename(&fresh, volume.join(DATA))
        });
    if shown.is_err() {
        // The first error is the one to tell.
        let _ = remove(volume, &name);
    }
    shown
}

/// A directory that nobody else has: the time, and a number that is tried until it is free.
fn new_dir(volume: &Path) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    loop {
        let name = PathBuf::from(format!("{stamp}.{}", rand::random::<u32>()));
        match fs::create_dir(volume.join(&name)) {
            Ok(()) => {
                // The umask is not asked.
                fs::set_permissions(volume.join(&name), Permissions::from_mode(0o755))?;
                return Ok(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn fill(dir: &Path, payload: &Payload) -> io::Result<()> {
    for (name, File { data, mode, user }) in payload {
        let path = dir.join(name);
        if let Some(parent) = Path::new(name)
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fs::create_dir_all(dir.join(parent))?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(data)?;
        file.set_permissions(Permissions::from_mode(*mode))?;
        if let Some(user) = user {
            lchown(&path, Some(*user), None)?;
        }
    }
    Ok(())
}

/// The relative paths of all files in `dir`; nothing when it is missing.
fn files_of(dir: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let entries = match fs::read_dir(dir.join(&relative)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

fn is_same(dir: &Path, known: &BTreeSet<PathBuf>, payload: &Payload) -> bool {
    known.len() == payload.len()
        && payload.iter().all(|(name, file)| {
            known.contains(Path::new(name)) && fs::read(dir.join(name)).is_ok_and(|bytes| bytes == file.data)
        })
}

/// Makes the links that containers use, where they are missing. They stay root's, unlike the files: in a directory that
/// everybody may write to, the kernel lets only its owner follow a link of somebody else (`fs.protected_symlinks`).
fn link(volume: &Path, payload: &Payload) -> io::Result<()> {
    let tops: BTreeSet<&str> = payload.keys().map(|name| first_element(name)).collect();
    for top in tops {
        match symlink(Path::new(DATA).join(top), volume.join(top)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Removes the links of names that are gone.
fn unlink(volume: &Path, known: &BTreeSet<PathBuf>, payload: &Payload) -> io::Result<()> {
    let kept: BTreeSet<&str> = payload.keys().map(|name| first_element(name)).collect();
    let tops: BTreeSet<&Path> = known
        .iter()
        .filter_map(|path| path.iter().next())
        .map(Path::new)
        .collect();
    for top in tops
        .into_iter()
        .filter(|top| !top.to_str().is_some_and(|top| kept.contains(top)))
    {
        gone_is_fine(fs::remove_file(volume.join(top)))?;
    }
    Ok(())
}

fn first_element(name: &str) -> &str {
    name.split_once('/').map_or(name, |(top, _)| top)
}

/// Removes a directory of files. Only names that this module makes are taken: the link could hold anything.
fn remove(volume: &Path, name: &Path) -> io::Result<()> {
    let single = name.components().count() == 1 && name.as_os_str().as_bytes().starts_with(b"..2");
    if !single {
        return Ok(());
    }
    let name = CString::new(name.as_os_str().as_bytes())?;
    let dir = fs::File::open(volume)?;
    remove_tree(dir.as_fd(), &name).map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
