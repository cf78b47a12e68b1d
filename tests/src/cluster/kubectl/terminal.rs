//! kubectl on a terminal of its own, as a user sits in front of it.
//!
//! `setsid --ctty` makes the terminal the controlling one, so a change of its size reaches kubectl as a signal.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::Reader;
use crate::cluster::{Test, poll};

/// A kubectl on a terminal; it ends with this value.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Reader,
}

impl Test {
    /// Starts kubectl on a terminal of that many rows and columns.
    #[track_caller]
    pub fn kubectl_on_terminal(&self, arguments: &[&str], rows: u16, columns: u16) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("there are terminals");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it is ours");
        let theirs = File::from(ioctl_tiocgptpeer(&ours, flags).expect("it has another end"));
        set_size(&ours, rows, columns);
        let kubectl = self.kubectl_command(arguments);
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(kubectl.get_program())
            .args(kubectl.get_args());
        for (name, value) in kubectl.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let end = || Stdio::from(theirs.try_clone().expect("a descriptor is left"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
        let keyboard = File::from(ours);
        Terminal {
            child: child.unwrap_or_else(|error| panic!("cannot start kubectl: {error}")),
            screen: Reader::of(keyboard.try_clone().expect("a descriptor is left")),
            keyboard,
        }
    }
}

fn set_size(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("a terminal has a size");
}

impl Terminal {
    /// Types.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        let typed = self.keyboard.write_all(text.as_bytes());
        typed.unwrap_or_else(|error| panic!("cannot type {text:?}: {error}"));
    }

    /// Changes the terminal's size.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.keyboard, rows, columns);
    }

    /// What is on the screen so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.so_far()).into_owned()
    }

    /// Waits until the screen shows this.
    #[track_caller]
    pub fn wait_shown(&self, text: &str, deadline: Duration) {
        let shows = || self.shown().contains(text).then_some(());
        poll(deadline, &format!("the terminal shows {text:?}"), shows);
    }

    /// Waits for kubectl's end, and says its exit code and all that was shown.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> (Option<i32>, String) {
        let status = poll(
            deadline,
            &format!("kubectl ends after {:?}", self.shown()),
            || self.child.try_wait().expect("it can be waited for"),
        );
        (status.code(), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // setsid has become kubectl.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
