//! Where certificates and keys lie on disk; layout as kubelet's (`client-go/util/certificate`).

use std::{
    fs, io,
    io::Write,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use gantry_chassis::files::gone_is_fine;
use jiff::{Timestamp, tz::TimeZone};
use rcgen::KeyPair;
use x509_parser::{extensions::GeneralName, pem::Pem};

use super::BootstrapError;

/// The certificate directory, seen as a store of one kind of certificates.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
    /// `kubelet-client` or `kubelet-server`.
    name: &'static str,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Store {
    pub(super) fn client(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            name: "kubelet-client",
        }
    }

    pub(super) fn serving(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            name: "kubelet-server",
        }
    }

    /// The link to the newest certificate and key.
    pub(super) fn current(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.name))
    }

    fn pending(&self) -> PathBuf {
        self.dir.join(format!("{}.key.tmp", self.name))
    }

    /// The key of the request under way; a new one when there is none.
    pub(super) fn pending_key(&self) -> Result<KeyPair, BootstrapError> {
        let path = self.pending();
        if let Some(key) = fs::read_to_string(&path)
            .ok()
            .and_then(|pem| KeyPair::from_pem(&pem).ok())
        {
            return Ok(key);
        }
        let key = KeyPair::generate().map_err(|error| BootstrapError::Encode {
            what: "a key",
            reason: error.to_string(),
        })?;
        let written =
            fs::create_dir_all(&self.dir).and_then(|()| write_private(&path, key.serialize_pem().as_bytes()));
        written.map_err(|source| BootstrapError::Write { path, source })?;
        Ok(key)
    }

    /// The request is over.
    pub(super) fn drop_pending_key(&self) {
        if let Err(error) = gone_is_fine(fs::remove_file(self.pending())) {
            tracing::warn!(path = %self.pending().display(), %error, "cannot remove the key of a finished request");
        }
    }

    /// Make this the current certificate. Readers see the old pair or the new one, never a mix.
    pub(super) fn save(&self, certificate: &[u8], key: &KeyPair) -> Result<(), BootstrapError> {
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        let path = self
            .dir
            .join(format!("{}-{}.pem", self.name, now.strftime("%Y-%m-%d-%H-%M-%S")));
        let mut pem = certificate.to_vec();
        if !pem.ends_with(b"\n") {
            pem.push(b'\n');
        }
        pem.extend_from_slice(key.serialize_pem().as_bytes());
        let link = self.current();
        let fresh = self.dir.join(format!("{}-current.pem.new", self.name));
        let written = write_private(&path, &pem).and_then(|()| {
            gone_is_fine(fs::remove_file(&fresh))?;
            symlink(&path, &fresh)?;
            fs::rename(&fresh, &link)
        });
        written.map_err(|source| BootstrapError::Write { path, source })
    }
}

/// Write a file that only root reads, by a temporary one.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// The validity of the first certificate in PEM data; `None` when there is none.
pub(super) fn validity(pem: &[u8]) -> Option<Validity> {
    let block = Pem::iter_from_buffer(pem)
        .flatten()
        .find(|block| block.label == "CERTIFICATE")?;
    let certificate = block.parse_x509().ok()?;
    let validity = certificate.validity();
    Some(Validity {
        not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
    })
}

/// The end of the first certificate in PEM data.
pub(crate) fn not_after(pem: &[u8]) -> Option<Timestamp> {
    validity(pem).map(|validity| validity.not_after)
}

/// The host names and addresses that the first certificate in PEM data is for.
pub(super) fn names(pem: &[u8]) -> Option<(Vec<String>, Vec<IpAddr>)> {
    let block = Pem::iter_from_buffer(pem)
        .flatten()
        .find(|block| block.label == "CERTIFICATE")?;
    let certificate = block.parse_x509().ok()?;
    let (mut hosts, mut ips) = (Vec::new(), Vec::new());
    let all = certificate.subject_alternative_name().ok().flatten();
    for name in all.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
            GeneralName::IPAddress(bytes) => ips.extend(address(bytes)),
            _ => {}
        }
    }
    Some((hosts, ips))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen()).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_saved_pair_is_current_private_and_parses() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::client(&dir.path().join("pki"));
        let key = store.pending_key().unwrap();
        assert_eq!(
            store.pending_key().unwrap().serialize_pem(),
            key.serialize_pem(),
            "a restart keeps the key"
        );
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        store.save(certificate.pem().as_bytes(), &key).unwrap();
        store.save(certificate.pem().as_bytes(), &key).unwrap();
        store.drop_pending_key();
        let pem = fs::read(store.current()).unwrap();
        assert!(validity(&pem).is_some_and(|v| v.not_after > v.not_before));
        assert_eq!(
            fs::metadata(store.current()).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(fs::symlink_metadata(store.current()).unwrap().is_symlink());
        assert!(!store.pending().exists());
    }

    #[test]
    fn rubbish_has_no_validity() {
        for pem in [
            &b""[..],
            b"rubbish",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(validity(pem), None);
        }
    }

    proptest! {
        #[test]
        fn any_change_of_a_certificate_is_read_or_refused(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let key = KeyPair::generate().unwrap();
            let names = vec!["node-1".to_owned(), "10.0.0.1".to_owned(), "fd00::1".to_owned()];
            let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
            let mut der = made.der().to_vec();
            for (index, byte) in &changes {
                let at = index.index(der.len());
                der[at] = *byte;
            }
            let text = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
            let _ = not_after(text.as_bytes());
            let read = super::names(text.as_bytes());
            if changes.is_empty() {
                let (hosts, ips) = read.unwrap();
                prop_assert_eq!((hosts.len(), ips.len()), (1, 2));
            }
        }
    }
}
