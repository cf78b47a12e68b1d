//! The client certificate, read from its files at each TLS handshake.

use std::path::PathBuf;
use std::sync::Arc;

use kube::config::AuthInfo;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, pki_types};
use tracing::warn;

/// A client certificate in files that somebody else (certificate rotation) may replace at any time.
///
/// Handshakes are rare (one connection for a program's life, if all goes well), so the files are read anew each
/// time instead of being watched.
#[derive(Debug)]
pub(crate) struct FileIdentity {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why the files do not make a client certificate.
#[derive(Debug, thiserror::Error)]
enum IdentityError {
    #[error("cannot read a certificate from {path}")]
    Certificate {
        path: PathBuf,
        source: pki_types::pem::Error,
    },
    #[error("cannot read a private key from {path}")]
    Key {
        path: PathBuf,
        source: pki_types::pem::Error,
    },
    #[error("the private key in {path} has a type that is not supported")]
    KeyType { path: PathBuf, source: rustls::Error },
}

impl FileIdentity {
    /// The identity that a kubeconfig's user names by files; `None` when it holds its certificate inline or has none.
    pub(crate) fn of(auth: &AuthInfo) -> Option<Arc<Self>> {
        let certificate = auth.client_certificate.as_ref()?;
        let key = auth.client_key.as_ref()?;
        Some(Arc::new(Self {
            certificate: certificate.into(),
            key: key.into(),
        }))
    }

    fn read(&self) -> Result<CertifiedKey, IdentityError> {
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| IdentityError::Certificate {
                path: self.certificate.clone(),
                source,
            })?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| IdentityError::Key {
            path: self.key.clone(),
            source,
        })?;
        let key = any_supported_type(&key).map_err(|source| IdentityError::KeyType {
            path: self.key.clone(),
            source,
        })?;
        Ok(CertifiedKey::new(chain, key))
    }
}

impl ResolvesClientCert for FileIdentity {
    fn resolve(&self, _acceptable: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match self.read() {
            Ok(identity) => Some(Arc::new(identity)),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, source, "no client certificate: the API server will see an anonymous client");
                None
            }
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_are_no_identity_and_no_panic() {
        let identity = FileIdentity {
            certificate: "/nonexistent/c.pem".into(),
            key: "/nonexistent/k.pem".into(),
        };
        assert!(identity.resolve(&[], &[]).is_none());
    }

    #[test]
    fn a_replaced_file_is_seen_at_the_next_handshake() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("client.pem");
        let write = |name: &str| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let cert = rcgen::CertificateParams::new(vec![name.to_owned()])
                .and_then(|p| p.self_signed(&key))
                .expect("a certificate");
            std::fs::write(&path, cert.pem() + &key.serialize_pem()).expect("a file");
            cert.der().clone()
        };
        let identity = FileIdentity {
            certificate: path.clone(),
            key: path.clone(),
        };
        for name in ["first", "second"] {
            let der = write(name);
            let resolved = identity.resolve(&[], &[]).expect("an identity");
            assert_eq!(resolved.cert[0], der);
        }
    }
}
