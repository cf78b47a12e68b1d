//! One CertificateSigningRequest: made, approved, signed.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        core::v1::NodeAddress,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams, runtime::wait::await_condition};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData, SanType};
use ring::digest;
use tracing::info;

/// Issues client certificates of nodes; kube-controller-manager approves and signs by itself.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Issues serving certificates of nodes; somebody has to approve them.
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// How long one try waits for the approval, as the reference.
const APPROVAL: Duration = Duration::from_secs(15 * 60);

/// What the certificate shall be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    node_name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Client,
    Serving { hosts: Vec<String>, ips: Vec<IpAddr> },
}

impl Wish {
    /// To talk to the API server as this node.
    pub(super) fn client(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            kind: Kind::Client,
        }
    }

    /// To serve at these addresses of the node; `None` while it has no IP address, as in the reference.
    pub(super) fn serving(node_name: &str, addresses: &[NodeAddress]) -> Option<Self> {
        let (mut hosts, mut ips) = (BTreeSet::new(), BTreeSet::new());
        for NodeAddress { type_, address } in addresses {
            match (type_.as_str(), address.parse::<IpAddr>()) {
                ("Hostname" | "ExternalIP" | "InternalIP", Ok(ip)) => {
                    ips.insert(ip);
                }
                ("Hostname", Err(_)) | ("ExternalDNS" | "InternalDNS", _) if !address.is_empty() => {
                    hosts.insert(address.clone());
                }
                _ => {}
            }
        }
        let (hosts, ips): (Vec<_>, Vec<_>) = (hosts.into_iter().collect(), ips.into_iter().collect());
        (!ips.is_empty()).then(|| Self {
            node_name: node_name.to_owned(),
            kind: Kind::Serving { hosts, ips },
        })
    }

    /// A certificate for these names serves it.
    pub(super) fn is_met_by(&self, names: &(Vec<String>, Vec<IpAddr>)) -> bool {
        match &self.kind {
            Kind::Client => true,
            Kind::Serving { hosts, ips } => {
                hosts.iter().all(|host| names.0.contains(host)) && ips.iter().all(|ip| names.1.contains(ip))
            }
        }
    }

    fn signer(&self) -> &'static str {
        match self.kind {
            Kind::Client => CLIENT_SIGNER,
            Kind::Serving { .. } => SERVING_SIGNER,
        }
    }

    /// ECDSA keys sign; only RSA keys also encipher.
    fn usages(&self) -> [&'static str; 2] {
        match self.kind {
            Kind::Client => ["digital signature", "client auth"],
            Kind::Serving { .. } => ["digital signature", "server auth"],
        }
    }

    /// The names of the request in the request's own form.
    fn names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let Kind::Serving { hosts, ips } = &self.kind else {
            return Ok(Vec::new());
        };
        let hosts = hosts
            .iter()
            .map(|host| Ok(SanType::DnsName(host.as_str().try_into()?)));
        hosts
            .chain(ips.iter().map(|ip| Ok(SanType::IpAddress(*ip))))
            .collect()
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The request cannot be encoded. A bug.
    #[error("cannot encode the signing request")]
    Encode(#[source] rcgen::Error),
    /// The API server refuses the request or cannot be reached. Retry.
    #[error("the API server did not take the signing request {name}")]
    Create {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// Waiting failed. Retry.
    #[error("cannot watch the signing request {name}")]
    Watch {
        name: String,
        #[source]
        source: Box<kube::runtime::wait::Error>,
    },
    /// Nobody approved it. Retry.
    #[error("signing request {name} was not approved within {} minutes", APPROVAL.as_secs() / 60)]
    Unapproved { name: String },
    /// An administrator or the signer said no; only another key can be asked for again.
    #[error("signing request {name} was refused: {reason}")]
    Refused { name: String, reason: String },
}

impl RequestError {
    /// The key must not be used for another request.
    pub(super) fn is_final_for_key(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Encode(_) | Self::Create { .. } | Self::Watch { .. } | Self::Unapproved { .. } => false,
        }
    }
}

/// Ask for a certificate for `system:node:<node name>` with this key; the answer is PEM. Waits for the approval.
pub(super) async fn request(client: &Client, key: &KeyPair, wish: &Wish) -> Result<Vec<u8>, RequestError> {
    let csr = object(key, wish).map_err(RequestError::Encode)?;
    let name = csr.metadata.name.clone().unwrap_or_default();
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    match api.create(&PostParams::default(), &csr).await {
        Ok(_) => info!(csr = name, "signing request sent, waiting for its approval"),
        // The name comes from the key: this is our own request of before a restart.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            info!(
                csr = name,
                "signing request is there already, waiting for its approval"
            );
        }
        Err(source) => {
            return Err(RequestError::Create {
                name,
                source: Box::new(source),
            });
        }
    }
    let decided = await_condition(api, &name, |csr: Option<&CertificateSigningRequest>| {
        outcome(csr).is_some()
    });
    let csr = match tokio::time::timeout(APPROVAL, decided).await {
        Ok(Ok(csr)) => csr,
        Ok(Err(source)) => {
            return Err(RequestError::Watch {
                name,
                source: Box::new(source),
            });
        }
        Err(_) => return Err(RequestError::Unapproved { name }),
    };
    match outcome(csr.as_ref()) {
        Some(Ok(certificate)) => Ok(certificate),
        Some(Err(reason)) => Err(RequestError::Refused { name, reason }),
        None => Err(RequestError::Unapproved { name }),
    }
}

