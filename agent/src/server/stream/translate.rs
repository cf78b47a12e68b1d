//! A session of exec or attach with a client that speaks `v5.channel.k8s.io`: a WebSocket here, SPDY to the runtime,
//! whose own WebSockets cannot say that input has ended.
//!
//! ```text
//! client ══ WebSocket ══ up ── data, ends of streams ──> SPDY ══ the runtime
//!                        down <── output, status ──
//! ```
//!
//! * One task for each session. Nothing is queued: a side that does not read stops the other one, so the session holds a
//!   block each way, and a message of the client while it is passed on.
//! * It ends with the runtime's last word, when the client leaves, or when nothing moved for a time; then both
//!   connections are closed. The client is always told how it ended when it is still there; when it has gone, the
//!   runtime is told that the input has ended.

use std::pin::pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use gantry_agent_core::streaming::Streams;
use gantry_agent_core::streaming::spdy::{self, Decoder, Encoder, MAX_DATA, SpdyError};
use gantry_agent_core::streaming::v5::{self, Heard, Lanes, Output, Said};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::http::request;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_websockets::Message;
use tracing::debug;

use super::backend::{self, Answered};
use super::tunnel::{LARGE, Moves, SMALL};
use super::websocket::{self, Socket};
use crate::report::Chain;

/// A client that takes nothing any more may delay the end of its session by this.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// After its client has gone, the runtime has this long to see that the input has ended.
const LINGER: Duration = Duration::from_secs(1);
/// Pings of the runtime that wait for input to be passed on; more are not answered.
const PINGS: usize = 4;
/// What is spoken with the runtime.
const WITH_RUNTIME: &str = "v4.channel.k8s.io";

/// A session to be held.
pub(super) struct Session {
    /// Where the runtime expects it.
    pub(super) url: String,
    pub(super) streams: Streams,
    /// Nothing may move for no longer; `None` is for ever.
    pub(super) idle: Option<Duration>,
}

/// The client is not there any more.
struct Gone;

impl Session {
    /// Holds it, to its end.
    pub(super) async fn run(self, client: OnUpgrade) {
        let client = match client.await {
            Ok(client) => client,
            Err(error) => return debug!(%error, "client left before its session began"),
        };
        let (mut to_client, mut from_client) = websocket::open(client).split();
        let lanes = Lanes::new(self.streams);
        if to_client.send(message(lanes.greeting(), &[])).await.is_err() {
            return;
        }
        let status = match ask(&self.url, &[WITH_RUNTIME]).await {
            Ok(backend) => {
                self.carry(lanes, (&mut to_client, &mut from_client), backend)
                    .await
            }
            Err(why) => Ok(v5::failure(&why)),
        };
        let last = async {
            if let Ok(status) = status {
                to_client
                    .send(message(v5::STATUS, status.to_string().as_bytes()))
                    .await?;
            }
            to_client.close().await
        };
        match timeout(LAST_WORDS, last).await {
            Ok(Ok(())) => debug!("translated session ended"),
            Ok(Err(error)) => debug!(%error, "translated session broke"),
            Err(_) => debug!("client took no last words"),
        }
    }

    /// From the first stream to the runtime's last word, which is the client's status.
    async fn carry(
        &self,
        lanes: Lanes,
        (to_client, from_client): (&mut ToClient, &mut FromClient),
        backend: Upgraded,
    ) -> Result<Value, Gone> {
        let (mut from_backend, to_backend) = io::split(TokioIo::new(backend));
        let mut to_backend = BufWriter::with_capacity(spdy_buffer(), to_backend);
        let (pings, pinged) = mpsc::channel(PINGS);
        let moves = Moves::new();
        let ended = {
            let up = pin!(up(lanes, from_client, &mut to_backend, pinged, &moves));
            let down = pin!(down(lanes, &mut from_backend, to_client, pings, &moves));
            tokio::select! {
                // The session ends with any of them, so nothing is lost that somebody would still read.
                status = down => status,
                () = up => Err(Gone),
                () = moves.quiet_for(self.idle) => Err(Gone),
            }
        };
        if let (Err(Gone), Some(stdin)) = (&ended, lanes.stdin()) {
            let _ = timeout(LINGER, end_input(stdin, to_backend, from_backend)).await;
        }
        ended
    }
}

/// Tells a command whose client has gone that its input has ended, and waits for the runtime to go, too. containerd
/// closes a command's input only as long as it has the connection.
async fn end_input(
    stdin: u32,
    mut to: impl AsyncWrite + Unpin,
    mut from: impl AsyncRead + Unpin,
) -> io::Result<()> {
    to.write_all(&spdy::data_head(stdin, 0, true)).await?;
    to.flush().await?;
    io::copy(&mut from, &mut io::sink()).await?;
    Ok(())
}

