//! Tells the daemon of the node which pod has which addresses, before the pod runs: network policies hold for its first packet.
//!
//! Output: one announcement over the daemon's socket (see `gantry_announce`), and its answer. Fails closed: without the daemon's word
//! there is no pod. The daemon may be away for a moment, as when it is replaced, so ADD tries for a while.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry_announce::{Announcement, Answer, Attached, MAX_ADDRESSES, Malformed, READ_BYTES, interface};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::Network;
use crate::request::{Attachment, PodArgs};

/// How long ADD tries to reach the daemon, and how long that may take to answer: longer than it lets anybody wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long DEL does.
const AT_DEL: Duration = Duration::from_millis(200);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Why network policies may not hold for a pod. Retry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnnounceError {
    /// Nobody answers.
    #[error(
        "network policies cannot be enforced for this pod: nobody answers at {path}; is gantry-proxy running on this node? \
         To run pods without network policies start it with --network-policy=false"
    )]
    Away {
        /// The socket.
        path: PathBuf,
        /// The last attempt's reason.
        #[source]
        source: io::Error,
    },
    /// The daemon said no.
    #[error("network policies are not enforced for this pod yet")]
    Refused(#[source] Refusal),
    /// The daemon said something else.
    #[error("the answer at {path} is not one of gantry-proxy: both have to be of one version")]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Malformed,
    },
}

/// The daemon's reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

/// Returns when policies hold for the addresses of an attachment. Does nothing where nobody asks for that, and for sandboxes that are
/// no pod's.
pub(crate) fn attached(
    network: &Network,
    attachment: &Attachment,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<(), AnnounceError> {
    let PodArgs { namespace, name, uid } = &attachment.args.pod;
    let (Some(path), Some(namespace), Some(name)) = (&network.policy_socket, namespace, name) else {
        return Ok(());
    };
    let announcement = Announcement::Attached(Attached {
        interface: interface(&attachment.container, &attachment.ifname),
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
        addresses: addresses.collect(),
    });
    let answer =
        ask_until(path, &announcement, Instant::now() + PATIENCE).map_err(|source| AnnounceError::Away {
            path: path.clone(),
            source,
        })?;
    match Answer::parse(&answer) {
        Ok(Answer::Enforced) => Ok(()),
        Ok(Answer::Refused(why)) => Err(AnnounceError::Refused(Refusal(why))),
        Err(source) => Err(AnnounceError::Answer {
            path: path.clone(),
            source,
        }),
    }
}

/// Tells that an attachment is gone, if somebody listens.
pub(crate) fn detached(network: &Network, attachment: &Attachment) {
    let Some(path) = &network.policy_socket else {
        return;
    };
    let announcement = Announcement::Detached {
        interface: interface(&attachment.container, &attachment.ifname),
    };
    // Nobody has to know.
    let _ = tell(path, &announcement, AT_DEL);
}

/// Tells that these addresses are nobody's any more, if somebody listens. Their leases have to be held still.
pub(crate) fn freed(network: &Network, addresses: impl Iterator<Item = IpAddr>) {
    let Some(path) = &network.policy_socket else {
        return;
    };
    let addresses: Vec<_> = addresses.collect();
    for some in addresses.chunks(MAX_ADDRESSES) {
        let announcement = Announcement::Freed {
            addresses: some.iter().copied().collect(),
        };
        // Nobody has to know, and who does not listen now is not asked again.
        if tell(path, &announcement, AT_DEL).is_err() {
            return;
        }
    }
}

fn ask_until(path: &Path, announcement: &Announcement, deadline: Instant) -> io::Result<Vec<u8>> {
    loop {
        match tell(path, announcement, PATIENCE).and_then(answer) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

/// Connects and writes; neither takes longer than that, and neither does reading.
fn tell(path: &Path, announcement: &Announcement, patience: Duration) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Also bounds the connection, which waits where too many do.
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut stream = UnixStream::from(socket);
    stream.write_all(&announcement.line())?;
    Ok(stream)
}

/// A connection that ends without an answer is that of a daemon that has just ended.
fn answer(stream: UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(READ_BYTES)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
