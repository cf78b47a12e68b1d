//! Port-forward with a client that speaks SPDY inside of a WebSocket (`SPDY/3.1+portforward.k8s.io`): the WebSocket ends
//! here, the SPDY in it is between the client and the runtime.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _, TryStreamExt as _, future::ready};
use hyper::header::{HeaderMap, UPGRADE};
use hyper::http::request;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_websockets::Message;
use tracing::debug;

use super::backend::{self, Answered};
use super::relay::{RelayError, is_web_socket};
use super::translate::spdy_request;
use super::tunnel::{Ended, tunnel};
use super::websocket::{self, Unfit};
use crate::server::Refusal;

/// What a protocol that is carried inside begins with.
const INSIDE: &str = "SPDY/3.1+";
const OURS: &str = ".k8s.io";

/// The protocols over SPDY that the client offers inside of a WebSocket.
pub(super) fn inside(headers: &HeaderMap) -> Vec<&str> {
    if !is_web_socket(headers) {
        return Vec::new();
    }
    let offered = websocket::offered(headers).filter(|protocol| protocol.ends_with(OURS));
    offered
        .filter_map(|protocol| protocol.strip_prefix(INSIDE))
        .collect()
}

/// The answer to the client, and what carries its session when that is a 101.
pub(super) async fn answer(
    url: &str,
    head: &request::Parts,
) -> Result<(Response<Bytes>, Option<Upgraded>), Refused> {
    // Before anybody is asked: the runtime prepares nothing for who could not use it.
    websocket::accept(head, "").map_err(Refused::Unfit)?;
    let asked = backend::ask(url, &spdy_request(&inside(&head.headers))).await;
    match asked.map_err(RelayError::from).map_err(Refused::Relay)? {
        Answered::Refused(answer) => Ok((answer, None)),
        Answered::Switched(chosen, stream) => {
            if !is_spdy(&chosen.headers) {
                return Err(Refused::NotSpdy);
            }
            let protocol = chosen.headers.get("x-stream-protocol-version");
            let protocol = protocol.and_then(|value| value.to_str().ok()).map(str::trim);
            let protocol = protocol.filter(|protocol| !protocol.is_empty());
            let protocol = protocol.map_or_else(String::new, |protocol| format!("{INSIDE}{protocol}"));
            let answer = websocket::accept(head, &protocol).map_err(Refused::Unfit)?;
            Ok((answer, Some(stream)))
        }
    }
}

fn is_spdy(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.to_ascii_lowercase().contains("spdy/3.1"))
}

/// Why there is no session.
pub(super) enum Refused {
    Unfit(Unfit),
    Relay(RelayError),
    NotSpdy,
}

impl Refused {
    /// In the words of the reference's libraries.
    pub(super) fn refusal(self, relay: impl FnOnce(&RelayError) -> Refusal) -> Refusal {
        match self {
            Self::Unfit(Unfit::Method) => Refusal::line(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
            Self::Unfit(Unfit::Key | Unfit::Version) => Refusal::line(StatusCode::BAD_REQUEST, "Bad Request"),
            Self::Relay(error) => relay(&error),
            Self::NotSpdy => Refusal::line(
                StatusCode::INTERNAL_SERVER_ERROR,
                "unable to upgrade: missing upgrade headers in response",
            ),
        }
    }
}

/// Carries a session to its end.
pub(super) async fn run(client: OnUpgrade, backend: Upgraded, idle: Option<Duration>) {
    let client = match client.await {
        Ok(client) => client,
        Err(error) => return debug!(%error, "client left before its session began"),
    };
    let (to_client, from_client) = websocket::open(client).split();
    let client = io::join(
        StreamReader::new(bytes_of(from_client)),
        SinkWriter::new(CopyToBytes::new(messages_of(to_client))),
    );
    match tunnel(client, TokioIo::new(backend), idle).await {
        Ended::Closed => debug!("tunnelled session ended"),
        Ended::Broken(error) => debug!(%error, "tunnelled session broke"),
        Ended::Quiet => debug!("tunnelled session was idle for too long"),
    }
}

/// The bytes in messages, to the one that says that it was the last.
fn bytes_of(
    messages: impl Stream<Item = Result<Message, tokio_websockets::Error>>,
) -> impl Stream<Item = io::Result<Bytes>> {
    let messages = messages
        .map_err(Error::other)
        .try_take_while(|said| ready(Ok(!said.is_close())));
    messages.try_filter_map(|said| {
        ready(if said.is_binary() {
            Ok(Some(said.into_payload().into()))
        } else if said.is_text() {
            Err(Error::new(
                ErrorKind::InvalidData,
                "invalid message type received",
            ))
        } else {
            Ok(None)
        })
    })
}

/// Bytes as messages.
fn messages_of(
    messages: impl Sink<Message, Error = tokio_websockets::Error>,
) -> impl Sink<Bytes, Error = Error> {
    messages
        .sink_map_err(Error::other)
        .with(|bytes: Bytes| ready(Ok::<_, Error>(Message::binary(bytes))))
}

#[cfg(test)]
mod tests {
    use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

    use super::*;

    #[test]
    fn only_spdy_inside_of_a_web_socket_is_meant() {
        let of = |upgrade: &'static str, protocols: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
            inside(&headers).join(" ")
        };
        assert_eq!(
            of("websocket", "SPDY/3.1+portforward.k8s.io"),
            "portforward.k8s.io"
        );
        assert_eq!(
            of("websocket", "x, SPDY/3.1+portforward.k8s.io,SPDY/3.1+y"),
            "portforward.k8s.io"
        );
        assert_eq!(of("websocket", "v4.channel.k8s.io"), "");
        assert_eq!(of("SPDY/3.1", "SPDY/3.1+portforward.k8s.io"), "");
    }

    #[tokio::test]
    async fn messages_are_bytes_until_the_last_one() {
        let said = [
            Message::binary("ab"),
            Message::ping("x"),
            Message::binary(""),
            Message::binary("c"),
            Message::close(None, ""),
            Message::binary("unheard"),
        ];
        let heard: Vec<Bytes> = bytes_of(futures::stream::iter(said.map(Ok)))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(heard.concat(), b"abc");
        let text = bytes_of(futures::stream::iter([Ok(Message::text("x"))]))
            .try_collect::<Vec<_>>()
            .await;
        assert_eq!(text.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
