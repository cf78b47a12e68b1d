//! Logs that pods left behind which are gone: their directories, and links to logs that are no more. Blocking.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use gantry_chassis::files::gone_is_fine;

use super::removal::names;

/// Where logs are.
#[derive(Debug, Clone)]
pub(crate) struct LogFolders {
    /// `podLogsDir`: a directory for each pod.
    pub(crate) pods: PathBuf,
    /// A link to each container's log.
    pub(crate) links: PathBuf,
}

impl LogFolders {
    /// The directories of pods that are not among `known`.
    ///
    /// # Errors
    /// When the directories cannot be listed.
    pub(crate) fn left(&self, known: &HashSet<String>) -> io::Result<Vec<PathBuf>> {
        let of_stranger = |name: &String| uid_of(name).is_some_and(|uid| !known.contains(uid));
        listed(&self.pods, of_stranger)
    }

    /// Links to logs that are gone, but for those of `living` containers: rotation takes a log away for a moment.
    ///
    /// # Errors
    /// When the links cannot be listed.
    pub(crate) fn dead_links(&self, living: &HashSet<String>) -> io::Result<Vec<PathBuf>> {
        let is_dead = |name: &String| {
            let link = self.links.join(name);
            let missing = |path: &Path| {
                path.metadata()
                    .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
            };
            container_of(name).is_some_and(|id| !living.contains(id)) && link.is_symlink() && missing(&link)
        };
        listed(&self.links, is_dead)
    }
}

/// Removes what was found; goes on after an error and answers the first.
///
/// # Errors
/// When something is still there.
pub(crate) fn remove_all(directories: &[PathBuf], links: &[PathBuf]) -> io::Result<()> {
    let directories = directories
        .iter()
        .map(|path| gone_is_fine(fs::remove_dir_all(path)));
    let links = links.iter().map(|path| gone_is_fine(fs::remove_file(path)));
    let mut result = Ok(());
    for one in directories.chain(links) {
        result = result.and(one);
    }
    result
}

/// The entries of a folder that is perhaps not there.
fn listed(folder: &Path, wanted: impl Fn(&String) -> bool) -> io::Result<Vec<PathBuf>> {
    let names = match names(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    Ok(names
        .iter()
        .filter(|name| wanted(name))
        .map(|name| folder.join(name))
        .collect())
}

/// Of a directory `<namespace>_<pod>_<uid>`; nothing else is a pod's.
fn uid_of(name: &str) -> Option<&str> {
    let mut parts = name.split('_');
    let parts = [
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next().unwrap_or_default(),
    ];
    match parts {
        [namespace, pod, uid, ""] if ![namespace, pod, uid].contains(&"") => Some(uid),
        _ => None,
    }
}

/// Of a link `<pod>_<namespace>_<container>-<id>.log`.
fn container_of(name: &str) -> Option<&str> {
    Some(name.strip_suffix(".log")?.rsplit_once('-')?.1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn folders(dir: &Path) -> LogFolders {
        let folders = LogFolders {
            pods: dir.join("pods"),
            links: dir.join("containers"),
        };
        fs::create_dir(&folders.pods).unwrap();
        fs::create_dir(&folders.links).unwrap();
        folders
    }

    fn set(names: &[&str]) -> HashSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn only_directories_of_pods_that_are_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders(dir.path());
        for name in ["ns_p_1", "ns_p_2", "lost+found", "ns_p_", "a_b_c_d", "_p_3"] {
            fs::create_dir_all(folders.pods.join(name).join("c")).unwrap();
            fs::write(folders.pods.join(name).join("c/0.log"), "x").unwrap();
        }
        let left = folders.left(&set(&["1"])).unwrap();
        assert_eq!(left, [folders.pods.join("ns_p_2")]);
        remove_all(&left, &[]).unwrap();
        remove_all(&left, &[]).unwrap();
        assert!(!left[0].exists() && folders.pods.join("ns_p_1/c/0.log").exists());
        assert!(folders.left(&set(&["1"])).unwrap().is_empty());
    }

    #[test]
    fn only_links_whose_log_and_container_are_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folders = folders(dir.path());
        let (log, gone) = (dir.path().join("log"), dir.path().join("gone"));
        fs::write(&log, "x").unwrap();
        fs::write(folders.links.join("p_ns_file-9.log"), "x").unwrap();
        for (name, to) in [
            ("p_ns_there-1.log", &log),
            ("p_ns_rotating-2.log", &gone),
            ("p_ns_dead-3.log", &gone),
            ("somebody's", &gone),
        ] {
            symlink(to, folders.links.join(name)).unwrap();
        }
        let dead = folders.dead_links(&set(&["2"])).unwrap();
        assert_eq!(dead, [folders.links.join("p_ns_dead-3.log")]);
        remove_all(&[], &dead).unwrap();
        assert!(!dead[0].is_symlink() && folders.links.join("p_ns_rotating-2.log").is_symlink());
    }

    #[test]
    fn folders_that_are_not_there_hold_nothing() {
        let folders = LogFolders {
            pods: "/nowhere/pods".into(),
            links: "/nowhere/containers".into(),
        };
        assert!(folders.left(&HashSet::new()).unwrap().is_empty());
        assert!(folders.dead_links(&HashSet::new()).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_name_is_a_pods_or_not(name: String) {
            if let Some(uid) = uid_of(&name) {
                prop_assert!(!uid.is_empty() && name.ends_with(uid));
            }
            if let Some(id) = container_of(&name) {
                prop_assert!(!id.contains('-') && name.ends_with(".log"));
            }
        }
    }
}
