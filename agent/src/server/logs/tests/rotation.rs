//! A container that writes while its log is rotated, and many readers of different speed: each sees every line once.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinSet};

use super::*;

const LINES: usize = 100_000;
const LINES_OF_FILE: usize = 2_000;
const FOLLOWERS: usize = 40;
/// The writer waits for a reader that is so many files behind: fewer than are kept open.
const BEHIND: usize = 2;

/// How far everybody is, in lines.
struct Progress {
    written: watch::Sender<usize>,
    read: Vec<watch::Sender<usize>>,
}

impl Progress {
    fn slowest(&self) -> usize {
        self.read.iter().map(|read| *read.borrow()).min().unwrap_or(0)
    }
}

/// The runtime's side: writes, and at each rotation opens the new file before it closes the old one, writing a few
/// more lines into that.
async fn write(path: PathBuf, tapes: Tapes, progress: Arc<Progress>) {
    let open = || File::options().append(true).create(true).open(&path).unwrap();
    let put = |file: &mut File, i: usize| file.write_all(line(&format!("{i:06}")).as_bytes()).unwrap();
    let mut file = open();
    let mut i = 0;
    let mut files = 0;
    while i < LINES {
        put(&mut file, i);
        i += 1;
        if i % 100 == 0 {
            progress.written.send_replace(i);
            tokio::task::yield_now().await;
        }
        if i % LINES_OF_FILE == 0 && i < LINES {
            files += 1;
            let old = |n: usize| path.with_file_name(format!("0.log.{n:06}"));
            fs::rename(&path, old(files)).unwrap();
            let new = open();
            for _ in 0..3 {
                put(&mut file, i);
                i += 1;
            }
            file = new;
            tapes.rotated(&path);
            // As rotation does: what is old is gone, or has another name.
            if files > 3 {
                fs::remove_file(old(files - 3)).unwrap();
            }
            while progress.slowest() + BEHIND * LINES_OF_FILE < i {
                let all = progress.read.iter().map(watch::Sender::subscribe);
                let any = all.map(|mut read| async move { drop(read.changed().await) }.boxed());
                timeout(DEADLINE, futures::future::select_all(any)).await.unwrap();
            }
        }
    }
    progress.written.send_replace(i);
}

/// Reads on only when the writer is `lag` lines ahead, or has written all.
async fn read(mut copy: Copy, lag: usize, number: usize, progress: Arc<Progress>) -> usize {
    let mut written = progress.written.subscribe();
    let mut lines = 0;
    loop {
        let due = |written: &usize| *written >= LINES || *written >= lines + lag;
        timeout(DEADLINE, written.wait_for(due)).await.unwrap().unwrap();
        if !copy.more().await {
            return lines;
        }
        let whole = copy.text.rfind('\n').map_or(0, |end| end + 1);
        for line in copy.text.drain(..whole).as_str().lines() {
            assert_eq!(line, format!("{lines:06}"), "reader {number}");
            lines += 1;
        }
        progress.read[number].send_replace(lines);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_is_lost_or_doubled_at_any_speed() {
    let log = Log::new("");
    let progress = Arc::new(Progress {
        written: watch::Sender::new(0),
        read: (0..FOLLOWERS).map(|_| watch::Sender::new(0)).collect(),
    });
    let mut readers = JoinSet::new();
    let mut ends = Vec::new();
    for number in 0..FOLLOWERS {
        let (copy, end) = log.follow(None);
        ends.push(end);
        let lag = number * LINES_OF_FILE / FOLLOWERS;
        readers.spawn(read(copy, lag, number, progress.clone()));
    }
    write(log.path(), log.tapes.clone(), progress.clone()).await;
    for end in ends {
        // A reader that is gone has failed, which is seen below.
        let _ = end.send(());
    }
    while let Some(lines) = readers.join_next().await {
        assert!(lines.unwrap() >= LINES);
    }
    assert_eq!((log.tapes.watched(), open_files(log.dir.path())), (0, 0));
}

#[tokio::test]
async fn a_reader_that_has_stopped_keeps_few_files_open() {
    let log = Log::new(&line("first"));
    let (mut stuck, _end) = log.follow(None);
    stuck.until("first\n").await;
    for n in 0..20 {
        fs::rename(log.path(), log.dir.path().join(format!("0.log.{n:02}"))).unwrap();
        fs::write(log.path(), line(&n.to_string())).unwrap();
        log.tapes.rotated(&log.path());
    }
    assert!(open_files(log.dir.path()) <= 5);
    stuck.until("19\n").await;
    assert_eq!(
        stuck.text, "first\n15\n16\n17\n18\n19\n",
        "it goes on with what is left"
    );
    assert_eq!(open_files(log.dir.path()), 1);
}
