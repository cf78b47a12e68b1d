//! The CNI plugin's program, put where the runtime looks for plugins.
//!
//! ```text
//! gantry-cni                 a copy of the one beside our own program
//! loopback -> gantry-cni     it is that plugin, too, by its name
//! .loopback.before-gantry    what was `loopback` before, if anything; put back by `remove`
//! ```
//!
//! Each change is one rename: a runtime that calls a plugin at that moment finds the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gantry_chassis::files::gone_is_fine;
use tracing::info;

const PLUGIN: &str = "gantry-cni";
const LOOPBACK: &str = "loopback";
const BEFORE: &str = ".loopback.before-gantry";
const EXECUTABLE: u32 = 0o755;

/// Why the plugin is not where it should be. Retry after a pause.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// We do not know where our own program is.
    #[error("cannot find this program's own directory, where {PLUGIN} should be")]
    Own(#[source] io::Error),
    /// It cannot be copied.
    #[error("cannot install CNI plugin {plugin} in {dir}")]
    Install {
        /// The file that is copied.
        plugin: PathBuf,
        /// Where plugins are.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be taken away.
    #[error("cannot remove CNI plugin {PLUGIN} from {dir}")]
    Remove {
        /// Where plugins are.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Makes the plugins in `dir` those of this version.
///
/// # Errors
/// When there is no plugin beside this program, or `dir` cannot be written.
pub fn install(dir: &Path) -> Result<(), BinaryError> {
    let own = std::env::current_exe().map_err(BinaryError::Own)?;
    install_from(&own.with_file_name(PLUGIN), dir)
}

fn install_from(plugin: &Path, dir: &Path) -> Result<(), BinaryError> {
    let failed = |source| BinaryError::Install {
        plugin: plugin.into(),
        dir: dir.into(),
        source,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let target = dir.join(PLUGIN);
    if !is_same(plugin, &target).map_err(failed)? {
        copy(plugin, &target).map_err(failed)?;
        info!(path = %target.display(), "CNI plugin installed");
    }
    if !is_ours(&dir.join(LOOPBACK)) {
        take_loopback(dir).map_err(failed)?;
        info!(path = %dir.join(LOOPBACK).display(), "CNI plugin installed");
    }
    Ok(())
}

/// Takes away what [`install`] put into `dir`, and puts back what was there before.
///
/// # Errors
/// When `dir` cannot be written.
pub fn remove(dir: &Path) -> Result<(), BinaryError> {
    let failed = |source| BinaryError::Remove {
        dir: dir.into(),
        source,
    };
    let loopback = dir.join(LOOPBACK);
    if is_ours(&loopback) {
        let put_back = fs::rename(dir.join(BEFORE), &loopback);
        match put_back {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::remove_file(&loopback).map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
    }
    gone_is_fine(fs::remove_file(dir.join(PLUGIN))).map_err(failed)
}

fn is_ours(loopback: &Path) -> bool {
    fs::read_link(loopback).is_ok_and(|target| target == Path::new(PLUGIN))
}

fn take_loopback(dir: &Path) -> io::Result<()> {
    let (loopback, before, new) = (
        dir.join(LOOPBACK),
        dir.join(BEFORE),
        dir.join(format!(".{LOOPBACK}.new")),
    );
    gone_is_fine(fs::remove_file(&before))?;
    match fs::hard_link(&loopback, &before) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    gone_is_fine(fs::remove_file(&new))?;
    symlink(PLUGIN, &new)?;
    fs::rename(new, loopback)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let new = to.with_file_name(format!(".{PLUGIN}.new"));
    let mut file = File::create(&new)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(EXECUTABLE))?;
    file.sync_all()?;
    drop(file);
    fs::rename(new, to)
}

/// The same content, and one that can be executed.
fn is_same(wanted: &Path, present: &Path) -> io::Result<bool> {
    let mut wanted = File::open(wanted)?;
    let mut present = match File::open(present) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let metadata = present.metadata()?;
    if metadata.permissions().mode() & EXECUTABLE != EXECUTABLE || metadata.len() != wanted.metadata()?.len()
    {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = wanted.read(&mut a)?;
        if count == 0 {
            return Ok(true);
        }
        if present.read_exact(&mut b[..count]).is_err() || a[..count] != b[..count] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dirs {
        _root: tempfile::TempDir,
        plugin: PathBuf,
        bin: PathBuf,
    }

    fn dirs(content: &str) -> Dirs {
        let root = tempfile::tempdir().expect("a directory");
        let (plugin, bin) = (root.path().join("built"), root.path().join("opt/cni/bin"));
        fs::write(&plugin, content).expect("written");
        Dirs {
            _root: root,
            plugin,
            bin,
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_empty_directory_gets_both_plugins_and_loses_them() {
        let dirs = dirs("one");
        install_from(&dirs.plugin, &dirs.bin).expect("installed");
        assert_eq!(names(&dirs.bin), ["gantry-cni", "loopback"]);
        let loopback = dirs.bin.join(LOOPBACK);
        assert_eq!(fs::read_to_string(&loopback).expect("readable"), "one");
        let mode = fs::metadata(&loopback).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        remove(&dirs.bin).expect("removed");
        assert_eq!(names(&dirs.bin), [""; 0]);
        remove(&dirs.bin).expect("nothing left to remove");
    }

    #[test]
    fn another_loopback_is_put_back() {
        let dirs = dirs("ours");
        fs::create_dir_all(&dirs.bin).expect("made");
        let loopback = dirs.bin.join(LOOPBACK);
        fs::write(&loopback, "theirs").expect("written");
        for _ in 0..2 {
            install_from(&dirs.plugin, &dirs.bin).expect("installed");
            assert_eq!(fs::read_to_string(&loopback).expect("readable"), "ours");
        }
        remove(&dirs.bin).expect("removed");
        assert_eq!(names(&dirs.bin), ["loopback"]);
        assert_eq!(fs::read_to_string(&loopback).expect("readable"), "theirs");
    }

    #[test]
    fn only_another_version_replaces_the_file() {
        let dirs = dirs("one");
        let inode =
            || std::os::unix::fs::MetadataExt::ino(&fs::metadata(dirs.bin.join(PLUGIN)).expect("there"));
        install_from(&dirs.plugin, &dirs.bin).expect("installed");
        let first = inode();
        install_from(&dirs.plugin, &dirs.bin).expect("the same");
        assert_eq!(inode(), first);
        fs::write(&dirs.plugin, "two").expect("written");
        install_from(&dirs.plugin, &dirs.bin).expect("upgraded");
        assert_ne!(inode(), first);
        assert_eq!(
            fs::read_to_string(dirs.bin.join(LOOPBACK)).expect("readable"),
            "two"
        );
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let dirs = dirs("one");
        let missing = dirs.plugin.with_file_name("missing");
        let error = install_from(&missing, &dirs.bin).expect_err("nothing to install");
        assert!(error.to_string().contains("missing"), "{error}");
        fs::write(dirs.bin.with_file_name("file"), "").expect("written");
        let error = install_from(&dirs.plugin, &dirs.bin.with_file_name("file")).expect_err("no directory");
        assert!(error.to_string().contains("opt/cni/file"), "{error}");
    }
}
