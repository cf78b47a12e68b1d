//! A node's own API on port 10250, without the API server in between.
//!
//! ```text
//! NodeApi ── whose requests: the API server's certificate, a token, nobody
//!  ├── get, send ── one request on a connection of its own -> Answer
//!  ├── open      ── the answer's body is read when the test wants it -> Reading
//!  └── raw       ── the encrypted connection itself
//! ```
//!
//! Nobody's certificate is checked: a node that kubeadm joined signs its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_chassis::tls::client_of_anyone;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response, http::request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Cluster, Machine, Test, run_dir, secs};

/// One request and its answer take no longer.
const ANSWER: Duration = secs(30);

/// What the kernel keeps for a test that does not read.
const RECEIVE_BUFFER_BYTES: u32 = 128 * 1024;

/// An encrypted connection to a node.
pub type Connection = TlsStream<TcpStream>;

/// The API of one node, with one identity.
#[derive(Clone)]
pub struct NodeApi {
    cluster: &'static Cluster,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: Option<String>,
}

/// What the node answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body, whole.
    pub body: Vec<u8>,
}

/// An answer whose body is read bit by bit. The connection is closed with this value.
pub struct Reading {
    cluster: &'static Cluster,
    /// Status code.
    pub status: u16,
    body: Incoming,
    connection: tokio::task::JoinHandle<()>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {}", self.text()))
    }

    /// `Content-Type`.
    pub fn content_type(&self) -> &str {
        let value = self.headers.get(hyper::header::CONTENT_TYPE);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Reading {
    /// The next bytes; `None` at the end. The error says when none came in time, or how the connection broke.
    pub fn next(&mut self, deadline: Duration) -> Result<Option<Bytes>, String> {
        let frame = async {
            loop {
                match self.body.frame().await {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                    Some(Err(error)) => return Err(format!("{error:?}")),
                    None => return Ok(None),
                }
            }
        };
        self.cluster
            .within(deadline, frame)
            .unwrap_or_else(|| Err(format!("nothing came in {deadline:?}")))
    }

    /// Everything until the end.
    #[track_caller]
    pub fn rest(&mut self, deadline: Duration) -> Vec<u8> {
        let body = &mut self.body;
        let all = self.cluster.within(deadline, body.collect());
        match all {
            Some(Ok(all)) => all.to_bytes().to_vec(),
            other => panic!("the answer does not end in {deadline:?}: {other:?}"),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A private key and its certificate on the control plane.
fn identity(certificate: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let machine = Machine::named("control-plane");
    let path = |extension: &str| machine.path(&format!("/etc/kubernetes/pki/{certificate}.{extension}"));
    let certificates = CertificateDer::pem_file_iter(path("crt"))
        .and_then(Iterator::collect)
        .expect("kubeadm made the certificate");
    (
        certificates,
        PrivateKeyDer::from_pem_file(Path::new(&path("key"))).expect("kubeadm made the key"),
    )
}

impl NodeApi {
    fn new(test: &Test, node: &str, tls: ClientConfig) -> Self {
        test.note_machine(node);
        Self {
            cluster: test.cluster,
            address: SocketAddr::new(test.node_ip(node), 10250),
            tls: Arc::new(tls),
            token: None,
        }
    }

    /// Requests with the certificate that the API server uses.
    pub fn of_api_server(test: &Test, node: &str) -> Self {
        Self::with_certificate(test, node, "apiserver-kubelet-client")
    }

    /// Requests with a certificate of kubeadm's on the control plane, by its name below `/etc/kubernetes/pki`.
    pub fn with_certificate(test: &Test, node: &str, certificate: &str) -> Self {
        let (certificates, key) = identity(certificate);
        let tls = client_of_anyone(rustls::DEFAULT_VERSIONS)
            .with_client_auth_cert(certificates, key)
            .expect("certificate and key belong together");
        Self::new(test, node, tls)
    }

    /// Requests with a token.
    pub fn with_token(test: &Test, node: &str, token: &str) -> Self {
        let mut api = Self::anonymous(test, node);
        api.token = Some(token.to_owned());
        api
    }

    /// The API server instead of a node, with a token.
    pub fn control_plane(test: &Test, token: &str) -> Self {
        let kubeconfig =
            kube::config::Kubeconfig::read_from(run_dir().join("kubeconfig")).expect("hack/up wrote it");
        let cluster = kubeconfig
            .clusters
            .into_iter()
            .find_map(|named| named.cluster?.server);
        let server = cluster.unwrap_or_default();
        let address = server.trim_start_matches("https://").parse();
        Self {
            cluster: test.cluster,
            address: address.unwrap_or_else(|error| panic!("{server} is not where a server is: {error}")),
            tls: Arc::new(client_of_anyone(rustls::DEFAULT_VERSIONS).with_no_client_auth()),
            token: Some(token.to_owned()),
        }
    }

    /// Requests without any credentials.
    pub fn anonymous(test: &Test, node: &str) -> Self {
        Self::with_versions(test, node, rustls::DEFAULT_VERSIONS)
    }

    /// The same, with only these versions of TLS.
    pub fn with_versions(test: &Test, node: &str, versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self::new(test, node, client_of_anyone(versions).with_no_client_auth())
    }

    /// The token of its requests.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An encrypted connection, on which nothing was said yet.
    pub fn raw(&self) -> Result<Connection, String> {
        let connect = self.connect();
        self.cluster
            .within(ANSWER, connect)
            .unwrap_or_else(|| Err(format!("no connection in {ANSWER:?}")))
    }

    async fn connect(&self) -> Result<Connection, String> {
        let connection = async {
            let socket = match self.address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
            socket.connect(self.address).await
        };
        let connection = connection.await.map_err(|error| error.to_string())?;
        let name = ServerName::from(self.address.ip());
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        tls.connect(name, connection)
            .await
            .map_err(|error| error.to_string())
    }

    /// A request with the identity's credentials.
    pub fn request(&self, method: &str, path: &str) -> request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", self.address.to_string());
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    async fn exchange(
        &self,
        request: Request<Empty<Bytes>>,
    ) -> Result<(Response<Incoming>, tokio::task::JoinHandle<()>), String> {
        let connection = TokioIo::new(self.connect().await?);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(connection)
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(async move { drop(driver.await) });
        let answer = sender.send_request(request).await;
        Ok((answer.map_err(|error| format!("{error:?}"))?, driver))
    }

    /// Sends a request and reads the answer, both in time.
    pub fn try_send(&self, request: request::Builder) -> Result<Answer, String> {
        let request = empty(request);
        let exchange = async {
            let (answer, driver) = self.exchange(request).await?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
            driver.abort();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.to_bytes().to_vec(),
            })
        };
        self.cluster
            .within(ANSWER, exchange)
            .unwrap_or_else(|| Err(format!("no answer in {ANSWER:?}")))
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str) -> Answer {
        match self.try_send(self.request(method, path)) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} https://{}{path}: {error}", self.address),
        }
    }

    /// `GET path`
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path)
    }

    /// `GET path`, whose answer is read later.
    #[track_caller]
    pub fn open(&self, path: &str) -> Reading {
        let request = empty(self.request("GET", path));
        match self.cluster.within(ANSWER, self.exchange(request)) {
            Some(Ok((answer, connection))) => Reading {
                cluster: self.cluster,
                status: answer.status().as_u16(),
                body: answer.into_body(),
                connection,
            },
            other => panic!("GET https://{}{path}: {:?}", self.address, other.map(Result::err)),
        }
    }
}

fn empty(request: request::Builder) -> Request<Empty<Bytes>> {
    request
        .body(Empty::<Bytes>::new())
        .expect("the test's request is well-formed")
}
