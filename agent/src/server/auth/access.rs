//! May this user do that? `AlwaysAllow`, or `Webhook`: the API server is asked (SubjectAccessReview).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gantry_agent_core::api::Area;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client};

use super::{asking::Asking, cache::Cache, user::User};
use crate::{config::Settings, server::Refusal};

/// The configuration's `authorization.mode`.
pub(super) enum Access {
    /// Everybody who is somebody may do everything.
    AlwaysAllow,
    /// The API server decides.
    Webhook(Box<Webhook>),
}

/// Asks the API server.
pub(super) struct Webhook {
    api: Api<SubjectAccessReview>,
    asking: Arc<Asking>,
    cache: Cache<bool>,
    node: String,
    /// How long a yes counts.
    allowed: Duration,
    /// How long a no counts.
    refused: Duration,
}

impl Access {
    pub(super) fn new(client: &Client, asking: Arc<Asking>, node: &str, settings: &Settings) -> Self {
        if settings.authorization.mode == "AlwaysAllow" {
            return Self::AlwaysAllow;
        }
        let webhook = &settings.authorization.webhook;
        Self::Webhook(Box::new(Webhook {
            api: Api::all(client.clone()),
            asking,
            cache: Cache::new(),
            node: node.to_owned(),
            allowed: webhook.cache_authorized_ttl,
            refused: webhook.cache_unauthorized_ttl,
        }))
    }

    /// One of the area's subresources is enough.
    ///
    /// # Errors
    /// 403, or 500 when the API server gives no answer.
    pub(super) async fn check(&self, user: &User, area: Area, method: &str) -> Result<(), Refusal> {
        let Self::Webhook(webhook) = self else {
            return Ok(());
        };
        let (verb, subresources) = (area.verb(method), area.subresources());
        for subresource in subresources {
            match webhook.allows(user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        user = user.name,
                        verb,
                        subresource,
                        error,
                        "cannot ask whether a request is allowed"
                    );
                    return Err(Refusal::internal(format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                        user.name
                    )));
                }
            }
        }
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err(Refusal::new(hyper::StatusCode::FORBIDDEN, text))
    }
}

impl Webhook {
    async fn allows(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, String> {
        let spec = self.question(user, verb, subresource);
        let text = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
        let key = self.cache.key(&text);
        if let Some(known) = self.cache.get(&key, Instant::now()) {
            return Ok(known);
        }
        let _turn = self.asking.turn().await;
        if let Some(known) = self.cache.get(&key, Instant::now()) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec,
            ..SubjectAccessReview::default()
        };
        let status = self
            .asking
            .create(&self.api, &review)
            .await?
            .status
            .unwrap_or_default();
        let allowed = status.allowed && !status.denied.unwrap_or_default();
        let life = if allowed { self.allowed } else { self.refused };
        self.cache.put(key, allowed, life, Instant::now());
        Ok(allowed)
    }

    fn question(&self, user: &User, verb: &str, subresource: &str) -> SubjectAccessReviewSpec {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        SubjectAccessReviewSpec {
            user: text(&user.name),
            uid: text(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes: Some(ResourceAttributes {
                verb: text(verb),
                version: text("v1"),
                resource: text("nodes"),
                subresource: text(subresource),
                name: text(&self.node),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        config::testing::settings,
        testing::{ApiServer, Call},
    };

    fn review(call: Call, allowed: bool) -> serde_json::Value {
        let spec = call.body["spec"].clone();
        call.answer(
            201,
            &json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}}),
        );
        spec
    }

    fn user() -> User {
        User::new("u".into(), vec!["g".into()])
    }

    #[tokio::test]
    async fn the_first_subresource_that_is_allowed_wins_and_both_answers_are_kept() {
        let (client, mut server) = ApiServer::new();
        let access = Access::new(&client, Arc::default(), "node-1", &settings(""));
        let user = user();
        let answers = async {
            let first = review(server.next().await, false);
            assert_eq!(
                first,
                json!({"user": "u", "groups": ["g"], "resourceAttributes": {
                    "verb": "get", "version": "v1", "resource": "nodes", "subresource": "pods", "name": "node-1"}})
            );
            let second = review(server.next().await, true);
            assert_eq!(second["resourceAttributes"]["subresource"], "proxy");
        };
        let (checked, ()) = tokio::join!(access.check(&user, Area::Pods, "GET"), answers);
        assert_eq!(checked, Ok(()));
        assert_eq!(
            access.check(&user, Area::Pods, "GET").await,
            Ok(()),
            "from the cache"
        );
    }

    #[tokio::test]
    async fn refusals_read_as_the_references() {
        let (client, mut server) = ApiServer::new();
        let access = Access::new(&client, Arc::default(), "node-1", &settings(""));
        let user = user();
        let answers = async {
            review(server.next().await, false);
            review(server.next().await, false);
        };
        let (checked, ()) = tokio::join!(access.check(&user, Area::Configz, "GET"), answers);
        let refusal = checked.unwrap_err();
        assert_eq!(
            (refusal.status().as_u16(), refusal.text()),
            (
                403,
                "Forbidden (user=u, verb=get, resource=nodes, subresource(s)=[configz proxy])\n"
            )
        );
        let answer = async { server.next().await.refuse(400) };
        let (checked, ()) = tokio::join!(access.check(&user, Area::Exec, "GET"), answer);
        let refusal = checked.unwrap_err();
        assert_eq!(
            (refusal.status().as_u16(), refusal.text()),
            (
                500,
                "Authorization error (user=u, verb=create, resource=nodes, subresource=proxy)"
            )
        );
    }

    #[tokio::test]
    async fn always_allow_asks_nobody() {
        let (client, _server) = ApiServer::new();
        let settings = settings("authorization: {mode: AlwaysAllow}");
        let access = Access::new(&client, Arc::default(), "node-1", &settings);
        assert_eq!(access.check(&user(), Area::Exec, "POST").await, Ok(()));
    }
}
