//! Service account tokens, bound to a pod.
//!
//! A token is kept until 80 % of its life, at most 24 hours; the reference's rule (`pkg/kubelet/token`). Tokens that an
//! earlier run of the agent wrote are adopted, so a restart does not ask for one per pod.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use serde::Deserialize;

use super::ObjectError;
use super::watched::past_the_race;

/// No token is kept longer than this.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Which token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The service account's name.
    pub service_account: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's UID: the token dies with it.
    pub pod_uid: String,
    /// Empty: the API server's own.
    pub audience: String,
    /// The life that is asked for, in seconds.
    pub expiration_secs: i64,
}

/// A token. Its text never gets into a log.
#[derive(Clone)]
pub(crate) struct Token {
    text: Arc<str>,
    /// When to ask for the next one.
    pub refresh_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Clone)]
pub(super) struct Tokens {
    client: kube::Client,
    known: Arc<Mutex<HashMap<TokenRef, Token>>>,
}

/// The claims of a JWT that matter here (RFC 7519, section 4.1).
#[derive(Deserialize)]
struct Claims {
    exp: i64,
    iat: i64,
    #[serde(default)]
    aud: Vec<String>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: BoundTo,
}

#[derive(Deserialize)]
struct BoundTo {
    pod: BoundPod,
    serviceaccount: BoundAccount,
}

#[derive(Deserialize)]
struct BoundPod {
    uid: String,
}

#[derive(Deserialize)]
struct BoundAccount {
    name: String,
}

impl Token {
    fn new(text: &str, issued_at: Timestamp, expires_at: Timestamp) -> Self {
        let life = expires_at.duration_since(issued_at).unsigned_abs();
        let refresh_at = issued_at
            .saturating_add(life.mul_f64(0.8).min(MAX_AGE))
            .unwrap_or(expires_at);
        Self {
            text: text.into(),
            refresh_at,
            expires_at,
        }
    }

    /// The token itself.
    #[must_use]
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(until {})", self.expires_at)
    }
}

impl Tokens {
    pub(super) fn new(client: kube::Client) -> Self {
        Self {
            client,
            known: Arc::default(),
        }
    }

    pub(super) async fn get(&self, wanted: &TokenRef) -> Result<Token, ObjectError> {
        let now = Timestamp::now();
        let cached = self.lock().get(wanted).cloned();
        if let Some(token) = cached.as_ref().filter(|token| now < token.refresh_at) {
            return Ok(token.clone());
        }
        match self.request(wanted).await {
            Ok(token) => {
                self.lock().insert(wanted.clone(), token.clone());
                Ok(token)
            }
            Err(error) => match cached.filter(|token| now < token.expires_at) {
                Some(mut token) => {
                    tracing::warn!(namespace = wanted.namespace, pod = wanted.pod_name, %error, "token not refreshed");
                    token.refresh_at = now
                        .saturating_add(Duration::from_secs(60))
                        .unwrap_or(token.expires_at);
                    Ok(token)
                }
                None => Err(error),
            },
        }
    }

    pub(super) fn adopt(&self, wanted: &TokenRef, text: &str) {
        if let Some(token) = parse(wanted, text).filter(|token| Timestamp::now() < token.refresh_at) {
            self.lock().entry(wanted.clone()).or_insert(token);
        }
    }

    pub(super) fn forget(&self, uid: &str) {
        self.lock().retain(|key, _| key.pod_uid != uid);
    }

    async fn request(&self, wanted: &TokenRef) -> Result<Token, ObjectError> {
        let api = kube::Api::<ServiceAccount>::namespaced(self.client.clone(), &wanted.namespace);
        let audiences = (!wanted.audience.is_empty()).then(|| vec![wanted.audience.clone()]);
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: Some(TokenRequestSpec {
                audiences,
                expiration_seconds: Some(wanted.expiration_secs),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(wanted.pod_name.clone()),
                    uid: Some(wanted.pod_uid.clone()),
                }),
            }),
            status: None,
        };
        let issued_at = Timestamp::now();
        let params = PostParams::default();
        let answer = past_the_race(|| api.create_token_request(&wanted.service_account, &params, &request))
            .await
            .map_err(|source| ObjectError::Token {
                source: Arc::new(source),
            })?;
        let status = answer.status.unwrap_or_default();
        let text = status
            .token
            .filter(|text| !text.is_empty())
            .ok_or(ObjectError::EmptyToken)?;
        let expires_at = status.expiration_timestamp.ok_or(ObjectError::EmptyToken)?.0;
        // The server may give another life than was asked for; the reference counts the asked one back from the end.
        let asked = answer
            .spec
            .and_then(|spec| spec.expiration_seconds)
            .unwrap_or(wanted.expiration_secs);
        let begin = expires_at
            .saturating_sub(Duration::from_secs(asked.unsigned_abs()))
            .unwrap_or(issued_at);
        Ok(Token::new(&text, begin, expires_at))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TokenRef, Token>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a token's claims; no signature is checked: it came from a file that only the agent writes, and the API
/// server checks it when it is used. `None` when it is not the wanted one.
fn parse(wanted: &TokenRef, text: &str) -> Option<Token> {
    let payload = text.split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    let claims: Claims = serde_json::from_slice(&json).ok()?;
    let bound = claims.kubernetes.pod.uid == wanted.pod_uid
        && claims.kubernetes.serviceaccount.name == wanted.service_account
        && (wanted.audience.is_empty() || claims.aud.contains(&wanted.audience));
    let issued_at = Timestamp::from_second(claims.iat).ok()?;
    let expires_at = Timestamp::from_second(claims.exp).ok()?;
    bound.then(|| Token::new(text, issued_at, expires_at))
}

#[cfg(test)]
mod tests;
