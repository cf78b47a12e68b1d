//! A small HTTP/1.1 server for health and metrics: exact paths with GET and HEAD, or any request at all; no body read, everything
//! bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections served at once; a further one waits. Scrapers and probes need a handful.
const CONNECTIONS: usize = 64;

/// A client has this long to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection lives at most this long, so that an idle or stalled client gives its place back.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 1024;

/// What a handler answers.
pub type Answer = Response<Full<Bytes>>;

type Handler = Arc<dyn Fn(&Request<Incoming>) -> Answer + Send + Sync>;

/// Paths and who answers them.
#[derive(Clone, Default)]
pub struct Routes {
    handlers: BTreeMap<&'static str, Handler>,
    /// Those of them that take every method.
    any: BTreeSet<&'static str>,
    other: Option<Handler>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

impl Routes {
    /// No paths: everything is 404.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers exactly `path` with `handler`, which runs on the server's task and must not block.
    #[must_use]
    pub fn get(
        mut self,
        path: &'static str,
        handler: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(path, Arc::new(handler));
        self
    }

    /// The same whatever the method.
    #[must_use]
    pub fn any(
        self,
        path: &'static str,
        handler: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let mut routes = self.get(path, handler);
        routes.any.insert(path);
        routes
    }

    /// Answers every other path, whatever the method, with `handler`.
    #[must_use]
    pub fn other(mut self, handler: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static) -> Self {
        self.other = Some(Arc::new(handler));
        self
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        let Some(handler) = self.handlers.get(request.uri().path()) else {
            return match &self.other {
                Some(handler) => handler(request),
                None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
            };
        };
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if reads || self.any.contains(request.uri().path()) {
            return handler(request);
        }
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    }
}

/// A plain text answer.
#[must_use]
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// A JSON answer.
#[must_use]
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "application/json", body)
}

/// An answer of any content type.
#[must_use]
pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Listens on `address` and serves `routes` until `shutdown`, which ends open connections too; gives back the address bound (a port
/// 0 is resolved). As with Go's listeners, the unspecified address of either family means all addresses of both.
pub async fn serve(
    address: SocketAddr,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<SocketAddr, ListenError> {
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
    let bound = match address.ip().is_unspecified() {
        true => listen(everywhere, false).or_else(|error| match error.raw_os_error() {
            Some(code) if code == Errno::AFNOSUPPORT.raw_os_error() => listen(address, true),
            _ => Err(error),
        }),
        false => listen(address, true),
    };
    start(bound, address, routes, shutdown)
}

/// The same for the family of `address` alone: the other one may have a server of its own on the port.
pub async fn serve_family(
    address: SocketAddr,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<SocketAddr, ListenError> {
    start(listen(address, true), address, routes, shutdown)
}

fn listen(address: SocketAddr, only_family: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            set_ipv6_v6only(&socket, only_family)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn start(
    listener: io::Result<TcpListener>,
    address: SocketAddr,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<SocketAddr, ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = listener.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tokio::spawn(accept(listener, routes, shutdown));
    Ok(bound)
}

async fn accept(listener: TcpListener, routes: Routes, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        // Cancel safe: accept loses no connection when it is dropped.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (routes, shutdown) = (routes.clone(), shutdown.clone());
                tokio::spawn(async move {
                    // Cancel safe: what was served is not needed any more.
                    tokio::select! {
                        () = connection(stream, routes) => {}
                        () = shutdown.cancelled() => {}
                    }
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: wait for some to be closed instead of spinning.
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, routes: Routes) {
    let service = service_fn(move |request| {
        let answer = routes.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "connection ended early"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn paths_methods_and_rubbish() {
        let shutdown = CancellationToken::new();
        let routes = Routes::new()
            .get("/healthz", |_| text(StatusCode::OK, "ok"))
            .any("/livez", |_| text(StatusCode::OK, "ok"));
        let address = "127.0.0.1:0".parse().expect("an address");
        let address = serve(address, routes, shutdown.clone()).await.expect("a server");
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let ok = ask(address, &get("/healthz")).await;
        assert!(ok.starts_with("HTTP/1.1 200") && ok.ends_with("ok"), "{ok}");
        assert!(
            ask(address, &get("/debug/pprof"))
                .await
                .starts_with("HTTP/1.1 404")
        );
        let post = "POST /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert!(ask(address, post).await.starts_with("HTTP/1.1 405"));
        let post = post.replace("/healthz", "/livez");
        assert!(ask(address, &post).await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "\0\0\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let huge = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64 * 1024));
        assert!(!ask(address, &huge).await.starts_with("HTTP/1.1 200"));
        shutdown.cancel();
    }

    #[tokio::test]
    async fn no_address_means_all_addresses_of_both_families() {
        let shutdown = CancellationToken::new();
        let routes = || Routes::new().get("/", |_| text(StatusCode::OK, "ok"));
        let get = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let any = "0.0.0.0:0".parse().expect("an address");
        let port = serve(any, routes(), shutdown.clone())
            .await
            .expect("a server")
            .port();
        for host in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(host.parse().expect("an address"), port);
            assert!(ask(address, get).await.ends_with("ok"), "{host}");
        }
        let taken = SocketAddr::new(any.ip(), port);
        assert!(serve_family(taken, routes(), shutdown.clone()).await.is_err());
        shutdown.cancel();
    }

    #[tokio::test]
    async fn any_request_is_answered_until_the_server_is_closed() {
        let shutdown = CancellationToken::new();
        let routes = Routes::new().other(|request| text(StatusCode::OK, request.uri().path().to_owned()));
        let address = "127.0.0.1:0".parse().expect("an address");
        let address = serve(address, routes, shutdown.clone()).await.expect("a server");
        let post = "POST /any/thing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert!(ask(address, post).await.ends_with("/any/thing"));
        let mut idle = TcpStream::connect(address).await.expect("a connection");
        shutdown.cancel();
        let mut rest = Vec::new();
        let ended = idle.read_to_end(&mut rest).await;
        assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
    }
}