/// The request's end: a certificate, or why there will be none.
fn outcome(csr: Option<&CertificateSigningRequest>) -> Option<Result<Vec<u8>, String>> {
    let status = csr?.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if let Some(refused) = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"))
    {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        return Some(Err(format!(
            "{} {} {}",
            refused.type_,
            text(&refused.reason),
            text(&refused.message)
        )));
    }
    let approved = conditions.iter().any(|c| c.type_ == "Approved");
    let certificate = status.certificate.as_ref().filter(|c| !c.0.is_empty())?;
    approved.then(|| Ok(certificate.0.clone()))
}

fn object(key: &KeyPair, wish: &Wish) -> Result<CertificateSigningRequest, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{}", wish.node_name));
    params.subject_alt_names = wish.names()?;
    let pem = params.serialize_request(key)?.pem()?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name(key, wish)),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: wish.signer().into(),
            usages: Some(wish.usages().map(str::to_owned).to_vec()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}

/// A name that only this key has, so that a repeated request finds the first one: from the public point's first
/// coordinate. A serving certificate's also comes from the names that it is for.
fn name(key: &KeyPair, wish: &Wish) -> String {
    let point = key.der_bytes();
    // An uncompressed P-256 point is the byte 4 and two coordinates of 32 bytes.
    let coordinate = point.get(1..33).unwrap_or(point);
    match &wish.kind {
        Kind::Client => format!("node-csr-{}", URL_SAFE_NO_PAD.encode(coordinate)),
        Kind::Serving { hosts, ips } => {
            let text = format!("{} {hosts:?} {ips:?}", URL_SAFE_NO_PAD.encode(coordinate));
            let print = digest::digest(&digest::SHA256, text.as_bytes());
            let hex: String = print.as_ref()[..10]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("csr-{hex}")
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::{
        CertificateSigningRequestCondition, CertificateSigningRequestStatus,
    };
    use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

    use super::*;

    fn with(kind: &str, certificate: Option<&str>) -> CertificateSigningRequest {
        CertificateSigningRequest {
            status: Some(CertificateSigningRequestStatus {
                certificate: certificate.map(|pem| ByteString(pem.as_bytes().to_vec())),
                conditions: Some(vec![CertificateSigningRequestCondition {
                    type_: kind.into(),
                    reason: Some("Because".into()),
                    status: "True".into(),
                    ..CertificateSigningRequestCondition::default()
                }]),
            }),
            ..CertificateSigningRequest::default()
        }
    }

    #[test]
    fn waits_for_approval_and_certificate() {
        assert_eq!(outcome(None), None);
        assert_eq!(outcome(Some(&CertificateSigningRequest::default())), None);
        assert_eq!(outcome(Some(&with("Approved", None))), None);
        assert_eq!(outcome(Some(&with("Approved", Some("")))), None);
        assert_eq!(
            outcome(Some(&with("Approved", Some("pem")))),
            Some(Ok(b"pem".to_vec()))
        );
        assert!(matches!(outcome(Some(&with("Denied", None))), Some(Err(text)) if text.contains("Because")));
        assert!(matches!(
            outcome(Some(&with("Failed", Some("pem")))),
            Some(Err(_))
        ));
    }

    #[test]
    fn the_request_is_what_the_approver_expects() {
        let key = KeyPair::generate().unwrap();
        let csr = object(&key, &Wish::client("node-1")).unwrap();
        assert_eq!(csr.spec.signer_name, CLIENT_SIGNER);
        assert_eq!(
            csr.spec.usages.as_deref().unwrap(),
            ["digital signature", "client auth"]
        );
        let (_, pem) = x509_parser::pem::parse_x509_pem(&csr.spec.request.0).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        let subject = request.certification_request_info.subject.to_string();
        assert_eq!(subject, "O=system:nodes, CN=system:node:node-1");
        let wish = Wish::client("node-1");
        assert_eq!(name(&key, &wish), csr.metadata.name.unwrap());
        assert_ne!(name(&key, &wish), name(&KeyPair::generate().unwrap(), &wish));
    }

    fn addresses(pairs: &[(&str, &str)]) -> Vec<NodeAddress> {
        let pairs = pairs.iter();
        pairs
            .map(|(kind, address)| NodeAddress {
                type_: (*kind).into(),
                address: (*address).into(),
            })
            .collect()
    }

    #[test]
    fn a_serving_certificate_is_for_the_nodes_addresses() {
        let all = addresses(&[
            ("InternalIP", "10.0.0.5"),
            ("InternalIP", "fd00::5"),
            ("Hostname", "node-1"),
            ("InternalDNS", "node-1.local"),
            ("InternalIP", "nonsense"),
        ]);
        assert_eq!(
            Wish::serving("node-1", &addresses(&[("Hostname", "node-1")])),
            None
        );
        let wish = Wish::serving("node-1", &all).unwrap();
        let key = KeyPair::generate().unwrap();
        let csr = object(&key, &wish).unwrap();
        assert_eq!(csr.spec.signer_name, SERVING_SIGNER);
        assert_eq!(csr.spec.usages.unwrap(), ["digital signature", "server auth"]);
        let name = csr.metadata.name.unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&csr.spec.request.0).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        let extensions = format!(
            "{:?}",
            request.requested_extensions().unwrap().collect::<Vec<_>>()
        );
        assert!(
            extensions.contains("node-1.local") && extensions.contains("[10, 0, 0, 5]"),
            "{extensions}"
        );
        let ips: Vec<IpAddr> = vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        let hosts = vec!["node-1".to_owned(), "node-1.local".to_owned()];
        assert!(wish.is_met_by(&(hosts.clone(), ips.clone())));
        assert!(!wish.is_met_by(&(hosts, ips[..1].to_vec())));
        let fewer = Wish::serving("node-1", &all[..1]).unwrap();
        assert_ne!(name, super::name(&key, &fewer), "other names, another request");
    }
}
