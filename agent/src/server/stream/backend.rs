//! The runtime's streaming server: connect, hand the client's upgrade request over, read what it answers.
//!
//! * Only a 101 makes a tunnel. Any other answer is an answer, and its connection is closed: bytes that follow a refused
//!   upgrade must never reach the backend (CVE-2018-1002105).
//! * Only the address that the runtime gave is connected to; a redirection is an error.
//! * The client's credentials are for us and are not passed on.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::{request, response};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// The backend is on this machine.
const CONNECT: Duration = Duration::from_secs(10);
/// To the head of its answer: it has all that it needs and starts nothing before the upgrade.
const ANSWER: Duration = Duration::from_secs(30);
/// To the end of an answer that refuses, and its size in bytes.
const REFUSAL: Duration = Duration::from_secs(10);
const REFUSAL_BYTES: usize = 1024 * 1024;

/// What the backend answered.
pub(super) enum Answered {
    /// It speaks the protocol that was asked for from now on. The head goes to the client.
    Switched(response::Parts, Upgraded),
    /// It does not want to; for the client, as it is.
    Refused(Response<Bytes>),
}

/// No answer that could be passed on: 500.
#[derive(Debug, Error)]
pub(super) enum BackendError {
    #[error("the container runtime's streaming address {url:?} is none that can be connected to")]
    Address { url: String },
    #[error("error dialing backend: dial tcp {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no answer from the container runtime's streaming server")]
    Silent,
    #[error("the container runtime's streaming server broke off")]
    Broken(#[from] hyper::Error),
    #[error("the container runtime's streaming server refused, but not why")]
    Refusal(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("invalid upgrade response: status code {}", status.as_u16())]
    NotSwitched { status: StatusCode },
}

/// Sends the client's request to `url` and waits for the answer. Cancel safe in the sense that dropping it closes the
/// connection.
pub(super) async fn ask(url: &str, client: &request::Parts) -> Result<Answered, BackendError> {
    let bad = || BackendError::Address { url: url.to_owned() };
    let url: Uri = url.parse().map_err(|_| bad())?;
    if url.scheme_str() != Some("http") {
        return Err(bad());
    }
    let (host, port) = (url.host().ok_or_else(bad)?, url.port_u16().unwrap_or(80));
    let stream = connect(host, port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends by itself with the upgrade, and with this function otherwise.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let answer = timeout(ANSWER, sender.send_request(forwarded(&url, client)));
    let mut answer = answer.await.map_err(|_| BackendError::Silent)??;
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let stream = hyper::upgrade::on(&mut answer).await?;
        return Ok(Answered::Switched(answer.into_parts().0, stream));
    }
    if status.as_u16() < 400 {
        return Err(BackendError::NotSwitched { status });
    }
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, REFUSAL_BYTES).collect();
    let body = timeout(REFUSAL, body).await.map_err(|_| BackendError::Silent)?;
    let body = body.map_err(BackendError::Refusal)?.to_bytes();
    Ok(Answered::Refused(refused(head, body)))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, BackendError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = timeout(CONNECT, TcpStream::connect((host, port))).await;
    let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let failed = |source| BackendError::Connect {
        address: format!("{host}:{port}"),
        source,
    };
    let stream = connected.map_err(failed)?;
    // Keystrokes do not wait for company.
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// The client's request as the backend gets it.
fn forwarded(url: &Uri, client: &request::Parts) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = client.method.clone();
    let path = url.path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    *request.headers_mut() = client.headers.clone();
    let headers = request.headers_mut();
    headers.remove(AUTHORIZATION);
    let authority = url
        .authority()
        .and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let (false, Some(authority)) = (headers.contains_key(HOST), authority) {
        headers.insert(HOST, authority);
    }
    request
}

/// The backend's answer as the client gets it: whole, so with a length of our own; the connection is over.
fn refused(mut head: response::Parts, body: Bytes) -> Response<Bytes> {
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Response::from_parts(head, body)
}
