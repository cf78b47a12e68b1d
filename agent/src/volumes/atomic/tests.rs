//! The writer on a real directory.

use gantry_agent_core::volumes::payload::File;
use tempfile::TempDir;

use super::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    let file = |data: &str| File {
        data: data.as_bytes().to_vec(),
        mode: 0o644,
        user: None,
    };
    files
        .iter()
        .map(|(path, data)| ((*path).to_owned(), file(data)))
        .collect()
}

fn write_all(dir: &TempDir, files: &[(&str, &str)]) -> bool {
    write(dir.path(), &payload(files), |_| Ok(())).unwrap()
}

/// Names in the volume, without that of the directory of the files.
fn listed(dir: &TempDir) -> Vec<String> {
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("..2")).collect();
    names.sort();
    names
}

fn versions(dir: &TempDir) -> usize {
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("..2")).count()
}

fn read(dir: &TempDir, name: &str) -> String {
    fs::read_to_string(dir.path().join(name)).unwrap()
}

#[test]
fn files_are_shown_through_links() {
    let dir = tempfile::tempdir().unwrap();
    assert!(write_all(
        &dir,
        &[("ca.crt", "CA"), ("deep/er/file", "x"), ("deep/other", "y")]
    ));
    assert_eq!(listed(&dir), ["..data", "ca.crt", "deep"]);
    assert_eq!(
        fs::read_link(dir.path().join("ca.crt")).unwrap(),
        Path::new("..data/ca.crt")
    );
    assert_eq!(read(&dir, "deep/er/file"), "x");
    let data = fs::read_link(dir.path().join("..data"))
        .unwrap()
        .into_os_string()
        .into_string()
        .unwrap();
    let (stamp, number) = data.rsplit_once('.').unwrap();
    assert_eq!(stamp.len(), "..2026_11_21_08_00_00".len(), "{data}");
    assert!(number.parse::<u32>().is_ok(), "{data}");
    assert_eq!(
        fs::metadata(dir.path().join(&data)).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn nothing_is_written_when_nothing_changed_but_links_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    write_all(&dir, &[("a", "1"), ("b/c", "2")]);
    let before = fs::read_link(dir.path().join("..data")).unwrap();
    fs::remove_file(dir.path().join("a")).unwrap();
    assert!(!write_all(&dir, &[("a", "1"), ("b/c", "2")]));
    assert_eq!(fs::read_link(dir.path().join("..data")).unwrap(), before);
    assert_eq!(read(&dir, "a"), "1");
}

#[test]
fn a_change_swaps_everything_at_once_and_removes_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    write_all(&dir, &[("a", "1"), ("b/c", "2"), ("b/d", "3")]);
    let open = fs::File::open(dir.path().join("a")).unwrap();
    assert!(write_all(&dir, &[("a", "one"), ("b/d", "3"), ("new", "4")]));
    assert_eq!(listed(&dir), ["..data", "a", "b", "new"]);
    assert_eq!(
        (read(&dir, "a").as_str(), read(&dir, "b/d").as_str()),
        ("one", "3")
    );
    assert!(!dir.path().join("b/c").exists());
    assert_eq!(versions(&dir), 1, "the old files are gone");
    assert_eq!(
        io::read_to_string(open).unwrap(),
        "1",
        "but not for who has them open"
    );
    assert!(write_all(&dir, &[]));
    assert_eq!(listed(&dir), ["..data"]);
}

#[test]
fn a_crash_between_two_steps_is_mended_by_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    write_all(&dir, &[("a", "1")]);
    symlink("..nowhere", dir.path().join("..data_tmp")).unwrap();
    assert!(write_all(&dir, &[("a", "2")]));
    assert_eq!(read(&dir, "a"), "2");
    fs::remove_file(dir.path().join("..data")).unwrap();
    symlink("..2020_01_01_00_00_00.1", dir.path().join("..data")).unwrap();
    assert!(write_all(&dir, &[("a", "3")]));
    assert_eq!(read(&dir, "a"), "3");
}

#[test]
fn a_failure_shows_no_new_file() {
    let dir = tempfile::tempdir().unwrap();
    write_all(&dir, &[("a", "1")]);
    let failed = write(dir.path(), &payload(&[("a", "2")]), |_| {
        Err(io::Error::other("no"))
    });
    assert!(failed.is_err());
    assert_eq!(read(&dir, "a"), "1");
    assert_eq!(versions(&dir), 1);
    assert_eq!(listed(&dir), ["..data", "a"]);
}

#[test]
fn a_planted_link_to_another_place_is_not_removed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(other.path().join("precious"), "x").unwrap();
    symlink(other.path(), dir.path().join("..data")).unwrap();
    assert!(write_all(&dir, &[("a", "1")]));
    assert_eq!(read(&dir, "a"), "1");
    assert!(other.path().join("precious").exists());
}
