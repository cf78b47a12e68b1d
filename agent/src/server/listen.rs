//! The sockets: who may connect, how long he may take, and what he may send.
//!
//! ```text
//! accept ── a place (CONNECTIONS) ──> TLS handshake (HANDSHAKE) ──> requests
//!             │ nobody known after STRANGER: closed
//!             └ no request under way for IDLE: closed
//! ```
//!
//! A place is held until the connection ends; one that was upgraded (exec, attach, port-forward) gives it back when
//! its streams begin. Clients that are gone without a word are found by TCP keep-alive and HTTP/2 pings.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::connection::{self, Service};

/// Connections at the same time. The API server opens one for each log that somebody follows.
const CONNECTIONS: usize = 4096;
/// A TLS handshake takes at most this long.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A silent peer is asked this often whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// It cannot listen. Final: somebody else has the port, or the address is not this machine's.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub(crate) struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A socket that listens.
pub(crate) struct Listener {
    socket: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener {
    /// Listens. `0.0.0.0` means every address of both families, as Go's `net.Listen` takes it.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        let wide = if address.ip().is_unspecified() {
            TcpListener::bind(both).await.ok()
        } else {
            None
        };
        let socket = match wide {
            Some(socket) => socket,
            None => TcpListener::bind(address)
                .await
                .map_err(|source| ListenError { address, source })?,
        };
        Ok(Self {
            socket,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Serves until it is dropped; with TLS when `tls` is given. Cancel safe: connections end with the runtime.
    pub(crate) async fn serve(self, service: Service, tls: Option<TlsAcceptor>) {
        info!(address = ?self.address(), tls = tls.is_some(), "API");
        loop {
            let place = self
                .places
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    watch_peer(&stream);
                    tokio::spawn(attend(stream, service.clone(), tls.clone(), place));
                }
                // Out of file descriptors, most likely: wait for some to be closed instead of spinning.
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn attend(stream: TcpStream, service: Service, tls: Option<TlsAcceptor>, _place: OwnedSemaphorePermit) {
    let Some(tls) = tls else {
        return connection::serve(stream, service, Vec::new()).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let chain = stream
                .get_ref()
                .1
                .peer_certificates()
                .unwrap_or_default()
                .to_vec();
            connection::serve(stream, service, chain).await;
        }
        Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
        Err(_) => debug!("TLS handshake took too long"),
    }
}

/// Small answers go out at once; a peer that is gone is found.
fn watch_peer(stream: &TcpStream) {
    let set = stream
        .set_nodelay(true)
        .and_then(|()| sockopt::set_socket_keepalive(stream, true).map_err(Into::into))
        .and_then(|()| sockopt::set_tcp_keepidle(stream, KEEP_ALIVE).map_err(Into::into))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE).map_err(Into::into));
    if let Err(error) = set {
        debug!(%error, "cannot set the options of a connection");
    }
}
