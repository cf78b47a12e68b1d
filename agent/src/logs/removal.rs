//! Removal of what is left of a container's log. Blocking.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gantry_chassis::files::gone_is_fine;

/// Removes the log at `path`, its rotated files, and the link `link` to it. What is gone already is fine.
///
/// # Errors
/// When something could not be removed.
pub(crate) fn remove(path: &Path, link: &Path) -> io::Result<()> {
    gone_is_fine(fs::remove_file(link))?;
    for file in files(path)? {
        gone_is_fine(fs::remove_file(file))?;
    }
    Ok(())
}

/// The log and its rotated files, in no order.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(log)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let names = match names(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let ours = |name: &String| {
        name.strip_prefix(log)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    Ok(names
        .iter()
        .filter(|name| ours(name))
        .map(|name| folder.join(name))
        .collect())
}

/// The names in a directory; those that are no text are left out, no log has one.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
    entries.filter_map(|entry| name(entry).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_of_the_log_go_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        for name in [
            "1.log",
            "1.log.20260101-000000",
            "1.log.20260101-000000.gz",
            "11.log",
            "2.log",
        ] {
            fs::write(of(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(of("1.log"), of("link")).unwrap();
        remove(&of("1.log"), &of("link")).unwrap();
        remove(&of("1.log"), &of("link")).unwrap();
        let mut left = names(dir.path()).unwrap();
        left.sort();
        assert_eq!(left, ["11.log", "2.log"]);
        remove(&of("gone/1.log"), &of("link")).unwrap();
    }
}
