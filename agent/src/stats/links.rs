//! Whether anything passed a pod's interface, told without a look at the pod.
//!
//! Most pods have one interface whose other end is the node's. What passes is counted there, too, in the list of the node's
//! interfaces, which is read anyway. The pod's own list costs an open file in its namespace, so it is read when the
//! node's end has counted something, and once a minute: what its own end drops or another interface does is seen then.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry_agent_core::stats::figures::Interface;
use gantry_agent_core::stats::parse;
use rustix::net::{AddressFamily, SocketType, netdevice};

/// A list is trusted for so long.
const LAST: Duration = Duration::from_secs(60);

/// What the node's interfaces have counted, by name.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<Vec<u8>, u64>);

/// The interfaces of one pod, as last read.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// When, and whose.
    read: Option<(Instant, u32)>,
    /// The node's end, if there is exactly one.
    end: Option<String>,
    /// What that had counted before.
    counted: Option<u64>,
}

impl Links {
    /// Takes over the node's list (`/proc/net/dev`).
    pub(super) fn refresh(&mut self, list: &[u8]) {
        self.0.clear();
        for line in list.split(|byte| *byte == b'\n') {
            if let Some(colon) = line.iter().rposition(|byte| *byte == b':') {
                let mut hasher = DefaultHasher::new();
                line[colon..].hash(&mut hasher);
                self.0
                    .insert(line[..colon].trim_ascii().to_vec(), hasher.finish());
            }
        }
    }

    fn counted(&self, name: &str) -> Option<u64> {
        self.0.get(name.as_bytes()).copied()
    }
}

impl Wire {
    /// Nothing passed since the list of this process was read.
    pub(super) fn is_silent(&self, pid: u32, links: &Links) -> bool {
        let Some(end) = &self.end else { return false };
        let is_fresh = self.read.is_some_and(|(at, of)| of == pid && at.elapsed() < LAST);
        is_fresh && self.counted.is_some() && links.counted(end) == self.counted
    }

    /// The list of this process has been read, after the node's.
    pub(super) fn note(&mut self, pid: u32, found: &[Interface], links: &Links) {
        if self.read.is_none_or(|(_, of)| of != pid) {
            self.end = end_of(pid, found);
        }
        self.counted = self.end.as_deref().and_then(|end| links.counted(end));
        self.read = Some((Instant::now(), pid));
    }
}

/// The node's interface that is the other end of a pod's only one: each names the other. An interface without another end
/// names itself.
fn end_of(pid: u32, found: &[Interface]) -> Option<String> {
    let [only] = found else { return None };
    let number = |folder: &Path, file: &str| parse::number(&fs::read(folder.join(file)).ok()?);
    let of_pod = PathBuf::from(format!("/proc/{pid}/root/sys/class/net/{}", only.name));
    let (own, other) = (number(&of_pod, "ifindex")?, number(&of_pod, "iflink")?);
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    let name = netdevice::index_to_name(&socket, u32::try_from(other).ok()?).ok()?;
    let back = number(&Path::new("/sys/class/net").join(&name), "iflink")?;
    (back == own && own != other).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-| Receive | Transmit\n face |bytes |bytes\n";

    fn links(lines: &str) -> Links {
        let mut links = Links::default();
        links.refresh(format!("{HEAD}{lines}").as_bytes());
        links
    }

    fn wire(end: Option<&str>, links: &Links) -> Wire {
        let mut wire = Wire {
            read: Some((Instant::now(), 7)),
            end: end.map(str::to_owned),
            counted: None,
        };
        wire.note(7, &[], links);
        wire
    }

    #[test]
    fn a_wire_is_silent_until_the_nodes_end_counts() {
        let before = links("  eth0: 1 2 3\n veth1: 4 5 6\n");
        let wire_of = wire(Some("veth1"), &before);
        assert!(wire_of.is_silent(7, &before));
        assert!(
            wire_of.is_silent(7, &links("eth0: 9 9 9\nveth1: 4 5 6\n")),
            "another's"
        );
        assert!(!wire_of.is_silent(7, &links("eth0: 1 2 3\nveth1: 4 5 7\n")));
        assert!(
            !wire_of.is_silent(7, &links("eth0: 1 2 3\n")),
            "the node's end is gone"
        );
        assert!(!wire_of.is_silent(8, &before), "another process");
        for end in [None, Some("veth2")] {
            assert!(!wire(end, &before).is_silent(7, &before), "{end:?}");
        }
    }

    #[test]
    fn what_is_no_pair_has_no_end() {
        let own = std::process::id();
        assert_eq!(end_of(own, &[]), None);
        let named = |name: &str| Interface {
            name: name.to_owned(),
            ..Interface::default()
        };
        assert_eq!(end_of(own, &[named("no-such")]), None);
        assert_eq!(end_of(own, &[named("lo"), named("eth0")]), None);
        assert_eq!(end_of(own, &[named("lo")]), None, "its link is itself");
    }
}
