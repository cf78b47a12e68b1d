//! From a kubeconfig file to a `kube::Client`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::http::uri::{Scheme, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::ServiceBuilder;

use crate::identity::FileIdentity;
use crate::in_pod;
use crate::lanes::Lanes;
use crate::requests::{Counted, Requests};

/// How long a TCP and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An idle connection is asked this often whether it still lives, and has as long to answer: a lost API server is
/// noticed well within the node's lease of 40 s (kubernetes/kubernetes#87615).
const PING: Duration = Duration::from_secs(10);

/// Unacknowledged data ends the connection after this (tcp(7), TCP_USER_TIMEOUT).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no client. All are final: the file has to change.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file is missing or is no kubeconfig.
    #[error("cannot read kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// No kubeconfig, and this process is in no pod.
    #[error("neither a kubeconfig nor an address is given, and this is no pod of a cluster")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The address is none.
    #[error("{address} is not the address of an API server")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        source: hyper::http::uri::InvalidUri,
    },
    /// The credentials or certificates that the kubeconfig names cannot be used.
    #[error("kubeconfig {path}: credentials or certificates cannot be used")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: Box<kube::Error>,
    },
}

/// Which API server, and how to get in.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// The kubeconfig file. Without one and without an address: that of the cluster whose pod this process runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The address, whatever the kubeconfig says.
    pub address: Option<String>,
    /// Where there is no `kubeconfig`, somebody else's that says where the API server is; this pod's service account gets in.
    pub server_from: Option<PathBuf>,
}

/// A client for the cluster and user of the current context of the kubeconfig at `path`.
///
/// No connection is opened before the first request, so an unreachable API server is not an error here. Each call
/// makes connections of its own: the node's lease uses a second client so that no other traffic can delay it.
pub async fn connect(path: &Path, user_agent: &str) -> Result<kube::Client, ConnectError> {
    connect_counted(path, user_agent, &Requests::default()).await
}

/// As [`connect`], with the requests counted in `requests`.
pub async fn connect_counted(
    path: &Path,
    user_agent: &str,
    requests: &Requests,
) -> Result<kube::Client, ConnectError> {
    let server = Server {
        kubeconfig: Some(path.into()),
        ..Server::default()
    };
    connect_to(&server, user_agent, requests).await
}

/// As [`connect_counted`], to any server.
pub async fn connect_to(
    server: &Server,
    user_agent: &str,
    requests: &Requests,
) -> Result<kube::Client, ConnectError> {
    let address = |text: &String| {
        let whole = if text.contains("://") {
            text.clone()
        } else {
            format!("http://{text}")
        };
        whole.parse().map_err(|source| ConnectError::Address {
            address: text.clone(),
            source,
        })
    };
    let wanted = server.address.as_ref().map(address).transpose()?;
    let mut config = match (&server.kubeconfig, &server.server_from, &wanted) {
        (Some(path), _, _) => from_file(path).await?,
        (None, Some(path), _) => as_pod(path).await?,
        (None, None, Some(address)) => Config::new(Uri::clone(address)),
        (None, None, None) => {
            Config::incluster().map_err(|source| ConnectError::InCluster(Box::new(source)))?
        }
    };
    if let Some(address) = wanted {
        config.cluster_url = address;
    }
    let path = server.kubeconfig.as_ref().or(server.server_from.as_ref());
    let path = path.cloned().unwrap_or_default();
    client(config, user_agent, requests).map_err(|source| ConnectError::Credentials {
        path,
        source: Box::new(source),
    })
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let unreadable = |source| unreadable(path, source);
    let kubeconfig = Kubeconfig::read_from(path).map_err(unreadable)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(unreadable)
}

async fn as_pod(path: &Path) -> Result<Config, ConnectError> {
    let unreadable = |source| unreadable(path, source);
    let kubeconfig = Kubeconfig::read_from(path).map_err(unreadable)?;
    in_pod::config(kubeconfig).await.map_err(unreadable)
}

fn unreadable(path: &Path, source: KubeconfigError) -> ConnectError {
    ConnectError::Kubeconfig {
        path: path.into(),
        source: Box::new(source),
    }
}

fn client(mut config: Config, user_agent: &str, requests: &Requests) -> Result<kube::Client, kube::Error> {
    if let Ok(value) = user_agent.parse() {
        config.headers.push((hyper::header::USER_AGENT, value));
    }
    // Over TLS the API server always speaks HTTP/2; an http:// address (kubectl proxy, tests) speaks HTTP/1.1.
    let http2 = config.cluster_url.scheme() == Some(&Scheme::HTTPS);
    if !http2 {
        // The system's roots are of no use, and our image has none.
        config.root_cert.get_or_insert_default();
    }
    let mut tls = config.rustls_client_config()?;
    if let Some(identity) = FileIdentity::of(&config.auth_info) {
        tls.client_auth_cert_resolver = identity;
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http2()
        .wrap_connector(http);
    let lanes = Lanes::new(|| {
        HttpClient::builder(TokioExecutor::new())
            .http2_only(http2)
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_keep_alive_while_idle(true)
            .build(connector.clone())
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(Counted::new(lanes, requests.clone()));
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
