//! Who asks, and may they? Certificates first, then bearer tokens, then (only when allowed) nobody in particular.
//!
//! [`certificates`]: `authentication.x509`. [`tokens`]: `authentication.webhook`. [`access`]: `authorization`.
//! [`cache`]: answers of the API server. A wrong credential is 401 even where none would do.

mod access;
mod asking;
mod cache;
mod certificates;
mod tokens;
mod user;

use std::{path::Path, sync::Arc};

use gantry_agent_core::api::Area;
use hyper::{HeaderMap, StatusCode};
use kube::Client;
use rustls::pki_types::CertificateDer;

use self::{access::Access, asking::Asking, certificates::Certificates, tokens::Tokens};
use super::{Refusal, reload::LoadError};
use crate::config::Config;

pub(crate) use self::user::User;

/// What the configuration says about callers.
pub(crate) struct Auth {
    certificates: Option<Certificates>,
    tokens: Option<Tokens>,
    anonymous: bool,
    access: Access,
}

impl Auth {
    /// # Errors
    /// When `clientCAFile` cannot be used.
    pub(crate) fn new(config: &Config, client: &Client) -> Result<Self, LoadError> {
        let settings = &config.kubelet;
        let authentication = &settings.authentication;
        let file = &authentication.x509.client_ca_file;
        let certificates = if file.is_empty() {
            None
        } else {
            Some(Certificates::new(Path::new(file))?)
        };
        let asking = Arc::new(Asking::default());
        let webhook = &authentication.webhook;
        Ok(Self {
            certificates,
            tokens: webhook
                .enabled
                .then(|| Tokens::new(client, asking.clone(), webhook.cache_ttl)),
            anonymous: authentication.anonymous.enabled,
            access: Access::new(client, asking, &config.node_name, settings),
        })
    }

    /// Client certificates are worth asking for.
    pub(crate) fn takes_certificates(&self) -> bool {
        self.certificates.is_some()
    }

    /// Lets a request pass, or says why not. Its token is taken out of its headers.
    ///
    /// # Errors
    /// 401, 403, or 500 when the API server cannot be asked about rights.
    pub(crate) async fn admit(
        &self,
        chain: &[CertificateDer<'_>],
        headers: &mut HeaderMap,
        (area, method): (Area, &str),
    ) -> Result<User, Refusal> {
        let user = self.identify(chain, headers).await;
        let user = user.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
        self.access.check(&user, area, method).await?;
        Ok(user)
    }

    async fn identify(&self, chain: &[CertificateDer<'_>], headers: &mut HeaderMap) -> Option<User> {
        let mut wrong = false;
        if let Some(certificates) = self.certificates.as_ref().filter(|_| !chain.is_empty()) {
            match certificates.user(chain) {
                Ok(Some(user)) => {
                    // Nothing behind this point needs it.
                    tokens::take(headers);
                    return Some(user);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(error, "a client's certificate is refused");
                    wrong = true;
                }
            }
        }
        let token = tokens::take(headers);
        if let (Some(tokens), Some(token)) = (&self.tokens, token) {
            match tokens.user(&token).await {
                Ok(Some(user)) => return Some(user),
                Ok(None) => tracing::debug!("a client's token is refused"),
                Err(error) => tracing::warn!(error, "cannot ask whose token it is"),
            }
            wrong = true;
        }
        (self.anonymous && !wrong).then(User::anonymous)
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{AUTHORIZATION, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::{config::testing::config, testing::ApiServer};

    const OPEN: &str = "authorization: {mode: AlwaysAllow}\n";

    async fn name(auth: &Auth, headers: &mut HeaderMap) -> Result<String, u16> {
        let admitted = auth.admit(&[], headers, (Area::Pods, "GET")).await;
        admitted
            .map(|user| user.name)
            .map_err(|refusal| refusal.status().as_u16())
    }

    fn token() -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer t"))])
    }

    #[tokio::test]
    async fn nobody_is_let_in_only_when_the_configuration_says_so() {
        let (client, _server) = ApiServer::new();
        let closed = Auth::new(&config(OPEN), &client).unwrap();
        assert_eq!(name(&closed, &mut HeaderMap::new()).await, Err(401));
        let anonymous = format!("{OPEN}authentication: {{anonymous: {{enabled: true}}}}");
        let open = Auth::new(&config(&anonymous), &client).unwrap();
        let admitted = name(&open, &mut HeaderMap::new()).await;
        assert_eq!(admitted.as_deref(), Ok("system:anonymous"));
    }

    #[tokio::test]
    async fn a_wrong_token_is_worse_than_none() {
        let (client, mut server) = ApiServer::new();
        let anonymous = format!("{OPEN}authentication: {{anonymous: {{enabled: true}}}}");
        let auth = Auth::new(&config(&anonymous), &client).unwrap();
        let mut headers = token();
        let answer = async {
            let call = server.next().await;
            call.answer(
                201,
                &json!({"metadata": {}, "spec": {}, "status": {"authenticated": false}}),
            );
        };
        let (admitted, ()) = tokio::join!(name(&auth, &mut headers), answer);
        assert_eq!(admitted, Err(401));
        assert!(headers.is_empty(), "the token goes no further");
    }

    #[tokio::test]
    async fn without_the_webhook_tokens_are_nothing() {
        let (client, _server) = ApiServer::new();
        let text =
            format!("{OPEN}authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}");
        let auth = Auth::new(&config(&text), &client).unwrap();
        assert_eq!(name(&auth, &mut token()).await.as_deref(), Ok("system:anonymous"));
        assert!(!auth.takes_certificates());
    }

    #[tokio::test]
    async fn a_missing_authority_is_a_start_error() {
        let (client, _server) = ApiServer::new();
        let text = "authentication: {x509: {clientCAFile: /nonexistent/ca.crt}}";
        let error = Auth::new(&config(text), &client).err().unwrap();
        assert!(format!("{:#}", anyhow::Error::new(error)).contains("/nonexistent/ca.crt"));
    }
}
