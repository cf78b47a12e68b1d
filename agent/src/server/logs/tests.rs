//! Readers of real files: whole, tailed, followed across rotation.

mod answers;
mod rotation;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use futures::future::BoxFuture;
use gantry_agent_core::logs::Streams;
use tokio::{sync::oneshot, time::timeout};

use super::*;
use crate::testing::DEADLINE;

/// A log in a directory of its own.
struct Log {
    dir: tempfile::TempDir,
    logs: Logs,
    tapes: Tapes,
}

/// What a reader gets, as text.
struct Copy {
    course: Course,
    text: String,
}

fn line(text: &str) -> String {
    format!("2026-01-01T00:00:00.5Z stdout F {text}\n")
}

impl Log {
    fn new(content: &str) -> Self {
        let tapes = Tapes::start();
        let log = Self {
            dir: tempfile::tempdir().unwrap(),
            logs: Logs::new(tapes.clone()),
            tapes,
        };
        fs::write(log.path(), content).unwrap();
        log
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("0.log")
    }

    fn append(&self, text: &str) {
        let mut file = File::options().append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn opening(&self, tail: Option<u64>) -> Opening {
        Opening {
            path: self.path(),
            show: Show {
                lines: tail,
                ..Show::default()
            },
            tail,
        }
    }

    fn once(&self, tail: Option<u64>) -> Copy {
        let place = self.opening(tail).once().unwrap();
        Copy::of(Course::Once(Reader::new(place, self.logs.reads.clone())))
    }

    fn follow(&self, tail: Option<u64>) -> (Copy, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let running: BoxFuture<'static, ()> = async { drop(ended.await) }.boxed();
        let mut opening = self.opening(tail);
        opening.show.lines = None;
        let (place, reel) = opening.follow(&self.tapes).unwrap();
        let reader = Reader::new(place, self.logs.reads.clone());
        let follower = Follower::new(reader, reel, Some(running));
        (Copy::of(Course::Follow(Box::new(follower))), end)
    }
}

impl Copy {
    fn of(course: Course) -> Self {
        Self {
            course,
            text: String::new(),
        }
    }

    /// The next piece; false at the end.
    async fn more(&mut self) -> bool {
        let next = timeout(DEADLINE, self.course.next());
        match next.await.expect("nothing came").unwrap() {
            Some(piece) => {
                self.text.push_str(std::str::from_utf8(&piece).unwrap());
                true
            }
            None => false,
        }
    }

    async fn until(&mut self, text: &str) {
        while !self.text.ends_with(text) {
            assert!(self.more().await, "it ended with {:?}", self.text);
        }
    }

    async fn all(mut self) -> String {
        while self.more().await {}
        self.text
    }
}

/// Files below `dir` that this process has open.
pub(super) fn open_files(dir: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter(|link| fs::read_link(link.path()).is_ok_and(|to| to.starts_with(dir)))
        .count()
}

#[tokio::test]
async fn a_log_is_read_whole_or_from_its_end() {
    let content: String = (0..5000).map(|i| line(&format!("line {i}"))).collect();
    let log = Log::new(&content);
    let all: String = (0..5000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(log.once(None).all().await, all);
    assert_eq!(log.once(Some(2)).all().await, "line 4998\nline 4999\n");
    assert_eq!(log.once(Some(0)).all().await, "");
    assert_eq!(log.once(Some(9000)).all().await, all);
    log.append("2026-01-01T00:00:00Z stdout F torn");
    assert!(log.once(None).all().await.ends_with("line 4999\ntorn"));
    assert_eq!(
        log.once(Some(1)).all().await,
        "line 4999\n",
        "as many lines as asked for"
    );
}

#[tokio::test]
async fn a_reader_sees_why_there_is_no_log() {
    let log = Log::new("no log\n");
    let error = log.once(None).course.next().await.unwrap_err().to_string();
    assert!(
        error.starts_with("failed to get parse function: unsupported log format: \"no log\\n\""),
        "{error}"
    );
    fs::remove_file(log.path()).unwrap();
    let path = log.path().display().to_string();
    let Err(error) = log.opening(None).once() else {
        panic!("opened")
    };
    let expected = format!(
        "failed to try resolving symlinks in path \"{path}\": lstat {path}: no such file or directory"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_line_longer_than_any_block_comes_whole() {
    let long = "x".repeat(1_000_000);
    let log = Log::new(&format!("{}{}", line(&long), line("end")));
    assert_eq!(log.once(None).all().await, format!("{long}\nend\n"));
}

#[tokio::test]
async fn a_body_ends_with_what_went_wrong() {
    let log = Log::new("no log\n");
    let body = log.once(None).course.into_body();
    let bytes = body.collect().await.unwrap().to_bytes();
    assert!(bytes.starts_with(b"failed to get parse function"));
}

#[tokio::test]
async fn only_the_wanted_stream_is_read() {
    let log = Log::new(&format!("{}2026-01-01T00:00:00Z stderr F bad\n", line("good")));
    let mut opening = log.opening(None);
    opening.show.streams = Streams {
        stdout: false,
        stderr: true,
    };
    let reader = Reader::new(opening.once().unwrap(), log.logs.reads.clone());
    assert_eq!(Copy::of(Course::Once(reader)).all().await, "bad\n");
}

#[tokio::test]
async fn a_follower_sees_what_is_written_until_the_container_ends() {
    let log = Log::new(&(line("one") + &line("two")));
    let (mut copy, end) = log.follow(Some(1));
    copy.until("two\n").await;
    assert_eq!(copy.text, "two\n");
    log.append("2026-01-01T00:00:00Z stdout P thr");
    log.append("");
    log.append(&("ee\n".to_owned() + &line("!")));
    copy.until("three!\n").await;
    log.append(&line("last"));
    end.send(()).unwrap();
    assert_eq!(copy.all().await, "two\nthree!\nlast\n");
    assert_eq!((log.tapes.watched(), open_files(log.dir.path())), (0, 0));
}

#[tokio::test]
async fn followers_share_a_file_and_a_watch_and_leave_nothing() {
    let log = Log::new(&line("one"));
    let mut copies = Vec::new();
    for _ in 0..500 {
        let (mut copy, end) = log.follow(None);
        copy.until("one\n").await;
        copies.push((copy, end));
    }
    assert_eq!((log.tapes.watched(), open_files(log.dir.path())), (1, 1));
    log.append(&line("two"));
    for (copy, _) in &mut copies {
        copy.until("two\n").await;
    }
    copies.truncate(1);
    assert_eq!((log.tapes.watched(), open_files(log.dir.path())), (1, 1));
    drop(copies);
    assert_eq!((log.tapes.watched(), open_files(log.dir.path())), (0, 0));
}

#[tokio::test]
async fn a_file_that_is_cut_is_read_from_its_beginning() {
    let log = Log::new(&line("a rather long line"));
    let (mut copy, _end) = log.follow(None);
    copy.until("line\n").await;
    fs::write(log.path(), line("new")).unwrap();
    copy.until("new\n").await;
}
