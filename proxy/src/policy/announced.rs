//! Pods whose addresses gantry-cni has told, and the calls that wait for policies to hold for them.
//!
//! ```text
//! gantry-cni ─ socket ─> Request ─> a file ─> State (core) ─ written to the kernel ─> Answer ─> ADD returns
//! ```
//!
//! What was told is kept until the interface is gone, in a file for each, so that a program that starts again restricts the same pods.

mod files;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use gantry_announce::{Announcement, Answer, Attached};
use gantry_chassis::files::gone_is_fine;
use gantry_policy_core::{Attachment, Key, State};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::programmer::with_cause;
use files::Files;
use socket::Socket;

/// The socket's name in the directory of announcements.
pub const SOCKET: &str = "policy.sock";
/// Where announcements are kept, in the same directory.
const FILES: &str = "pods";
/// How long a call waits for its pod to be known and its policies to be written. gantry-cni waits for a little longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// An interface whose pod nobody knows for so long is not there any more: its end was not told.
const LOST_AFTER: Duration = Duration::from_secs(600);
/// Requests in the channel: each has a connection, of which there are not many more.
const DEPTH: usize = 64;

/// Why announcements cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen to gantry-cni in {dir}")]
pub struct ListenError {
    dir: String,
    source: io::Error,
}

/// An announcement, and who waits for the answer.
#[derive(Debug)]
struct Request {
    announcement: Announcement,
    reply: oneshot::Sender<Answer>,
}

/// What the answers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Some list is not complete.
    Unlisted,
    /// The kernel's tables are not as they should be.
    Unwritten,
    /// There are no policies.
    Unrestricted,
    /// Everything known is enforced.
    Enforced,
}

/// Everything told, and everybody who waits.
#[derive(Debug)]
pub(super) struct Announced {
    files: Files,
    socket: Option<Socket>,
    /// The other end is the socket's.
    requests: mpsc::Receiver<Request>,
    told: BTreeMap<String, Told>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Told {
    attachment: Attachment,
    /// When its pod was last known, or it was told.
    seen: Instant,
}

#[derive(Debug)]
struct Waiting {
    attachment: Attachment,
    until: Instant,
    reply: oneshot::Sender<Answer>,
}

impl Announced {
    /// Reads what was told to the program before, and opens the socket. Within a runtime.
    pub(super) fn open(dir: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError {
            dir: dir.display().to_string(),
            source,
        };
        let (tx, requests) = mpsc::channel(DEPTH);
        Ok(Self {
            files: Files::open(dir.join(FILES)).map_err(failed)?,
            socket: Some(Socket::open(&dir.join(SOCKET), tx).map_err(failed)?),
            requests,
            told: BTreeMap::new(),
            waiting: Vec::new(),
        })
    }

    /// Tells what the program before was told, and begins to listen.
    pub(super) fn start(&mut self, state: &mut State, shutdown: &CancellationToken) {
        for attached in self.files.read() {
            self.attach(attached, state);
        }
        if let Some(socket) = self.socket.take() {
            tokio::spawn(socket.serve(shutdown.clone()));
        }
    }

    /// Takes in the next requests: all that are there, because they are written together. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Requests> {
        let first = self.requests.recv().await?;
        let mut all = vec![first];
        while let Ok(request) = self.requests.try_recv() {
            all.push(request);
        }
        Some(Requests(all))
    }

    /// Does what requests say; they are answered by [`Announced::answer`].
    pub(super) fn take(&mut self, requests: Requests, state: &mut State) {
        for Request { announcement, reply } in requests.0 {
            match announcement {
                Announcement::Attached(attached) => self.take_attached(attached, reply, state),
                Announcement::Detached { interface } => {
                    self.forget(&interface, state);
                    // Whoever told may have gone.
                    let _ = reply.send(Answer::Enforced);
                }
                Announcement::Freed { addresses } => {
                    self.forget_others("", &addresses, state);
                    let _ = reply.send(Answer::Enforced);
                }
            }
        }
    }

