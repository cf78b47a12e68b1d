//! One CertificateSigningRequest: made, approved, signed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams, runtime::wait::await_condition};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use tracing::info;

/// Issues client certificates of nodes; kube-controller-manager approves and signs by itself.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// ECDSA keys sign; only RSA keys also encipher.
const USAGES: [&str; 2] = ["digital signature", "client auth"];
/// How long one try waits for the approval, as the reference.
const APPROVAL: Duration = Duration::from_secs(15 * 60);

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

/// Ask for a certificate for `system:node:<node_name>` with this key; the answer is PEM. Waits for the approval.
pub(super) async fn request(
    client: &Client,
    key: &KeyPair,
    node_name: &str,
) -> Result<Vec<u8>, RequestError> {
    let csr = object(key, node_name).map_err(RequestError::Encode)?;
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

fn object(key: &KeyPair, node_name: &str) -> Result<CertificateSigningRequest, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node_name}"));
    let pem = params.serialize_request(key)?.pem()?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name(key)),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: SIGNER.into(),
            usages: Some(USAGES.map(str::to_owned).to_vec()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}

/// A name that only this key has, so that a repeated request finds the first one: from the public point's first
/// coordinate.
fn name(key: &KeyPair) -> String {
    let point = key.der_bytes();
    // An uncompressed P-256 point is the byte 4 and two coordinates of 32 bytes.
    let coordinate = point.get(1..33).unwrap_or(point);
    format!("node-csr-{}", URL_SAFE_NO_PAD.encode(coordinate))
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
        let csr = object(&key, "node-1").unwrap();
        assert_eq!(csr.spec.signer_name, SIGNER);
        assert_eq!(
            csr.spec.usages.as_deref().unwrap(),
            ["digital signature", "client auth"]
        );
        let (_, pem) = x509_parser::pem::parse_x509_pem(&csr.spec.request.0).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
        let subject = request.certification_request_info.subject.to_string();
        assert_eq!(subject, "O=system:nodes, CN=system:node:node-1");
        assert_eq!(name(&key), csr.metadata.name.unwrap());
        assert_ne!(name(&key), name(&KeyPair::generate().unwrap()));
    }
}
