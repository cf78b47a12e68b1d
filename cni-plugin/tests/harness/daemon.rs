//! Takes the place of the daemon that enforces network policies.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use gantry_announce::{Announcement, Answer};

/// Answers everything so, and passes on what it was told.
pub(crate) fn listen(path: &Path, answer: Answer) -> Receiver<Announcement> {
    let listener = UnixListener::bind(path).unwrap();
    let (tx, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut line = Vec::new();
            let mut stream = BufReader::new(stream.unwrap());
            stream.read_until(b'\n', &mut line).unwrap();
            if tx.send(Announcement::parse(&line).unwrap()).is_err() {
                return;
            }
            // DEL does not wait for an answer.
            let _ = stream.get_mut().write_all(&answer.line());
        }
    });
    told
}
