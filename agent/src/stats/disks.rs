//! The node's file systems and block devices: which there are (looked up now and then), and their room and work (with
//! each scrape).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry_agent_core::stats::cadvisor::DeviceName;
use gantry_agent_core::stats::figures::{FileSystem, Room};
use gantry_agent_core::stats::parse::disk::{self, Mount};

use super::scratch::Scratch;

/// File systems and devices come and go rarely.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// File systems on disks: those that the reference takes. Network file systems are not among them, because asking one
/// whose server is gone never returns.
const ON_DISK: [&str; 19] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "squashfs", "f2fs", "jfs", "reiserfs", "hfs", "hfsplus",
    "ntfs", "vfat", "fat", "msdos", "exfat", "udf", "iso9660",
];
/// Where runtimes mount the files of containers, one mount each and more.
const RUNTIMES: [&str; 4] = [
    "/run/containerd/",
    "/var/lib/containerd/",
    "/run/containers/",
    "/var/lib/containers/",
];

/// What is known of disks.
#[derive(Debug)]
pub(super) struct Disks {
    root_dir: PathBuf,
    looked_at: Option<Instant>,
    /// Name and mount point.
    mounts: Vec<(FileSystem, PathBuf)>,
    pub(super) devices: Vec<DeviceName>,
    pub(super) file_systems: Vec<FileSystem>,
}

impl Disks {
    /// `root_dir` is the agent's: what is mounted for pods below it is theirs.
    pub(super) fn new(root_dir: &Path) -> Self {
        Self {
            root_dir: root_dir.to_owned(),
            looked_at: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            file_systems: Vec::new(),
        }
    }

    /// Brings everything up to date.
    pub(super) fn refresh(&mut self, scratch: &mut Scratch) {
        if self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN) {
            let table = scratch.read_path(Path::new("/proc/self/mountinfo"));
            let mounts = table.map(disk::mounts).unwrap_or_default();
            self.mounts = named(&mounts, &self.root_dir.join("pods"));
            self.devices = block_devices(Path::new("/sys/block"));
            let known: Vec<DeviceName> = self.mounts.iter().map(|(fs, _)| device_name(fs)).collect();
            self.devices.extend(known);
            self.looked_at = Some(Instant::now());
        }
        let work = scratch
            .read_path(Path::new("/proc/diskstats"))
            .map(disk::diskstats)
            .unwrap_or_default();
        let measured = self.mounts.iter().filter_map(|(fs, point)| {
            let numbers = (fs.major, fs.minor);
            let disk = work.iter().find(|disk| (disk.major, disk.minor) == numbers);
            Some(FileSystem {
                room: room(point)?,
                disk: disk.copied().unwrap_or_default(),
                ..fs.clone()
            })
        });
        self.file_systems = measured.collect();
    }
}

/// The room of the file system that holds `path`; `None` when it cannot be asked.
pub(super) fn room(path: &Path) -> Option<Room> {
    let fs = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    Some(Room {
        capacity: bytes(fs.f_blocks),
        free: bytes(fs.f_bfree),
        available: bytes(fs.f_bavail),
        inodes: fs.f_files,
        inodes_free: fs.f_ffree,
    })
}

fn device_name(fs: &FileSystem) -> DeviceName {
    DeviceName {
        major: fs.major,
        minor: fs.minor,
        name: fs.device.clone(),
    }
}

/// File systems by the names that the reference gives them: a disk's first mount, each tmpfs by its mount point, each
/// overlay by its numbers, and the root a second time by its source.
fn named(mounts: &[Mount], pods: &Path) -> Vec<(FileSystem, PathBuf)> {
    let mut found: Vec<(FileSystem, PathBuf)> = Vec::new();
    let mut add = |mount: &Mount, device: String| {
        if found.iter().all(|(fs, _)| fs.device != device) {
            let fs = FileSystem {
                major: mount.major,
                minor: mount.minor,
                device,
                ..FileSystem::default()
            };
            found.push((fs, PathBuf::from(&mount.point)));
        }
    };
    for mount in mounts {
        let of_runtime = RUNTIMES.iter().any(|prefix| mount.point.starts_with(prefix));
        if of_runtime || Path::new(&mount.point).starts_with(pods) {
            continue;
        }
        match mount.kind.as_str() {
            "tmpfs" => add(mount, mount.point.clone()),
            "overlay" => add(mount, format!("{}_{}-{}", mount.source, mount.major, mount.minor)),
            kind if ON_DISK.contains(&kind) => add(mount, mount.source.clone()),
            _ => {}
        }
        if mount.point == "/" {
            add(mount, mount.source.clone());
        }
    }
    found
}

/// Whole disks, by `/sys/block/NAME/dev`.
fn block_devices(folder: &Path) -> Vec<DeviceName> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let device = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        if ["loop", "ram", "sr"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            return None;
        }
        let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = numbers.trim().split_once(':')?;
        Some(DeviceName {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            name: format!("/dev/{name}"),
        })
    };
    entries.filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_have_the_references_names() {
        let mount = |minor, point: &str, kind: &str, source: &str| Mount {
            major: 8,
            minor,
            point: point.to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
        };
        let mounts = [
            mount(1, "/", "overlay", "overlay"),
            mount(2, "/data", "ext4", "/dev/sda2"),
            mount(2, "/bind", "ext4", "/dev/sda2"),
            mount(3, "/run", "tmpfs", "tmpfs"),
            mount(4, "/dev/shm", "tmpfs", "tmpfs"),
            mount(5, "/proc", "proc", "proc"),
            mount(6, "/k/pods/uid/volumes/x", "tmpfs", "tmpfs"),
            mount(7, "/run/containerd/x/rootfs", "overlay", "overlay"),
            mount(8, "/far", "nfs4", "server:/far"),
        ];
        let found = named(&mounts, Path::new("/k/pods"));
        let names: Vec<&str> = found.iter().map(|(fs, _)| fs.device.as_str()).collect();
        assert_eq!(names, ["overlay_8-1", "overlay", "/dev/sda2", "/run", "/dev/shm"]);
        assert_eq!(found[2].1, Path::new("/data"));
    }

    #[test]
    fn disks_have_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, numbers) in [("vda", "254:0\n"), ("loop0", "7:0\n"), ("dm-0", "broken")] {
            let disk = folder.path().join(name);
            fs::create_dir(&disk).unwrap();
            fs::write(disk.join("dev"), numbers).unwrap();
        }
        let devices = block_devices(folder.path());
        assert_eq!(
            devices,
            [DeviceName {
                major: 254,
                minor: 0,
                name: "/dev/vda".to_owned()
            }]
        );
    }

    #[test]
    fn this_machine_has_a_root() {
        let mut disks = Disks::new(Path::new("/nowhere"));
        disks.refresh(&mut Scratch::default());
        assert!(room(Path::new("/")).unwrap().capacity > 0);
        assert!(!disks.file_systems.is_empty());
    }
}
