//! Where cgroups are: one tree (version 2), or a tree for each controller (version 1, also beside a version 2 tree
//! without controllers).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_agent_core::resources::CgroupValues;
use rustix::process::{Pid, Signal, kill_process};

use super::CgroupError;
use super::values::{self, Setting};

/// Controllers that pods need or may need; those that the kernel has are switched on.
const WANTED: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
/// Without these no pod can be limited.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// The node's cgroup file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One tree.
    V2 {
        /// `/sys/fs/cgroup`.
        mount: PathBuf,
    },
    /// A tree for each controller.
    V1 {
        /// By controller; `name=systemd` and a version 2 tree beside (`unified`) too: the runtime makes cgroups there.
        mounts: BTreeMap<String, PathBuf>,
    },
}

impl Layout {
    /// Looks at what is mounted.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read or names no cgroups.
    pub(crate) fn detect() -> io::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Self::parse(&table)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted"))
    }

    /// From the lines of mountinfo, proc(5): `... mount-point options ... - fstype source super-options`.
    fn parse(table: &str) -> Option<Self> {
        let mut mounts: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut unified: Option<PathBuf> = None;
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") if unified.is_none() => unified = Some(point),
                Some("cgroup") => {
                    for option in right.nth(1).unwrap_or_default().split(',') {
                        if is_controller(option) {
                            let shorter = mounts
                                .get(option)
                                .is_none_or(|old| old.as_os_str().len() > point.as_os_str().len());
                            if shorter {
                                mounts.insert(option.to_owned(), point.clone());
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        // A hybrid host has controllers in version 1 trees.
        if mounts.contains_key("cpu") || mounts.contains_key("memory") {
            mounts.extend(unified.map(|mount| ("unified".to_owned(), mount)));
            return Some(Self::V1 { mounts });
        }
        unified.map(|mount| Self::V2 { mount })
    }

    pub(crate) fn is_v2(&self) -> bool {
        match self {
            Self::V2 { .. } => true,
            Self::V1 { .. } => false,
        }
    }

    /// The trees, once each.
    fn trees(&self) -> BTreeSet<&PathBuf> {
        match self {
            Self::V2 { mount } => [mount].into(),
            Self::V1 { mounts } => mounts.values().collect(),
        }
    }

    fn tree(&self, controller: &str) -> Option<&PathBuf> {
        match self {
            Self::V2 { mount } => Some(mount),
            Self::V1 { mounts } => mounts.get(controller),
        }
    }

    /// The cgroup's folder in the tree of a controller; version 2 has one tree for all.
    pub(crate) fn folder(&self, controller: &str, path: &str) -> Option<PathBuf> {
        self.tree(controller).map(|tree| below(tree, path))
    }

    /// The cgroup's folders, one in each tree.
    pub(crate) fn folders(&self, path: &str) -> Vec<PathBuf> {
        self.trees().into_iter().map(|tree| below(tree, path)).collect()
    }

    /// It is there in some tree.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.trees().into_iter().any(|tree| below(tree, path).is_dir())
    }

    /// The names of the cgroups right below `path`.
    pub(super) fn children(&self, path: &str) -> Vec<String> {
        let entries = |tree: &PathBuf| fs::read_dir(below(tree, path)).into_iter().flatten().flatten();
        let folders = self
            .trees()
            .into_iter()
            .flat_map(entries)
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Makes the cgroup and those above it, with the controllers that the kernel has.
    pub(super) fn create(&self, path: &str) -> Result<(), CgroupError> {
        match self {
            Self::V2 { mount } => create_v2(mount, path),
            Self::V1 { mounts } => {
                for tree in self.trees() {
                    create_v1(tree, path, mounts.get("cpuset") == Some(tree))?;
                }
                Ok(())
            }
        }
    }

    /// Writes values; those of a controller that the kernel lacks are left out.
    pub(super) fn set(&self, path: &str, values: &CgroupValues) -> Result<(), CgroupError> {
        let settings = if self.is_v2() {
            values::v2(values)
        } else {
            values::v1(values)
        };
        for Setting {
            controller,
            file,
            value,
        } in settings
        {
            let Some(file) = self.tree(controller).map(|tree| below(tree, path).join(file)) else {
                continue;
            };
            if controller == "hugetlb" && !file.exists() {
                continue;
            }
            write(&file, &value)?;
        }
        Ok(())
    }

    /// One attempt to remove the cgroup and those below it, killing what runs in them; false while processes are
    /// going.
    pub(super) fn remove(&self, path: &str) -> Result<bool, CgroupError> {
        let mut gone = true;
        for tree in self.trees() {
            let folder = below(tree, path);
            let removed = remove_tree(&folder);
            gone &= removed.map_err(|source| CgroupError::Io {
                what: "remove cgroup",
                path: folder,
                source,
            })?;
        }
        Ok(gone)
    }
}

fn is_controller(option: &str) -> bool {
    const KNOWN: [&str; 14] = [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "debug",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
    ];
    KNOWN.contains(&option) || option == "name=systemd"
}

fn below(tree: &Path, path: &str) -> PathBuf {
    tree.join(path.trim_start_matches('/'))
}

/// Each folder from below the tree's root down to `path`.
fn levels(tree: &Path, path: &str) -> Vec<PathBuf> {
    let mut at = tree.to_owned();
    let elements = path.split('/').filter(|element| !element.is_empty());
    elements
        .map(|element| {
            at.push(element);
            at.clone()
        })
        .collect()
}

/// True when it was made, false when it was there.
fn make(folder: &Path) -> Result<bool, CgroupError> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(CgroupError::Io {
            what: "make cgroup",
            path: folder.to_owned(),
            source,
        }),
    }
}

fn create_v1(tree: &Path, path: &str, is_cpuset: bool) -> Result<(), CgroupError> {
    let mut parent = tree.to_owned();
    for folder in levels(tree, path) {
        make(&folder)?;
        if is_cpuset {
            inherit_cpuset(&parent, &folder)?;
        }
        parent = folder;
    }
    Ok(())
}

/// A new version 1 cpuset is empty, and nothing can run in it before it has CPUs and memory nodes.
fn inherit_cpuset(parent: &Path, folder: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = folder.join(name);
        if read(&file)?.trim().is_empty() {
            let value = read(&parent.join(name))?;
            write(&file, value.trim())?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(file).map_err(|source| CgroupError::Io {
        what: "read",
        path: file.to_owned(),
        source,
    })
}

fn write(file: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(file, value).map_err(|source| CgroupError::Io {
        what: "write",
        path: file.to_owned(),
        source,
    })
}

fn create_v2(mount: &Path, path: &str) -> Result<(), CgroupError> {
    let available = controllers(mount);
    let mut parent = mount.to_owned();
    let mut last = mount.to_owned();
    for folder in levels(mount, path) {
        switch_on(&parent, &available);
        make(&folder)?;
        last.clone_from(&folder);
        parent = folder;
    }
    let present = controllers(&last);
    let missing = NEEDED
        .iter()
        .filter(|c| available.contains(**c) && !present.contains(**c));
    let missing: Vec<String> = missing.map(|c| (*c).to_owned()).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(CgroupError::Controllers { path: last, missing })
    }
}

fn controllers(folder: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Offers controllers to the cgroups below. One that cannot be is noticed at the end, where it is missing.
fn switch_on(folder: &Path, available: &BTreeSet<String>) {
    let file = folder.join("cgroup.subtree_control");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let on: Vec<&str> = text.split_whitespace().collect();
    for controller in WANTED
        .iter()
        .filter(|c| available.contains(**c) && !on.contains(*c))
    {
        if let Err(error) = fs::write(&file, format!("+{controller}")) {
            tracing::debug!(%error, controller, cgroup = %folder.display(), "cannot switch a controller on");
        }
    }
}

/// Depth first. False: a process is still going.
fn remove_tree(folder: &Path) -> io::Result<bool> {
    match remove_one(folder) {
        Ok(true) => return Ok(true),
        Ok(false) => {}
        Err(error) => return Err(error),
    }
    let mut empty = true;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty &= remove_tree(&entry.path())?;
        }
    }
    kill_all(folder)?;
    Ok(empty && remove_one(folder)?)
}

/// True when it is gone, false when it is busy.
fn remove_one(folder: &Path) -> io::Result<bool> {
    match fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(true),
            io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty => Ok(false),
            _ => Err(error),
        },
    }
}

fn kill_all(folder: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(folder.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for pid in text
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter_map(Pid::from_raw)
    {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "layout/tests.rs"]
mod tests;
