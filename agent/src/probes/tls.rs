//! TLS for probes and hooks: encrypted, but nobody's certificate is checked. The API says so: a probe talks to a pod
//! by its address, no certificate can name that. No credentials ever go over these connections.

use std::sync::{Arc, LazyLock};

use gantry_chassis::tls::client_of_anyone;
use tokio_rustls::TlsConnector;

static CONNECTOR: LazyLock<TlsConnector> = LazyLock::new(|| {
    let config = client_of_anyone(rustls::DEFAULT_VERSIONS).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
});

/// The connector, made at the first use.
pub(super) fn connector() -> &'static TlsConnector {
    &CONNECTOR
}
