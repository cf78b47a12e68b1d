//! One streaming request, from the client's upgrade to the end of its tunnel.
//!
//! * Inputs: the request, the URL that the runtime prepared. Output: what the client is answered.
//! * Tasks: after a 101, one for the tunnel, which ends with either connection. Before that nothing outlives the
//!   request: a client that goes away takes the backend's connection with it.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderMap, UPGRADE};
use hyper::http::request;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tracing::{Instrument as _, debug};

use super::backend::{self, Answered, BackendError};
use super::tunnel::{Ended, tunnel};

/// A request that ends here: 500, as in the reference.
#[derive(Debug, Error)]
pub(super) enum RelayError {
    #[error("Upgrade request required")]
    NoUpgrade,
    /// Bytes after the head would be taken for the new protocol.
    #[error("an upgrade request must not have a body")]
    Body,
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Asks the backend at `url`; when it switches, the client is told so and a task copies bytes from then on. Nothing may
/// move for no longer than `idle`.
pub(super) async fn relay<B: Body>(
    request: Request<B>,
    url: &str,
    idle: Option<Duration>,
) -> Result<Response<Bytes>, RelayError> {
    let (head, client) = upgraded(request)?;
    match backend::ask(url, &head).await? {
        Answered::Refused(answer) => Ok(answer),
        Answered::Switched(answer, backend) => {
            let session = async move {
                let client = match client.await {
                    Ok(client) => client,
                    Err(error) => return debug!(%error, "client left before its session began"),
                };
                match tunnel(TokioIo::new(client), TokioIo::new(backend), idle).await {
                    Ended::Closed => debug!("streaming session ended"),
                    Ended::Broken(error) => debug!(%error, "streaming session broke"),
                    Ended::Quiet => debug!("streaming session was idle for too long"),
                }
            };
            tokio::spawn(session.in_current_span());
            let mut switched = Response::new(Bytes::new());
            *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *switched.headers_mut() = answer.headers;
            Ok(switched)
        }
    }
}

/// The head of a request that can become something else, and what it becomes after a 101.
pub(super) fn upgraded<B: Body>(request: Request<B>) -> Result<(request::Parts, OnUpgrade), RelayError> {
    if !wants_upgrade(request.headers()) {
        return Err(RelayError::NoUpgrade);
    }
    if !request.body().is_end_stream() {
        return Err(RelayError::Body);
    }
    let (mut head, _) = request.into_parts();
    let client = head.extensions.remove::<OnUpgrade>();
    Ok((head, client.ok_or(RelayError::NoUpgrade)?))
}

/// `Connection: Upgrade`, as the reference looks at it.
fn wants_upgrade(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONNECTION).iter();
    values.any(|value| {
        value
            .to_str()
            .is_ok_and(|v| v.to_ascii_lowercase().contains("upgrade"))
    })
}

/// An upgrade to WebSocket, whatever is spoken over it.
pub(super) fn is_web_socket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE);
    wants_upgrade(headers) && upgrade.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests;
