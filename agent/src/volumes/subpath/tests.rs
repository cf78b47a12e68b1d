//! Sub paths in a volume that a container controls. Needs root.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount: run them as root"
        );
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("volume")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        Self { dir }
    }

    fn volume(&self) -> std::path::PathBuf {
        self.dir.path().join("volume")
    }

    fn target(&self) -> std::path::PathBuf {
        self.dir.path().join("volume-subpaths/v/c/0")
    }

    fn bound(&self, sub_path: &str) -> bool {
        open_or_make(&self.volume(), sub_path).is_ok_and(|open| bind(&open, &self.target()).is_ok())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        unmount_at(&self.target()).unwrap();
    }
}

#[test]
fn no_link_leads_out_of_the_volume() {
    let place = Place::new();
    let links = [
        ("up", "../secret"),
        ("abs", "/etc/passwd"),
        ("proc", "/proc/self/root"),
        ("dir", ".."),
    ];
    for (name, to) in links {
        symlink(to, place.volume().join(name)).unwrap();
        assert!(!place.bound(name), "{name}");
    }
    assert!(!place.bound("dir/secret"));
    assert!(!place.bound("dir/made"), "nothing is made outside either");
    assert!(!place.dir.path().join("made").exists());
}

#[test]
fn a_link_to_another_place_of_the_volume_is_followed() {
    let place = Place::new();
    fs::create_dir(place.volume().join("real")).unwrap();
    fs::write(place.volume().join("real/file"), "content").unwrap();
    symlink("real", place.volume().join("link")).unwrap();
    assert!(place.bound("link/file"));
    assert_eq!(fs::read_to_string(place.target()).unwrap(), "content");
}

#[test]
fn what_is_missing_is_made_like_the_volume() {
    let place = Place::new();
    fs::set_permissions(place.volume(), fs::Permissions::from_mode(0o2775)).unwrap();
    std::os::unix::fs::chown(place.volume(), None, Some(1234)).unwrap();
    assert!(place.bound("a/b"));
    for path in ["a", "a/b"] {
        let meta = fs::metadata(place.volume().join(path)).unwrap();
        assert_eq!(
            (meta.permissions().mode() & 0o7777, meta.gid()),
            (0o2775, 1234),
            "{path}"
        );
    }
}

#[test]
fn another_source_replaces_what_was_bound() {
    let place = Place::new();
    fs::write(place.volume().join("file"), "one").unwrap();
    assert!(place.bound("file"));
    assert!(place.bound("file"), "again");
    fs::write(place.volume().join("other"), "two").unwrap();
    assert!(place.bound("other"));
    assert_eq!(fs::read_to_string(place.target()).unwrap(), "two");
    assert!(place.bound("dir"), "a directory takes the place of a file");
    assert!(place.target().is_dir());
}
