//! The agent's certificates from the API server's signers: the client's, first by TLS bootstrap, later by rotation; and
//! the serving one, when `serverTLSBootstrap` is set ([`serving`]).
//!
//! ```text
//! --kubeconfig usable? -- yes --> done
//!   no: bootstrap kubeconfig -> key -> CSR -> (approval) -> certificate -> store -> write --kubeconfig
//! rotation: at 70-90 % of its life: key -> CSR with the old certificate -> store
//! ```
//!
//! Files, all as kubelet's because kubeadm looks at them: `<cert-dir>/kubelet-client-<time>.pem` (certificate, then
//! key), the symbolic link `kubelet-client-current.pem` to the newest, and `kubelet-client.key.tmp`, the key of a
//! request under way, so that a restart continues the same request. The same with `kubelet-server-` for the serving
//! certificate.

mod csr;
mod kubeconfig;
mod rotate;
mod serving;
mod store;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::Client;
use tracing::{info, warn};

pub(crate) use self::kubeconfig::server;
pub(crate) use self::rotate::rotate;
pub(crate) use self::serving::follow as follow_serving;
pub(crate) use self::store::{not_after, write_private};
use self::{csr::Wish, store::Store};
use crate::{config::Config, report::Chain};

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The file with the client certificate that rotation renews.
pub(crate) fn current_certificate(config: &Config) -> PathBuf {
    Store::client(&config.cert_dir).current()
}

/// `User-Agent` of the agent's requests.
pub(crate) fn user_agent() -> String {
    format!(
        "kubelet/{} (gantry-agent {})",
        crate::cli::VERSION,
        env!("CARGO_PKG_VERSION")
    )
}

/// Why one try to get a certificate failed. The next try may succeed unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    /// The bootstrap kubeconfig cannot be used; somebody may still write it.
    #[error("cannot use bootstrap kubeconfig {path}")]
    Connect {
        path: PathBuf,
        #[source]
        source: gantry_kubeapi::ConnectError,
    },
    /// It cannot be copied into the new kubeconfig.
    #[error("cannot read bootstrap kubeconfig {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The certificate was not issued.
    #[error("no certificate")]
    Request(#[source] csr::RequestError),
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A key cannot be made or a file cannot be encoded. A bug.
    #[error("cannot encode {what}: {reason}")]
    Encode { what: &'static str, reason: String },
}

/// The command line gives no way to an API server. Final.
#[derive(Debug, thiserror::Error)]
#[error("{}", .reason)]
pub(crate) struct NoCredentials {
    reason: String,
}

/// Make sure that `--kubeconfig` holds usable credentials, as long as that takes. Cancel safe.
///
/// # Errors
/// Only when there is nothing to try: no valid kubeconfig and no bootstrap kubeconfig.
pub(crate) async fn ensure(config: &Config) -> Result<PathBuf, NoCredentials> {
    let refuse = |reason: String| NoCredentials { reason };
    let target = config.kubeconfig.clone().ok_or_else(|| {
        refuse("--kubeconfig is not set: running without an API server is not supported".to_owned())
    })?;
    match kubeconfig::check(&target) {
        Ok(()) => return Ok(target),
        Err(why) => match &config.bootstrap_kubeconfig {
            Some(_) => info!(kubeconfig = %target.display(), %why, "starting TLS bootstrap"),
            None => {
                return Err(refuse(format!(
                    "kubeconfig {}: {why}, and no --bootstrap-kubeconfig",
                    target.display()
                )));
            }
        },
    }
    let Some(source) = config.bootstrap_kubeconfig.as_deref() else {
        return Ok(target);
    };
    info!(server = server(source), "API server for the TLS bootstrap");
    let mut pause = BACKOFF_MIN;
    loop {
        match bootstrap(config, source, &target).await {
            Ok(()) => {
                info!(kubeconfig = %target.display(), "TLS bootstrap done");
                return Ok(target);
            }
            Err(error) => warn!(error = %Chain(&error), "TLS bootstrap failed, will retry"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(BACKOFF_MAX);
        // Somebody else (an administrator, kubeadm init) may have written it meanwhile.
        if kubeconfig::check(&target).is_ok() {
            return Ok(target);
        }
    }
}

/// Where the serving certificate from the API server's signer lies, with its key.
pub(crate) fn serving_file(config: &Config) -> PathBuf {
    Store::serving(&config.cert_dir).current()
}

/// One try.
async fn bootstrap(config: &Config, source: &Path, target: &Path) -> Result<(), BootstrapError> {
    let client = gantry_kubeapi::connect(source, &user_agent())
        .await
        .map_err(|error| BootstrapError::Connect {
            path: source.to_owned(),
            source: error,
        })?;
    let store = Store::client(&config.cert_dir);
    obtain(&client, &store, &Wish::client(&config.node_name)).await?;
    kubeconfig::write(source, target, &store.current())
}

/// Ask for a certificate with this client, wait for it, and store it.
async fn obtain(client: &Client, store: &Store, wish: &Wish) -> Result<(), BootstrapError> {
    let key = store.pending_key()?;
    let certificate = match csr::request(client, &key, wish).await {
        Ok(certificate) => certificate,
        Err(error) => {
            if error.is_final_for_key() {
                store.drop_pending_key();
            }
            return Err(BootstrapError::Request(error));
        }
    };
    store.save(&certificate, &key)?;
    store.drop_pending_key();
    Ok(())
}
