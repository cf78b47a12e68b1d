//! Open files of processes: how many, and how many of them are sockets.
//!
//! The directory of a process's descriptors is listed and each link looked at, as the reference does; with the
//! directory open, so that nothing is looked up by a path twice. Of the agent's own, those that it holds for figures are
//! known to be files.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, RawDir};

/// Descriptors of this process, by number.
#[derive(Debug, Default)]
pub(super) struct Numbers(Vec<bool>);

impl Extend<RawFd> for Numbers {
    fn extend<T: IntoIterator<Item = RawFd>>(&mut self, numbers: T) {
        for number in numbers
            .into_iter()
            .filter_map(|number| usize::try_from(number).ok())
        {
            if self.0.len() <= number {
                self.0.resize(number + 1, false);
            }
            self.0[number] = true;
        }
    }
}

impl Numbers {
    fn contains(&self, name: &[u8]) -> bool {
        let number = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        number
            .and_then(|number: usize| self.0.get(number))
            .copied()
            .unwrap_or(false)
    }
}

/// Sockets among as many files as before are counted again after this: one for another of the same process is not noticed
/// for so long.
const COUNT_LASTS: Duration = Duration::from_secs(60);

/// The open files of a cgroup's processes, as last counted.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(HashMap<u32, Counted>);

/// Those of one process.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Instant,
    files: u64,
    sockets: u64,
}

impl Counted {
    fn holds(&self, files: u64) -> bool {
        files > 0 && self.files == files && self.at.elapsed() < COUNT_LASTS
    }
}

impl OpenFiles {
    /// Of all these processes together: open files, and sockets among them. Processes that are gone count nothing.
    pub(super) fn count(&mut self, pids: impl Iterator<Item = u32>) -> (u64, u64) {
        let before = std::mem::take(&mut self.0);
        self.0.extend(pids.filter_map(|pid| {
            let known = before.get(&pid).filter(|known| known.holds(how_many(pid)));
            let counted = known.copied().or_else(|| of_process(pid, &Numbers::default()))?;
            Some((pid, counted))
        }));
        let all = self.0.values();
        all.fold((0, 0), |(files, sockets), of| {
            (files + of.files, sockets + of.sockets)
        })
    }
}

/// How many files a process has open, since Linux 6.2; nothing before.
fn how_many(pid: u32) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |folder| folder.len())
}

/// The open files of this process, as last counted: it may have thousands, most of them for figures.
#[derive(Debug, Default)]
pub(super) struct OwnFiles {
    /// Those that are not for figures.
    last: Option<Counted>,
}

impl OwnFiles {
    /// The same of this process, of which `count` files, `known`, are no sockets.
    pub(super) fn count(&mut self, count: usize, known: impl FnOnce() -> Numbers) -> (u64, u64) {
        let count = u64::try_from(count).unwrap_or(0);
        let others = how_many(std::process::id()).saturating_sub(count);
        let unchanged = self.last.filter(|last| last.holds(others));
        let last = unchanged.or_else(|| {
            let mut found = of_process(std::process::id(), &known())?;
            // The listed folder was open, too.
            found.files = found.files.saturating_sub(count + 1);
            Some(found)
        });
        self.last = last;
        last.map_or((count, 0), |last| (last.files + count, last.sockets))
    }
}

/// Lists them; those `known` are no sockets. `None`: there is no such process.
fn of_process(pid: u32, known: &Numbers) -> Option<Counted> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(format!("/proc/{pid}/fd"), flags, Mode::empty()).ok()?;
    let (mut files, mut sockets) = (0, 0);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name();
        if !name.to_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        files += 1;
        if known.contains(name.to_bytes()) {
            continue;
        }
        let mut target = [MaybeUninit::<u8>::uninit(); 16];
        let link = rustix::fs::readlinkat_raw(&folder, name, &mut target);
        if link.is_ok_and(|(target, _)| target.starts_with(b"socket")) {
            sockets += 1;
        }
    }
    let at = Instant::now();
    Some(Counted { at, files, sockets })
}

/// Half of what this process may have open; the rest is for everybody else.
pub(super) fn open_files_budget() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = limit.unwrap_or(u64::MAX) / 2;
    usize::try_from(half).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn own() -> (u64, u64) {
        OpenFiles::default().count([std::process::id()].into_iter())
    }

    #[test]
    fn a_socket_is_counted() {
        let (files, sockets) = own();
        assert!(files > 0);
        let _socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Other tests of this process open and close files, too: look until the socket shows.
        let deadline = Instant::now() + crate::testing::DEADLINE;
        while own().1 <= sockets {
            assert!(Instant::now() < deadline);
        }
        // A process that is not there.
        assert_eq!(OpenFiles::default().count([u32::MAX].into_iter()), (0, 0));
    }

    #[test]
    fn as_many_files_as_before_are_not_looked_at_again() {
        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = sleeper.id();
        let mut files = OpenFiles::default();
        let deadline = Instant::now() + crate::testing::DEADLINE;
        // While it starts it opens and closes libraries.
        while how_many(std::process::id()) > 0 {
            let (count, sockets) = files.count([pid].into_iter());
            files.0.entry(pid).and_modify(|counted| counted.sockets += 7);
            if files.count([pid].into_iter()) == (count, sockets + 7) {
                break;
            }
            assert!(Instant::now() < deadline);
        }
        let others = files.count([u32::MAX].into_iter());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert_eq!((others, files.0.len()), ((0, 0), 0), "what is gone is forgotten");
    }

    #[test]
    fn what_is_known_is_counted_and_not_looked_at() {
        let sockets: Vec<UdpSocket> = (0..100)
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let numbers = || {
            let mut numbers = Numbers::default();
            numbers.extend(sockets.iter().map(UdpSocket::as_raw_fd));
            numbers
        };
        let deadline = Instant::now() + crate::testing::DEADLINE;
        // Other tests open and close files meanwhile, but not a hundred at a time.
        loop {
            let (all, known) = (own(), OwnFiles::default().count(sockets.len(), numbers));
            assert!(known.0 >= 100);
            if all.1.abs_diff(known.1 + 100) < 50 {
                break;
            }
            assert!(Instant::now() < deadline, "{all:?} {known:?}");
        }
    }
}
