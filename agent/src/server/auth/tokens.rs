//! Users by bearer token: the API server is asked (TokenReview), its answer counts for `cacheTTL`.
//!
//! As in the reference no audiences are asked for: the token must be one for the API server. Failures to ask are
//! not remembered; what the API server says is, yes or no.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client};

use super::{asking::Asking, cache::Cache, user::User};

/// A WebSocket client that cannot set headers sends its token as a protocol with this prefix.
const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Asks about tokens.
pub(super) struct Tokens {
    api: Api<TokenReview>,
    asking: Arc<Asking>,
    cache: Cache<Option<User>>,
    life: Duration,
}

/// A bearer token; never shown.
pub(super) struct Token(String);

impl Tokens {
    pub(super) fn new(client: &Client, asking: Arc<Asking>, life: Duration) -> Self {
        Self {
            api: Api::all(client.clone()),
            asking,
            cache: Cache::new(),
            life,
        }
    }

    /// The user of a token; `None` when it is not valid.
    ///
    /// # Errors
    /// When the API server gives no answer, in words.
    pub(super) async fn user(&self, token: &Token) -> Result<Option<User>, String> {
        let key = self.cache.key(token.0.as_bytes());
        if let Some(known) = self.cache.get(&key, Instant::now()) {
            return Ok(known);
        }
        let _turn = self.asking.turn().await;
        // Somebody else may have asked the same while this one waited.
        if let Some(known) = self.cache.get(&key, Instant::now()) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.0.clone(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let answer = self.asking.create(&self.api, &review).await?;
        let user = verdict(answer.status.unwrap_or_default())?;
        self.cache.put(key, user.clone(), self.life, Instant::now());
        Ok(user)
    }
}

/// What the API server says. An error of its own is no verdict.
fn verdict(status: TokenReviewStatus) -> Result<Option<User>, String> {
    if status.authenticated != Some(true) {
        return match status.error.filter(|error| !error.is_empty()) {
            Some(error) => Err(error),
            None => Ok(None),
        };
    }
    let info = status.user.unwrap_or_default();
    let mut user = User::new(info.username.unwrap_or_default(), info.groups.unwrap_or_default());
    user.uid = info.uid.unwrap_or_default();
    user.extra = info.extra.unwrap_or_default();
    Ok(Some(user.authenticated()))
}

/// Takes the bearer token out of a request, so that nothing behind this point sees it.
pub(super) fn take(headers: &mut HeaderMap) -> Option<Token> {
    let bearer = headers.get(AUTHORIZATION).and_then(bearer);
    if bearer.is_some() {
        headers.remove(AUTHORIZATION);
    }
    let protocol = if headers.contains_key(UPGRADE) {
        take_protocol(headers)
    } else {
        None
    };
    bearer.or(protocol)
}

fn bearer(header: &HeaderValue) -> Option<Token> {
    let mut parts = header.to_str().ok()?.trim().splitn(3, ' ');
    let scheme = parts.next()?;
    let token = parts.next().filter(|token| !token.is_empty())?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| Token(token.to_owned()))
}

/// The token among a WebSocket's protocols; the others stay.
fn take_protocol(headers: &mut HeaderMap) -> Option<Token> {
    let mut token = None;
    let mut kept = Vec::new();
    for header in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for protocol in header.to_str().ok()?.split(',').map(str::trim) {
            match protocol.strip_prefix(PROTOCOL) {
                Some(encoded) if token.is_none() => {
                    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok()?;
                    token = Some(Token(String::from_utf8(decoded).ok()?));
                }
                Some(_) => return None,
                None => kept.push(protocol.to_owned()),
            }
        }
    }
    // A client that sends nothing but its token would get no protocol back; the reference refuses it too.
    let token = token.filter(|token| !token.0.is_empty() && !kept.is_empty())?;
    let kept = HeaderValue::try_from(kept.join(",")).ok()?;
    headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    Some(token)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::ApiServer;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs
            .map(|(name, value)| (name, HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn taken(pairs: &[(HeaderName, &str)]) -> Option<String> {
        take(&mut headers(pairs)).map(|token| token.0)
    }

    #[test]
    fn tokens_are_taken_out_of_requests() {
        let found = |text: &str| taken(&[(AUTHORIZATION, text)]);
        assert_eq!(found("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(found("  bearer abc def ").as_deref(), Some("abc"));
        for text in ["Bearer", "Bearer  abc", "Basic abc", "abc", ""] {
            assert_eq!(found(text), None, "{text:?}");
        }
        let mut all = headers(&[(AUTHORIZATION, "Bearer abc")]);
        assert!(take(&mut all).is_some() && all.is_empty());
    }

    #[test]
    fn a_websocket_carries_its_token_as_a_protocol() {
        let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        let mut all = headers(&[(UPGRADE, "websocket"), (SEC_WEBSOCKET_PROTOCOL, protocols)]);
        assert_eq!(take(&mut all).map(|token| token.0).as_deref(), Some("abc"));
        assert_eq!(all[SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        let alone = "base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(
            taken(&[(UPGRADE, "websocket"), (SEC_WEBSOCKET_PROTOCOL, alone)]),
            None
        );
        assert_eq!(taken(&[(SEC_WEBSOCKET_PROTOCOL, protocols)]), None, "no upgrade");
    }

    #[tokio::test]
    async fn the_api_server_is_asked_once_and_its_word_counts() {
        let (client, mut server) = ApiServer::new();
        let tokens = Tokens::new(&client, Arc::default(), Duration::from_secs(120));
        let (good, bad) = (Token("good".into()), Token("bad".into()));
        let ask = tokens.user(&good);
        let answer = async {
            let call = server.next().await;
            assert_eq!(call.line(), "POST /apis/authentication.k8s.io/v1/tokenreviews");
            assert_eq!(call.body["spec"], json!({"token": "good"}));
            call.answer(
                201,
                &json!({"metadata": {}, "spec": {}, "status": {"authenticated": true, "user": {
                    "username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}}}}),
            );
        };
        let (user, ()) = tokio::join!(ask, answer);
        let user = user.unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("u", "1"));
        assert_eq!(user.groups, ["g", "system:authenticated"]);
        assert_eq!(
            tokens.user(&good).await.unwrap(),
            Some(user),
            "without another question"
        );
        let answer = async {
            let call = server.next().await;
            call.answer(
                201,
                &json!({"metadata": {}, "spec": {}, "status": {"authenticated": false}}),
            );
        };
        let (user, ()) = tokio::join!(tokens.user(&bad), answer);
        assert_eq!(user, Ok(None));
        assert_eq!(tokens.user(&bad).await, Ok(None));
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let (client, mut server) = ApiServer::new();
        let tokens = Tokens::new(&client, Arc::default(), Duration::from_secs(120));
        let token = Token("t".into());
        for _ in 0..2 {
            let answer = async {
                let call = server.next().await;
                call.answer(
                    201,
                    &json!({"metadata": {}, "spec": {}, "status": {"error": "no idea"}}),
                );
            };
            let (user, ()) = tokio::join!(tokens.user(&token), answer);
            assert_eq!(user, Err("no idea".to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[ -~]{0,60}", protocols in "[ -~]{0,60}") {
            let _ = taken(&[(AUTHORIZATION, &text), (UPGRADE, "x"), (SEC_WEBSOCKET_PROTOCOL, &protocols)]);
        }
    }
}
