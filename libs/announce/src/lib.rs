//! What gantry-cni tells the daemon of its node: which interface of which pod has which addresses, before the pod runs and long before
//! the API server knows.
//!
//! A connection to the daemon's Unix socket carries one [`Announcement`] and back one [`Answer`], each a line of JSON of at most
//! [`MAX_LINE_BYTES`]. The daemon keeps announcements in the same words, one file for each interface.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The longest line, its end included.
pub const MAX_LINE_BYTES: usize = 4096;
/// How many bytes to read of one, so that a longer line is seen to be too long.
pub const READ_BYTES: u64 = MAX_LINE_BYTES as u64 + 1;
/// The most addresses in an announcement. A pod has one of each family; this is for who gives more.
pub const MAX_ADDRESSES: usize = 16;
/// The longest name of a file, which an interface's name becomes.
const MAX_INTERFACE_BYTES: usize = 255;
/// The longest name in Kubernetes: a DNS subdomain.
const MAX_NAME_BYTES: usize = 253;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Announcement {
    /// A pod has an interface; the answer says that policies hold for it.
    Attached(Attached),
    /// An interface is gone.
    Detached {
        /// See [`interface`].
        interface: String,
    },
    /// Whatever interfaces had these addresses are gone: who collects garbage does not know their names.
    Freed {
        /// The addresses.
        addresses: BTreeSet<IpAddr>,
    },
}

/// An interface of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// See [`interface`].
    pub interface: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's `metadata.uid`, from runtimes that say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The interface's addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Every policy holds for these addresses.
    Enforced,
    /// They do not; try again later. Why, and what may help.
    Refused(String),
}

/// Why a line is no announcement.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not the JSON that is expected.
    #[error("not an announcement")]
    Decode(#[from] serde_json::Error),
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("longer than {MAX_LINE_BYTES} bytes")]
    Length,
    /// A field has a value outside of its rules.
    #[error("{0} is empty, too long or has characters that it cannot have")]
    Field(&'static str),
}

/// An interface's name on this node: that of the sandbox and that inside of it, neither of which has a colon.
#[must_use]
pub fn interface(container: &str, ifname: &str) -> String {
    format!("{container}:{ifname}")
}

impl Announcement {
    /// Reads a line, with or without its end.
    ///
    /// # Errors
    /// When it is not an announcement, or one with values that cannot be.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        if line.len() > MAX_LINE_BYTES {
            return Err(Malformed::Length);
        }
        let announcement: Self = serde_json::from_slice(line)?;
        match &announcement {
            Self::Attached(attached) => {
                let uid = attached.uid.as_deref();
                check(is_file_name(&attached.interface), "interface")?;
                check(is_name(&attached.namespace), "namespace")?;
                check(is_name(&attached.name), "name")?;
                check(uid.is_none_or(is_name), "uid")?;
                check(is_some(&attached.addresses), "addresses")?;
            }
            Self::Detached { interface } => check(is_file_name(interface), "interface")?,
            Self::Freed { addresses } => check(is_some(addresses), "addresses")?,
        }
        Ok(announcement)
    }

    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

impl Answer {
    /// Reads a line, with or without its end.
    ///
    /// # Errors
    /// When it is not an answer.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        if line.len() > MAX_LINE_BYTES {
            return Err(Malformed::Length);
        }
        Ok(serde_json::from_slice(line)?)
    }

    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // Plain data always has a form in JSON.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

fn check(right: bool, field: &'static str) -> Result<(), Malformed> {
    if right {
        Ok(())
    } else {
        Err(Malformed::Field(field))
    }
}

fn is_some(addresses: &BTreeSet<IpAddr>) -> bool {
    (1..=MAX_ADDRESSES).contains(&addresses.len())
}

/// A visible name within one directory.
fn is_file_name(text: &str) -> bool {
    let fits = (1..=MAX_INTERFACE_BYTES).contains(&text.len()) && !text.starts_with('.');
    fits && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail this way")]

    use proptest::prelude::*;

    use super::*;

    fn attached() -> Attached {
        Attached {
            interface: interface("abc", "eth0"),
            namespace: "default".into(),
            name: "web-0".into(),
            uid: Some("0c5c7c1a-6a6e".into()),
            addresses: ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()].into(),
        }
    }

    #[test]
    fn lines_are_what_both_sides_agreed_on() {
        let line = Announcement::Attached(attached()).line();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"event\":\"attached\",\"interface\":\"abc:eth0\",\"namespace\":\"default\",\"name\":\"web-0\",\
             \"uid\":\"0c5c7c1a-6a6e\",\"addresses\":[\"10.0.0.1\",\"fd00::1\"]}\n"
        );
        assert_eq!(Answer::Enforced.line(), b"\"enforced\"\n");
        assert_eq!(Answer::Refused("x".into()).line(), b"{\"refused\":\"x\"}\n");
    }

    #[test]
    fn a_newer_plugin_may_say_more() {
        let line = br#"{"event":"detached","interface":"abc:eth0","since":"now"}"#;
        let gone = Announcement::Detached {
            interface: "abc:eth0".into(),
        };
        assert_eq!(Announcement::parse(line).unwrap(), gone);
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        let with = |change: fn(&mut Attached)| {
            let mut attached = attached();
            change(&mut attached);
            let line = Announcement::Attached(attached).line();
            Announcement::parse(&line).unwrap_err().to_string()
        };
        for (said, field) in [
            (with(|it| it.interface = "../x".into()), "interface"),
            (with(|it| it.interface = ".x".into()), "interface"),
            (with(|it| it.interface = "a/b".into()), "interface"),
            (with(|it| it.interface = "x".repeat(256)), "interface"),
            (with(|it| it.namespace.clear()), "namespace"),
            (with(|it| it.name = "a b".into()), "name"),
            (with(|it| it.uid = Some(String::new())), "uid"),
            (with(|it| it.addresses.clear()), "addresses"),
        ] {
            assert!(said.starts_with(field), "{said}");
        }
        let nobody = Announcement::Freed {
            addresses: BTreeSet::new(),
        };
        assert!(matches!(
            Announcement::parse(&nobody.line()),
            Err(Malformed::Field("addresses"))
        ));
        let long = vec![b' '; MAX_LINE_BYTES + 1];
        assert!(matches!(Announcement::parse(&long), Err(Malformed::Length)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let _ = (Announcement::parse(&bytes), Answer::parse(&bytes));
            let named = format!("{{\"event\":\"detached\",\"interface\":{text:?}}}");
            let _ = Announcement::parse(named.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(
            container in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,60}",
            ifname in "[!-.0-9;-~]{1,15}",
            name in "[a-z0-9.-]{1,253}",
            uid in prop::option::of("[a-f0-9-]{1,36}"),
            addresses in prop::collection::btree_set(any::<IpAddr>(), 1..=MAX_ADDRESSES),
            why in ".{0,200}",
        ) {
            let interface = interface(&container, &ifname);
            let gone = Announcement::Detached { interface: interface.clone() };
            let freed = Announcement::Freed { addresses: addresses.clone() };
            let attached = Attached { interface, namespace: "a".into(), name, uid, addresses };
            for announcement in [Announcement::Attached(attached), gone, freed] {
                prop_assert_eq!(&Announcement::parse(&announcement.line()).unwrap(), &announcement);
            }
            for answer in [Answer::Enforced, Answer::Refused(why)] {
                prop_assert_eq!(&Answer::parse(&answer.line()).unwrap(), &answer);
            }
        }
    }
}
