//! Users by client certificate: `clientCAFile`, read again when it changes.
//!
//! The TLS handshake takes any certificate (its owner has proven to hold the key); whether an authority of ours has
//! signed it is found out at each request, so that a change of the file or the end of a certificate's life counts for
//! connections that are open. Common name: the user; organisations: the groups.

use std::{path::Path, sync::Arc};

use ring::digest;
use rustls::{
    RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{der_parser::oid, oid_registry::Oid, prelude::*};

use super::user::User;
use crate::server::reload::{LoadError, Reloading};

/// The attribute of a subject that holds the user's UID (`asn1util.X509UID` of the reference).
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);
/// Names the certificate in audit logs.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// The authorities of client certificates.
pub(super) struct Certificates {
    authorities: Reloading<Arc<dyn ClientCertVerifier>>,
}

impl Certificates {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or holds no certificate.
    pub(super) fn new(file: &Path) -> Result<Self, LoadError> {
        let authorities = Reloading::new(&[file], |contents| verifier(&contents[0]))?;
        Ok(Self { authorities })
    }

    /// The user of a chain of certificates as a client sent it; `None` for one without a common name.
    ///
    /// # Errors
    /// Why the chain is not trusted, in words.
    pub(super) fn user(&self, chain: &[CertificateDer<'_>]) -> Result<Option<User>, String> {
        let Some((own, rest)) = chain.split_first() else {
            return Ok(None);
        };
        let verifier = self.authorities.current().ok_or("no authority is known")?;
        verifier
            .verify_client_cert(own, rest, UnixTime::now())
            .map_err(|error| error.to_string())?;
        user(own)
    }
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), default_provider().into()).build();
    verifier
        .map(|verifier| -> Arc<dyn ClientCertVerifier> { verifier })
        .map_err(|error| error.to_string())
}

/// The user that a certificate names.
fn user(certificate: &CertificateDer<'_>) -> Result<Option<User>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let subject = parsed.subject();
    let texts =
        |attributes: &mut dyn Iterator<Item = &AttributeTypeAndValue<'_>>| -> Result<Vec<String>, String> {
            attributes
                .map(|attribute| {
                    attribute
                        .as_str()
                        .map(str::to_owned)
                        .map_err(|error| error.to_string())
                })
                .collect()
        };
    // Of several common names the last counts, as in Go's crypto/x509.
    let Some(name) = texts(&mut subject.iter_common_name())?
        .pop()
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let mut uids = texts(&mut subject.iter_by_oid(&UID))?;
    let uid = uids.pop().unwrap_or_default();
    if !uids.is_empty() {
        return Err("its subject has more than one UID".to_owned());
    }
    let print = digest::digest(&digest::SHA256, certificate);
    let hex: String = print.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut user = User::new(name, texts(&mut subject.iter_organization())?);
    user.uid = uid;
    user.extra
        .insert(CREDENTIAL.to_owned(), vec![format!("X509SHA256={hex}")]);
    Ok(Some(user.authenticated()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};

    use super::*;
    use crate::server::testing::Authority;

    #[test]
    fn the_subject_of_a_trusted_certificate_is_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.crt");
        let (ours, theirs) = (Authority::new(), Authority::new());
        std::fs::write(&file, ours.pem()).unwrap();
        let certificates = Certificates::new(&file).unwrap();
        let own = ours.client("alice", &["devs", "ops"]);
        let user = certificates.user(&own.chain).unwrap().unwrap();
        assert_eq!(user.name, "alice");
        assert_eq!(user.groups, ["devs", "ops", "system:authenticated"]);
        assert!(user.extra[CREDENTIAL][0].starts_with("X509SHA256="));
        assert!(certificates.user(&theirs.client("alice", &[]).chain).is_err());
        assert_eq!(certificates.user(&[]), Ok(None));
        // A serving certificate of the same authority names no user.
        let serving = ours.serving("alice");
        assert!(certificates.user(&serving.chain).is_err());
        // The file is replaced: the other authority counts, at once.
        std::fs::write(&file, theirs.pem()).unwrap();
        certificates.authorities.look_again();
        assert!(certificates.user(&own.chain).is_err());
        assert!(certificates.user(&theirs.client("bob", &[]).chain).is_ok());
    }

    #[test]
    fn certificates_without_a_name_or_out_of_date_are_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.crt");
        let authority = Authority::new();
        std::fs::write(&file, authority.pem()).unwrap();
        let certificates = Certificates::new(&file).unwrap();
        assert_eq!(
            certificates.user(&authority.client("", &["devs"]).chain),
            Ok(None)
        );
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, "old");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let issuer: &Issuer<'_, KeyPair> = authority.issuer();
        let old = params.signed_by(&key, issuer).unwrap();
        assert!(certificates.user(&[old.der().clone()]).is_err());
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.crt");
        assert!(Certificates::new(&file).is_err());
        std::fs::write(&file, "rubbish").unwrap();
        assert!(Certificates::new(&file).is_err());
    }

    proptest! {
        #[test]
        fn rubbish_is_no_certificate(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(user(&CertificateDer::from(bytes)).is_err());
        }
    }
}
