//! Bytes both ways between two connections that no longer speak HTTP.
//!
//! ```text
//! client ── read ─> buffer ─ write ─> backend      an end of input is passed on as an end of output, so what the
//! client <─ write ─ buffer <─ read ── backend      other side still has to say arrives; then both are closed
//! ```
//!
//! * One task, no channel: a side that does not read stops the other one, and nothing is held but one buffer each way.
//!   Buffers begin small, because most sessions only carry keystrokes, and grow once for those that carry files.
//! * It ends when both sides have ended, when the client breaks, or when nothing moved for a time.
//! * A backend that breaks has ended. What it said before still arrives, however much its client has yet to say to it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// The buffer of a session that carries keystrokes, in bytes.
pub(super) const SMALL: usize = 4 * 1024;
/// The buffer once a read has filled the small one, in bytes: four TLS records.
pub(super) const LARGE: usize = 64 * 1024;
/// One side has ended: so long may nothing come from the other before both are closed. The reference waits for nothing.
const LINGER: Duration = Duration::from_secs(10);

/// Why a tunnel ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Both sides said that they have no more.
    Closed,
    /// The client's connection broke.
    Broken(io::Error),
    /// Nothing moved for too long.
    Quiet,
}

/// Which side of a copy failed.
enum Failed {
    Reading(io::Error),
    Writing(io::Error),
}

/// When bytes moved last, in milliseconds since the start.
pub(super) struct Moves {
    start: Instant,
    last_ms: AtomicU64,
}

/// Copies until the end. `idle` is how long nothing may move; `None` is for ever.
pub(super) async fn tunnel<C, B>(client: C, backend: B, idle: Option<Duration>) -> Ended
where
    C: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = io::split(client);
    let (from_backend, to_backend) = io::split(backend);
    let moves = Moves::new();
    let mut up = pin!(up(from_client, to_backend, &moves));
    let mut down = pin!(down(from_backend, to_client, &moves));
    let (mut up_runs, mut down_runs) = (true, true);
    while up_runs || down_runs {
        let limit = if up_runs && down_runs { idle } else { Some(LINGER) };
        // Cancel safe: both copies stay and go on where they were; waiting has no state of its own.
        let result = tokio::select! {
            result = &mut up, if up_runs => { up_runs = false; result }
            result = &mut down, if down_runs => { down_runs = false; result }
            () = moves.quiet_for(limit) => return Ended::Quiet,
        };
        if let Err(error) = result {
            return Ended::Broken(error);
        }
    }
    Ended::Closed
}

/// What the client says; an error is the client's. Nobody hears it once the backend is broken.
async fn up(
    mut client: impl AsyncRead + Unpin,
    backend: impl AsyncWrite + Unpin,
    moves: &Moves,
) -> io::Result<()> {
    match copy(&mut client, backend, moves).await {
        Ok(()) => Ok(()),
        Err(Failed::Reading(error)) => Err(error),
        Err(Failed::Writing(error)) => {
            debug!(%error, "the runtime's end of a streaming session takes no more");
            io::copy(&mut client, &mut io::sink()).await.map(drop)
        }
    }
}

/// What the backend says; an error is the client's.
async fn down(
    backend: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    moves: &Moves,
) -> io::Result<()> {
    match copy(backend, &mut client, moves).await {
        Ok(()) => Ok(()),
        Err(Failed::Writing(error)) => Err(error),
        Err(Failed::Reading(error)) => {
            debug!(%error, "the runtime's end of a streaming session broke");
            client.shutdown().await
        }
    }
}

/// One way, to the end of the input, which is passed on.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moves: &Moves,
) -> Result<(), Failed> {
    let mut buffer = vec![0; SMALL];
    loop {
        let count = from.read(&mut buffer).await.map_err(Failed::Reading)?;
        if count == 0 {
            return to.shutdown().await.map_err(Failed::Writing);
        }
        moves.note();
        to.write_all(&buffer[..count]).await.map_err(Failed::Writing)?;
        to.flush().await.map_err(Failed::Writing)?;
        moves.note();
        if count == SMALL && buffer.len() == SMALL {
            buffer = vec![0; LARGE];
        }
    }
}

// === impl Moves ===

impl Moves {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn note(&self) {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(passed, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for `limit`.
    pub(super) async fn quiet_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let due = self.start + last + limit;
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::testing::DEADLINE;

    /// Both outer ends and the tunnel between.
    fn start(idle: Option<Duration>) -> (io::DuplexStream, io::DuplexStream, tokio::task::JoinHandle<Ended>) {
        let (client, inner_client) = duplex(1024);
        let (backend, inner_backend) = duplex(1024);
        let task = tokio::spawn(tunnel(inner_client, inner_backend, idle));
        (client, backend, task)
    }

    async fn end(task: tokio::task::JoinHandle<Ended>) -> Ended {
        tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn an_end_of_input_is_passed_on_and_the_answer_still_arrives() {
        let (mut client, mut backend, task) = start(None);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        backend.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        backend.write_all(b"answer").await.unwrap();
        drop(backend);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        assert!(matches!(end(task).await, Ended::Closed));
    }

    #[tokio::test]
    async fn large_amounts_pass_both_ways_at_once() {
        let (client, backend, task) = start(None);
        let data: Vec<u8> = (0..1_000_000_u32)
            .map(|n| n.to_le_bytes()[n as usize % 3])
            .collect();
        let side = |stream: io::DuplexStream| {
            let sent = data.clone();
            async move {
                let (mut read, mut write) = io::split(stream);
                let writing = async move {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                let (_, result) = tokio::join!(writing, read.read_to_end(&mut got));
                result.unwrap();
                got
            }
        };
        let (at_client, at_backend) = tokio::join!(side(client), side(backend));
        assert!(at_client == data && at_backend == data);
        assert!(matches!(end(task).await, Ended::Closed));
    }

    #[tokio::test]
    async fn the_last_words_of_a_backend_arrive_while_its_client_talks() {
        for _ in 0..50 {
            let (mut client, mut backend, task) = start(None);
            backend.write_all(b"last words").await.unwrap();
            client.write_all(b"unheard").await.unwrap();
            drop(backend);
            client.write_all(b"unheard, too").await.unwrap();
            let mut words = String::new();
            client.read_to_string(&mut words).await.unwrap();
            assert_eq!(words, "last words");
            drop(client);
            assert!(matches!(end(task).await, Ended::Closed));
        }
    }

    #[tokio::test]
    async fn a_broken_client_ends_the_other() {
        let (client, mut backend, task) = start(None);
        drop(client);
        // The backend does not end, but its words reach nobody.
        backend.write_all(&[0; 10]).await.unwrap();
        assert!(matches!(end(task).await, Ended::Broken(_)));
        assert_eq!(backend.read(&mut [0; 10]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_ends_it_and_bytes_keep_it() {
        let idle = Duration::from_secs(60);
        let (mut client, mut backend, task) = start(Some(idle));
        let started = Instant::now();
        for _ in 0..5 {
            tokio::time::sleep(idle / 2).await;
            client.write_all(b"x").await.unwrap();
            backend.read_u8().await.unwrap();
        }
        assert!(matches!(task.await.unwrap(), Ended::Quiet));
        let lasted = started.elapsed();
        assert!(lasted >= idle * 7 / 2 && lasted < idle * 4, "{lasted:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_goes_on_after_its_client_left_is_cut_off() {
        let (client, backend, task) = start(None);
        let started = Instant::now();
        drop(client);
        assert!(matches!(task.await.unwrap(), Ended::Quiet));
        assert_eq!(started.elapsed(), LINGER);
        drop(backend);
    }
}
