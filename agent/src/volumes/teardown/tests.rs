//! Removal against what a hostile container could have left. Needs root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::volumes::mounts::{mount_tmpfs, mounts_below, unmount_at};

struct Disk {
    root: TempDir,
    layout: Layout,
}

impl Disk {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount: run them as root"
        );
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.pod("uid").unwrap()).unwrap();
        Self { root, layout }
    }

    fn volume(&self, plugin: &str) -> PathBuf {
        let dir = self.layout.volume("uid", plugin, "v").unwrap();
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A directory outside of the pod's with something in it.
    fn outside(&self) -> PathBuf {
        let dir = self.root.path().join("outside");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("precious"), "x").unwrap();
        dir
    }

    fn pod_exists(&self) -> bool {
        self.layout.pod("uid").unwrap().exists()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for path in mounts_below(&self.root.path().canonicalize().unwrap()).unwrap() {
            unmount_at(&path).unwrap();
        }
    }
}

#[test]
fn links_are_removed_and_not_followed() {
    let disk = Disk::new();
    let outside = disk.outside();
    let volume = disk.volume("kubernetes.io~empty-dir");
    symlink(&outside, volume.join("link")).unwrap();
    symlink(&outside, disk.layout.pod("uid").unwrap().join("containers")).unwrap();
    symlink(&outside, volume.parent().unwrap().join("other")).unwrap();
    tear_down(&disk.layout, "uid").unwrap();
    assert!(!disk.pod_exists());
    assert!(outside.join("precious").exists());
}

#[test]
fn mounts_go_before_files() {
    let disk = Disk::new();
    let volume = disk.volume("kubernetes.io~secret");
    mount_tmpfs(&volume, Some(65536)).unwrap();
    fs::create_dir(volume.join("inner")).unwrap();
    mount_tmpfs(&volume.join("inner"), None).unwrap();
    let held = fs::File::create(volume.join("inner/open")).unwrap();
    tear_down(&disk.layout, "uid").unwrap();
    assert!(!disk.pod_exists());
    drop(held);
}

#[test]
fn a_bound_directory_of_the_same_disk_keeps_its_files() {
    let disk = Disk::new();
    let outside = disk.outside();
    let volume = disk.volume("kubernetes.io~empty-dir");
    fs::create_dir(volume.join("bound")).unwrap();
    rustix::mount::mount_bind(&outside, volume.join("bound")).unwrap();
    // What the removal itself does, should something be mounted after the unmounting.
    let pods = open_pods(&disk.layout).unwrap();
    assert_eq!(remove_tree(pods.as_fd(), c"uid"), Err(Errno::XDEV));
    assert!(outside.join("precious").exists());
    tear_down(&disk.layout, "uid").unwrap();
    assert!(!disk.pod_exists());
    assert!(outside.join("precious").exists());
}

#[test]
fn data_of_foreign_plugins_is_left() {
    let disk = Disk::new();
    let claim = disk.volume("kubernetes.io~csi");
    fs::write(claim.join("data"), "x").unwrap();
    let own = disk.volume("kubernetes.io~empty-dir");
    fs::write(own.join("scratch"), "x").unwrap();
    let error = tear_down(&disk.layout, "uid").unwrap_err();
    assert!(matches!(error, TearDownError::Remove { .. }), "{error}");
    assert!(claim.join("data").exists());
    assert!(!own.exists(), "the agent's own files go all the same");
    fs::remove_file(claim.join("data")).unwrap();
    tear_down(&disk.layout, "uid").unwrap();
    assert!(!disk.pod_exists());
}

#[test]
fn a_very_deep_tree_is_removed() {
    let disk = Disk::new();
    let volume = disk.volume("kubernetes.io~empty-dir");
    // Deeper than a path can name, as a container can make it.
    let mut dir = open(&volume, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&dir, "d", Mode::from_raw_mode(0o700)).unwrap();
        dir = rustix::fs::openat(&dir, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(dir);
    tear_down(&disk.layout, "uid").unwrap();
    assert!(!disk.pod_exists());
}

#[test]
fn a_directory_of_pods_that_does_not_exist_has_no_pods() {
    let layout = Layout::new(Path::new("/nonexistent"));
    assert!(pods_on_disk(&layout).unwrap().is_empty());
    tear_down(&layout, "uid").unwrap();
}
