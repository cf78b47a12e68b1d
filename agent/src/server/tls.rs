//! TLS as the configuration wants it: `tlsMinVersion`, `tlsCipherSuites`, `tlsCurvePreferences`.
//!
//! TLS 1.2 and 1.3 are spoken; 1.0 and 1.1, which the configuration may ask for, are not. As in Go the suites of
//! TLS 1.3 cannot be chosen. Suites without forward secrecy or authenticated encryption are not there: one that is
//! asked for is left out and named in the log.

use std::sync::Arc;

use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring::default_provider, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, UnixTime},
    server::{
        ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use tracing::warn;

use crate::config::Settings;

/// The configuration cannot be carried out. Final.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A name that no TLS implementation of the reference knows.
    #[error("tlsCipherSuites: cipher suite {0} not supported or doesn't exist")]
    UnknownSuite(String),
    /// Nothing is left.
    #[error("tlsCurvePreferences: none of the curves {0:?} is supported")]
    NoCurve(Vec<u16>),
    /// What is left does not fit together.
    #[error("tlsCipherSuites and tlsMinVersion leave nothing to speak")]
    Nothing(#[from] Error),
}

/// Suites that the reference knows and that are not spoken here.
const WEAK: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// The server's side of TLS; clients are asked for a certificate when `ask_clients`.
pub(super) fn config(
    settings: &Settings,
    certificate: Arc<dyn ResolvesServerCert>,
    ask_clients: bool,
) -> Result<ServerConfig, TlsError> {
    let mut provider = default_provider();
    choose_suites(&mut provider, &settings.tls_cipher_suites)?;
    choose_curves(&mut provider, &settings.tls_curve_preferences)?;
    let algorithms = provider.signature_verification_algorithms;
    let versions: &[_] = match settings.tls_min_version.as_str() {
        "VersionTLS13" => &[&TLS13],
        _ => &[&TLS13, &TLS12],
    };
    if matches!(settings.tls_min_version.as_str(), "VersionTLS10" | "VersionTLS11") {
        warn!(
            tlsMinVersion = settings.tls_min_version,
            "TLS below 1.2 is not spoken"
        );
    }
    let builder = ServerConfig::builder_with_provider(provider.into()).with_protocol_versions(versions)?;
    let mut config = if ask_clients {
        builder.with_client_cert_verifier(Arc::new(AnyCertificate { algorithms }))
    } else {
        builder.with_no_client_auth()
    }
    .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn choose_suites(provider: &mut CryptoProvider, names: &[String]) -> Result<(), TlsError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    for name in names {
        // The reference still takes the names that these two had first.
        let name = match name.as_str() {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            name => name,
        };
        match provider
            .cipher_suites
            .iter()
            .find(|suite| go_name(suite.suite()) == name)
        {
            Some(suite) => chosen.push(*suite),
            None if WEAK.contains(&name) => warn!(suite = name, "this cipher suite is not spoken"),
            None => return Err(TlsError::UnknownSuite(name.to_owned())),
        }
    }
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some() || chosen.contains(suite));
    Ok(())
}

/// A suite's name as Go spells it.
fn go_name(suite: CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

fn choose_curves(provider: &mut CryptoProvider, ids: &[u16]) -> Result<(), TlsError> {
    if ids.is_empty() {
        return Ok(());
    }
    let chosen: Vec<_> = ids
        .iter()
        .filter_map(|id| {
            let group = provider
                .kx_groups
                .iter()
                .find(|group| group.name() == NamedGroup::from(*id));
            if group.is_none() {
                warn!(curve = id, "this curve is not spoken");
            }
            group.copied()
        })
        .collect();
    if chosen.is_empty() {
        return Err(TlsError::NoCurve(ids.to_vec()));
    }
    provider.kx_groups = chosen;
    Ok(())
}

/// Takes any certificate, or none; that the client holds its key is checked. Whether anybody trusts it is a question
/// for each request.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::settings;

    fn suites(names: &[&str]) -> Result<Vec<String>, TlsError> {
        let mut provider = default_provider();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        choose_suites(&mut provider, &names)?;
        let old = provider
            .cipher_suites
            .iter()
            .filter(|suite| suite.tls13().is_none());
        Ok(old.map(|suite| go_name(suite.suite())).collect())
    }

    #[test]
    fn suites_are_chosen_by_gos_names() {
        let one = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        assert_eq!(suites(&[one]).unwrap(), [one]);
        assert_eq!(
            suites(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).unwrap(),
            ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]
        );
        assert_eq!(suites(&["TLS_AES_128_GCM_SHA256"]).unwrap(), [""; 0]);
        assert_eq!(suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap(), [""; 0]);
        assert!(matches!(suites(&["TLS_NONE"]), Err(TlsError::UnknownSuite(name)) if name == "TLS_NONE"));
        assert!(suites(&[]).unwrap().len() >= 6);
    }

    #[test]
    fn curves_are_chosen_by_number() {
        let chosen = |ids: &[u16]| {
            let mut provider = default_provider();
            choose_curves(&mut provider, ids)?;
            Ok::<_, TlsError>(
                provider
                    .kx_groups
                    .iter()
                    .map(|group| group.name())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(chosen(&[24, 4588]).unwrap(), [NamedGroup::secp384r1]);
        assert!(matches!(chosen(&[25]), Err(TlsError::NoCurve(_))));
        assert!(chosen(&[]).unwrap().len() >= 3);
    }

    #[test]
    fn settings_are_read() {
        let settings = settings("tlsMinVersion: VersionTLS13\ntlsCipherSuites: [TLS_AES_128_GCM_SHA256]");
        assert_eq!(settings.tls_min_version, "VersionTLS13");
        assert_eq!(settings.tls_cipher_suites, ["TLS_AES_128_GCM_SHA256"]);
    }
}
