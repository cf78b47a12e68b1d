//! The serving certificate, chosen anew at each handshake.
//!
//! * `tlsCertFile` and `tlsPrivateKeyFile`: these files, read again when they change.
//! * else `serverTLSBootstrap`: what the API server's signer issued (`kubelet-server-current.pem`, kept by
//!   [`crate::bootstrap`]); until somebody has approved the request there is none, and handshakes fail.
//! * else one of our own making, `kubelet.crt` and `kubelet.key` in the certificate directory, used again after a
//!   restart. Nobody can verify it; the API server does so only with `--kubelet-certificate-authority`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tracing::warn;

use super::reload::{LoadError, Reloading};
use crate::{bootstrap, config::Config};

/// Life of a certificate of our own making, days; the reference's.
const DAYS: i64 = 365;

/// A certificate, its key, and when it ends.
#[derive(Clone)]
struct Pair {
    key: Arc<CertifiedKey>,
    not_after: Option<Timestamp>,
}

/// The serving certificate.
pub(super) struct Serving {
    pair: Reloading<Pair>,
}

/// Why there is no serving certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The files cannot be used.
    #[error("no serving certificate")]
    Load(#[from] LoadError),
    /// A certificate cannot be made. A bug.
    #[error("cannot make a serving certificate")]
    Make(#[from] rcgen::Error),
    /// It cannot be kept.
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Serving {
    /// As the configuration says.
    ///
    /// # Errors
    /// When the files are unusable or cannot be written.
    pub(super) fn new(config: &Config) -> Result<Self, CertificateError> {
        let settings = &config.kubelet;
        let (certificate, key) = (&settings.tls_cert_file, &settings.tls_private_key_file);
        if !certificate.is_empty() || !key.is_empty() {
            return Ok(Self::files(Path::new(certificate), Path::new(key))?);
        }
        if settings.server_tls_bootstrap {
            let file = bootstrap::serving_file(config);
            let pair = Reloading::later(&[&file], |contents| pair(&contents[0], &contents[0]));
            return Ok(Self { pair });
        }
        let (certificate, key) = (
            config.cert_dir.join("kubelet.crt"),
            config.cert_dir.join("kubelet.key"),
        );
        if !certificate.exists() || !key.exists() {
            make(&config.node_name, &certificate, &key)?;
        }
        Ok(Self::files(&certificate, &key)?)
    }

    /// Until when the certificate is valid that is presented now.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.pair.current()?.not_after
    }

    fn files(certificate: &Path, key: &Path) -> Result<Self, LoadError> {
        let pair = Reloading::new(&[certificate, key], |contents| pair(&contents[0], &contents[1]))?;
        Ok(Self { pair })
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(pair) = self.pair.current() else {
            warn!(
                "no serving certificate available for the kubelet: its signing request waits for an approval"
            );
            return None;
        };
        if pair.not_after.is_some_and(|end| end <= Timestamp::now()) {
            warn!("the serving certificate has expired");
        }
        Some(pair.key)
    }
}

impl fmt::Debug for Serving {
    /// No key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

fn pair(certificate: &[u8], key: &[u8]) -> Result<Pair, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        // A key that cannot say is taken as it is.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(Pair {
        key: Arc::new(key),
        not_after: bootstrap::not_after(certificate),
    })
}

/// A certificate for this host name, signed by an authority that exists for this one signature.
fn make(host: &str, certificate: &Path, key: &Path) -> Result<(), CertificateError> {
    let now = Timestamp::now().as_second();
    let start = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let life = std::time::Duration::from_secs(u64::try_from(DAYS).unwrap_or(0) * 86400);
    let params = |name: String| -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = start.into();
        params.not_after = (start + life).into();
        Ok(params)
    };
    let mut authority = params(format!("{host}-ca@{now}"))?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate()?;
    let own = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let mut serving = params(format!("{host}@{now}"))?;
    serving.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let serving_key = KeyPair::generate()?;
    let signed = serving.signed_by(&serving_key, &issuer)?;
    let written = |path: &Path, content: String| {
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| bootstrap::write_private(path, content.as_bytes()))
            .map_err(|source| CertificateError::Write {
                path: path.to_owned(),
                source,
            })
    };
    // The key first: a certificate without its key would be kept for ever.
    written(key, serving_key.serialize_pem())?;
    written(certificate, signed.pem() + &own.pem())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::testing, server::testing::Authority};

    fn config(dir: &Path, yaml: &str) -> Config {
        Config {
            cert_dir: dir.to_owned(),
            ..testing::config(yaml)
        }
    }

    fn shown(serving: &Serving) -> Option<Vec<u8>> {
        serving.pair.look_again();
        let pair = serving.pair.current()?;
        Some(pair.key.cert[0].to_vec())
    }

    #[test]
    fn one_of_our_own_making_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "");
        let first = shown(&Serving::new(&config).unwrap());
        let again = shown(&Serving::new(&config).unwrap());
        assert!(first.is_some());
        assert_eq!(first, again);
        let pem = fs::read(dir.path().join("kubelet.crt")).unwrap();
        assert_eq!(
            CertificateDer::pem_slice_iter(&pem).count(),
            2,
            "certificate and authority"
        );
        assert!(bootstrap::not_after(&pem).unwrap() > Timestamp::now());
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, paths) = (
            Authority::new(),
            (dir.path().join("a.crt"), dir.path().join("a.key")),
        );
        let write = |name: &str| {
            let pair = authority.serving(name);
            fs::write(&paths.0, &pair.pem).unwrap();
            fs::write(&paths.1, &pair.key_pem).unwrap();
            pair.chain[0].to_vec()
        };
        let yaml = format!(
            "tlsCertFile: {}\ntlsPrivateKeyFile: {}",
            paths.0.display(),
            paths.1.display()
        );
        let config = config(dir.path(), &yaml);
        assert!(Serving::new(&config).is_err(), "missing files are a start error");
        let first = write("a");
        let serving = Serving::new(&config).unwrap();
        assert_eq!(shown(&serving), Some(first.clone()));
        // Half way through the change certificate and key do not match: the old pair stays.
        fs::write(&paths.0, authority.serving("b").pem).unwrap();
        assert_eq!(shown(&serving), Some(first));
        let second = write("longer-name");
        assert_eq!(shown(&serving), Some(second));
    }

    #[test]
    fn an_issued_one_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "serverTLSBootstrap: true");
        let serving = Serving::new(&config).unwrap();
        assert_eq!(shown(&serving), None);
        let pair = Authority::new().serving("node-1");
        fs::write(bootstrap::serving_file(&config), pair.pem + &pair.key_pem).unwrap();
        assert_eq!(shown(&serving), Some(pair.chain[0].to_vec()));
    }

    proptest! {
        #[test]
        fn rubbish_is_no_pair(bytes: Vec<u8>, inside in "[A-Za-z0-9+/=\n]{0,120}", kind in "CERTIFICATE|PRIVATE KEY|EC PRIVATE KEY") {
            let block = format!("-----BEGIN {kind}-----\n{inside}\n-----END {kind}-----\n");
            for text in [&bytes[..], block.as_bytes()] {
                prop_assert!(pair(text, text).is_err());
            }
        }
    }
}
