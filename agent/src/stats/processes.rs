//! Open files of processes: how many, and how many of them are sockets.
//!
//! The directory of a process's descriptors is listed and each link looked at, as the reference does; with the
//! directory open, so that nothing is looked up by a path twice.

use std::mem::MaybeUninit;

use rustix::fs::{Mode, OFlags, RawDir};

/// Of all these processes together: open files, and sockets among them. Processes that are gone count nothing.
pub(super) fn open_files(pids: &[u32]) -> (u64, u64) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    pids.iter().fold((0, 0), |(files, sockets), pid| {
        let (more_files, more_sockets) = of_process(*pid, &mut buffer).unwrap_or_default();
        (files + more_files, sockets + more_sockets)
    })
}

fn of_process(pid: u32, buffer: &mut [MaybeUninit<u8>]) -> Option<(u64, u64)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(format!("/proc/{pid}/fd"), flags, Mode::empty()).ok()?;
    let (mut files, mut sockets) = (0, 0);
    let mut entries = RawDir::new(&folder, buffer);
    while let Some(Ok(entry)) = entries.next() {
        if !super::group::is_number(entry.file_name()) {
            continue;
        }
        files += 1;
        let mut target = [MaybeUninit::<u8>::uninit(); 16];
        let link = rustix::fs::readlinkat_raw(&folder, entry.file_name(), &mut target);
        if link.is_ok_and(|(target, _)| target.starts_with(b"socket")) {
            sockets += 1;
        }
    }
    Some((files, sockets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_counted() {
        let own = [std::process::id()];
        let (files, sockets) = open_files(&own);
        assert!(files > 0);
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // Other tests of this process open and close files, too: look until the socket shows.
        let deadline = std::time::Instant::now() + crate::testing::DEADLINE;
        while open_files(&own).1 <= sockets {
            assert!(std::time::Instant::now() < deadline);
        }
        // A process that is not there.
        assert_eq!(open_files(&[u32::MAX]), (0, 0));
    }
}
