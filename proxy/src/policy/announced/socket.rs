//! The socket: a task for each connection, which carries one announcement and its answer. Only root is listened to.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_announce::{Announcement, Answer, Malformed, READ_BYTES};
use gantry_chassis::files::gone_is_fine;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Request;
use crate::programmer::with_cause;

/// Connections at a time; the kernel keeps the next ones.
const CONNECTIONS: usize = 256;
/// How long the other side may take to write its line, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause after a connection that could not be taken, as when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Bound, but not served yet.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    requests: mpsc::Sender<Request>,
}

/// Why a connection ended without an answer.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("it is not root's")]
    NotRoot,
    #[error("it took too long")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("it broke")]
    Io(#[from] io::Error),
    #[error("it said something else")]
    Malformed(#[from] Malformed),
    #[error("the program ends")]
    Shutdown,
}

impl Socket {
    /// Takes the place of the socket of the program before: there is one at every moment, which may not answer yet.
    pub(super) fn open(path: &Path, requests: mpsc::Sender<Request>) -> io::Result<Self> {
        let temporary = path.with_extension("new");
        gone_is_fine(fs::remove_file(&temporary))?;
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
        fs::rename(&temporary, path)?;
        Ok(Self { listener, requests })
    }

    /// Until `shutdown`.
    pub(super) async fn serve(self, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            // Cancel safe: a connection that was not taken stays with the kernel.
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, self.requests.clone(), slot))),
                Err(error) => {
                    warn!(%error, "gantry-cni cannot be listened to");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: UnixStream, requests: mpsc::Sender<Request>, _slot: OwnedSemaphorePermit) {
    if let Err(ended) = answer(stream, requests).await {
        debug!(why = with_cause(&ended), "a connection without an answer");
    }
}

async fn answer(mut stream: UnixStream, requests: mpsc::Sender<Request>) -> Result<(), Ended> {
    if stream.peer_cred()?.uid() != 0 {
        return Err(Ended::NotRoot);
    }
    let line = timeout(PATIENCE, read_line(&mut stream)).await??;
    let announcement = match Announcement::parse(&line) {
        Ok(announcement) => announcement,
        Err(error) => {
            let refused = Answer::Refused(with_cause(&error));
            timeout(PATIENCE, stream.write_all(&refused.line())).await??;
            return Err(error.into());
        }
    };
    let (reply, replied) = oneshot::channel();
    let request = Request { announcement, reply };
    requests.send(request).await.map_err(|_| Ended::Shutdown)?;
    let answer = replied.await.map_err(|_| Ended::Shutdown)?;
    timeout(PATIENCE, stream.write_all(&answer.line())).await??;
    Ok(())
}

/// At most one byte more than is allowed.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(READ_BYTES))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line)
}