    fn take_attached(&mut self, attached: Attached, reply: oneshot::Sender<Answer>, state: &mut State) {
        if let Err(error) = self.files.keep(&attached) {
            warn!(error = with_cause(&error), "a pod is refused");
            let _ = reply.send(Answer::Refused(with_cause(&error)));
            return;
        }
        let attachment = self.attach(attached, state);
        self.waiting.push(Waiting {
            attachment,
            until: Instant::now() + PATIENCE,
            reply,
        });
    }

    fn attach(&mut self, attached: Attached, state: &mut State) -> Attachment {
        let attachment = Attachment {
            pod: Key::new(&attached.namespace, &attached.name),
            uid: attached.uid.map(Box::from),
            addresses: attached.addresses,
        };
        // An address is given to one: the end of whoever had it was not told.
        self.forget_others(&attached.interface, &attachment.addresses, state);
        state.attach(&attached.interface, attachment.clone());
        let told = Told {
            attachment: attachment.clone(),
            seen: Instant::now(),
        };
        self.told.insert(attached.interface, told);
        attachment
    }

    /// Forgets all interfaces with one of these addresses but this one.
    fn forget_others(&mut self, interface: &str, addresses: &BTreeSet<IpAddr>, state: &mut State) {
        let had = |told: &Told| !told.attachment.addresses.is_disjoint(addresses);
        let former = self.told.iter();
        let former = former.filter(|(name, told)| *name != interface && had(told));
        let former: Vec<String> = former.map(|(name, _)| name.clone()).collect();
        for interface in former {
            self.forget(&interface, state);
        }
    }

    fn forget(&mut self, interface: &str, state: &mut State) {
        state.detach(interface);
        if self.told.remove(interface).is_some() {
            self.files.forget(interface);
        }
    }

    /// When somebody has waited for long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|one| one.until).min()
    }

    /// Answers whoever need not, or must not, wait any longer.
    pub(super) fn answer(&mut self, standing: Standing, state: &State) {
        let now = Instant::now();
        for one in std::mem::take(&mut self.waiting) {
            match verdict(&one.attachment, standing, state, now >= one.until) {
                // Whoever asked may have gone.
                Some(answer) => drop(one.reply.send(answer)),
                None => self.waiting.push(one),
            }
        }
    }

    /// Forgets interfaces whose pods have been unknown for long. Pods have to be listed.
    pub(super) fn forget_lost(&mut self, state: &mut State) {
        let mut lost = Vec::new();
        for (interface, told) in &mut self.told {
            if state.knows(&told.attachment) {
                told.seen = Instant::now();
            } else if told.seen.elapsed() > LOST_AFTER {
                lost.push(interface.clone());
            }
        }
        for interface in lost {
            self.forget(&interface, state);
        }
    }
}

/// Removes the socket and what was told.
///
/// # Errors
/// When something of it stays.
pub fn forget(dir: &Path) -> io::Result<()> {
    gone_is_fine(std::fs::remove_file(dir.join(SOCKET)))?;
    gone_is_fine(std::fs::remove_dir_all(dir.join(FILES)))?;
    // It may be a mount, or have something of others.
    let _ = std::fs::remove_dir(dir);
    Ok(())
}

/// Requests that came together.
#[derive(Debug)]
pub(super) struct Requests(Vec<Request>);

/// What to say of a pod; nothing yet, unless it is late.
fn verdict(attachment: &Attachment, standing: Standing, state: &State, late: bool) -> Option<Answer> {
    let refused = |why: String| late.then_some(Answer::Refused(why));
    let Key { namespace, name } = &attachment.pod;
    match standing {
        Standing::Unrestricted => Some(Answer::Enforced),
        Standing::Enforced if state.knows(attachment) => Some(Answer::Enforced),
        // Nothing could restrict it.
        Standing::Enforced if late && !state.has_policies_in(namespace) => Some(Answer::Enforced),
        Standing::Enforced => refused(format!(
            "the API server has not told of pod {namespace}/{name} yet, which policies of its namespace may restrict"
        )),
        Standing::Unlisted => refused(
            "the lists of network policies, pods and namespaces are not complete yet: look whether gantry-proxy reaches the API \
             server and may list and watch these"
                .to_owned(),
        ),
        Standing::Unwritten => refused(
            "the kernel has refused the tables of network policies: gantry-proxy's log says why".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