/// Where messages for the client go.
type ToClient = SplitSink<Socket, Message>;
/// Where messages of the client come from.
type FromClient = SplitStream<Socket>;

/// The runtime's end of a session, in SPDY with one of these protocols, or why there is none.
async fn ask(url: &str, protocols: &[&str]) -> Result<Upgraded, String> {
    match backend::ask(url, &spdy_request(protocols)).await {
        Ok(Answered::Switched(_, stream)) => Ok(stream),
        Ok(Answered::Refused(answer)) => {
            let why = String::from_utf8_lossy(answer.body()).into_owned();
            Err(format!("unable to upgrade connection: {why}"))
        }
        Err(error) => Err(Chain(&error).to_string()),
    }
}

/// The upgrade to SPDY that a client of the runtime asks for.
pub(super) fn spdy_request(protocols: &[&str]) -> request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = Method::POST;
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    for value in protocols
        .iter()
        .filter_map(|protocol| HeaderValue::from_str(protocol).ok())
    {
        head.headers.append("x-stream-protocol-version", value);
    }
    head
}

/// What the client says, until it leaves. Nobody hears it once the runtime has gone.
async fn up(
    lanes: Lanes,
    from: &mut FromClient,
    to: &mut (impl AsyncWrite + Unpin),
    mut pinged: mpsc::Receiver<u32>,
    moves: &Moves,
) {
    let mut encoder = Encoder::default();
    let mut heard = Ok(());
    for (stream, kind) in lanes.opened() {
        if heard.is_ok() {
            heard = to.write_all(&encoder.open(stream, &[("streamtype", kind)])).await;
        }
    }
    loop {
        if heard.is_ok() {
            heard = to.flush().await;
        }
        let said = tokio::select! {
            // Cancel safe: a message is taken whole or not at all.
            said = from.next() => said,
            // Cancel safe, by tokio's documentation.
            Some(id) = pinged.recv() => {
                if heard.is_ok() {
                    heard = to.write_all(&spdy::pong(id)).await;
                }
                continue;
            }
        };
        let Some(Ok(said)) = said else { return };
        if said.is_close() {
            return;
        }
        moves.note();
        if said.is_ping() || said.is_pong() {
            continue;
        }
        let said = lanes.said(said.as_payload());
        if said == Said::Nonsense {
            return debug!("a message that no client of this protocol sends");
        }
        if heard.is_ok() {
            heard = pass_on(said, to).await;
        }
        moves.note();
    }
}

const fn spdy_buffer() -> usize {
    MAX_DATA + 8
}

async fn pass_on(said: Said<'_>, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    match said {
        Said::Data { stream, bytes } => {
            for piece in bytes.chunks(MAX_DATA) {
                to.write_all(&spdy::data_head(stream, piece.len(), false)).await?;
                to.write_all(piece).await?;
            }
            Ok(())
        }
        Said::End { stream } => to.write_all(&spdy::data_head(stream, 0, true)).await,
        Said::Nothing | Said::Nonsense => Ok(()),
    }
}

/// What the runtime says, until it has said all: the status for the client.
async fn down(
    lanes: Lanes,
    mut from: impl AsyncRead + Unpin,
    to: &mut ToClient,
    pings: mpsc::Sender<u32>,
    moves: &Moves,
) -> Result<Value, Gone> {
    let (mut decoder, mut output) = (Decoder::default(), Output::new(lanes));
    let (mut buffer, mut room) = (BytesMut::new(), SMALL);
    loop {
        loop {
            let (used, frame) = match decoder.next(&buffer) {
                Ok((used, Some(frame))) => (used, frame),
                Ok((_, None)) => break,
                Err(error) => return Ok(nonsense(&error)),
            };
            match output.take(frame) {
                Heard::Message { channel, bytes } => {
                    to.feed(message(channel, bytes)).await.map_err(|_| Gone)?;
                }
                // It has enough to do when the queue is full.
                Heard::Ping(id) => drop(pings.try_send(id)),
                Heard::Nothing => {}
            }
            buffer.advance(used);
        }
        to.flush().await.map_err(|_| Gone)?;
        moves.note();
        if output.is_over() {
            return Ok(output.status());
        }
        buffer.reserve(room);
        let count = from.read_buf(&mut buffer).await.unwrap_or_else(|error| {
            debug!(%error, "the runtime's end of a translated session broke");
            0
        });
        if count == 0 {
            return Ok(output.status());
        }
        moves.note();
        if count >= SMALL {
            room = LARGE;
        }
    }
}

fn nonsense(error: &SpdyError) -> Value {
    v5::failure(&error.to_string())
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut content = BytesMut::with_capacity(1 + bytes.len());
    content.extend_from_slice(&[channel]);
    content.extend_from_slice(bytes);
    Message::binary(Bytes::from(content))
}

#[cfg(test)]
mod tests;
