//! The WebSocket of a session that is translated here: its handshake, and the socket after it (RFC 6455).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request;
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::digest;
use tokio_websockets::{Limits, ServerBuilder, WebSocketStream};

/// What every accepted key is hashed with (RFC 6455, 1.3).
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The largest message of a client in bytes: as in the reference.
const MAX_MESSAGE: usize = 32 << 20;
const VERSION: &str = "13";

/// The client's socket.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is no GET.
    Method,
    /// It lacks a key.
    Key,
    /// It speaks another version.
    Version,
}

/// The protocols that a client offers, its favourite first.
pub(super) fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let text = headers
        .get(SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok());
    text.unwrap_or_default().split(',').map(str::trim)
}

/// The answer that makes the request a WebSocket with this protocol; an empty one is none.
///
/// # Errors
/// Says what the request lacks.
pub(super) fn accept(request: &request::Parts, protocol: &str) -> Result<Response<Bytes>, Unfit> {
    if request.method != Method::GET {
        return Err(Unfit::Method);
    }
    let key = request
        .headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| !key.is_empty());
    let key = key.ok_or(Unfit::Key)?;
    if request
        .headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != VERSION)
    {
        return Err(Unfit::Version);
    }
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, text) in [
        (SEC_WEBSOCKET_ACCEPT, accepted(key.as_bytes()).as_str()),
        (SEC_WEBSOCKET_PROTOCOL, protocol),
    ] {
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(text)) {
            headers.insert(name, value);
        }
    }
    Ok(answer)
}

fn accepted(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(SALT);
    STANDARD.encode(hash.finish())
}

/// The socket, once the client has been answered.
pub(super) fn open(client: Upgraded) -> Socket {
    let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE));
    ServerBuilder::new().limits(limits).serve(TokioIo::new(client))
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use proptest::prelude::*;

    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        let headers = [
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        let answer = accept(&request("GET", &headers), "p").unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(
            answer.headers()[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "p");
        let answer = accept(&request("GET", &headers), "").unwrap();
        assert!(!answer.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        let unfit = |request: request::Parts| accept(&request, "p").err();
        assert_eq!(unfit(request("POST", &headers)), Some(Unfit::Method));
        assert_eq!(unfit(request("GET", &headers[1..])), Some(Unfit::Key));
        assert_eq!(unfit(request("GET", &headers[..1])), Some(Unfit::Version));
    }

    #[test]
    fn protocols_are_offered_between_commas() {
        let parts = request(
            "GET",
            &[("Sec-WebSocket-Protocol", "v5.channel.k8s.io, v4.channel.k8s.io")],
        );
        let all: Vec<_> = offered(&parts.headers).collect();
        assert_eq!(all, ["v5.channel.k8s.io", "v4.channel.k8s.io"]);
    }

    proptest! {
        #[test]
        fn any_header_is_accepted_or_unfit(
            key in prop::collection::vec(32_u8.., 0..40),
            protocols in prop::collection::vec(32_u8.., 0..40),
            version in "13|[0-9]{0,3}",
        ) {
            let mut parts = request("GET", &[("Sec-WebSocket-Version", &version)]);
            for (name, value) in [(SEC_WEBSOCKET_KEY, key), (SEC_WEBSOCKET_PROTOCOL, protocols)] {
                parts.headers.extend(HeaderValue::from_bytes(&value).ok().map(|value| (name, value)));
            }
            for protocol in offered(&parts.headers) {
                if let Ok(answer) = accept(&parts, protocol) {
                    prop_assert_eq!(&version, VERSION);
                    prop_assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT].len(), 28);
                }
            }
        }
    }
}
