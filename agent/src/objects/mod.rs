//! What the pods of this node read from the API: configMaps, secrets, service account tokens, services.
//!
//! The node's credentials only allow to get, list and watch single objects by name (NodeRestriction), and only those
//! that a pod of the node refers to. So there is one [`watched`] entry per object that some pod refers to, counted by
//! pod; the first answer is a GET, a watch follows it. Changes mark the pods that refer to the object as dirty:
//! whoever writes their files waits on [`Dirty`].
//!
//! ```text
//! track(pod) ──> entry per object ── GET, then watch ──> value ──> config_map(), secret()
//!                                        └─ change ──> Dirty ──> volumes::refresh
//! ```
//!
//! * [`watched`]: the entries, one task each while some pod refers to them;
//! * [`tokens`]: TokenRequest with a cache by pod, service account and audience;
//! * [`services`]: one slim watch of all services, for the environment of containers;
//! * [`dirty`]: the set of pods whose inputs changed.

mod dirty;
#[cfg(test)]
pub(crate) mod fake;
mod services;
mod tokens;
mod watched;

use std::sync::Arc;

use gantry_agent_core::volumes::refs::{ObjectKind, ObjectRef, references};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};

pub(crate) use self::dirty::Dirty;
use self::services::Services;
pub(crate) use self::services::{Service, ServicePort};
use self::tokens::Tokens;
pub(crate) use self::tokens::{Token, TokenRef};
use self::watched::Watched;

/// Why an object could not be read. All of these are worth another try.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The API server says that it does not exist.
    #[error("{} \"{name}\" not found", kind.word())]
    Missing {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// The API server could not be asked, or refused.
    #[error("failed to get {} \"{name}\"", kind.word())]
    Fetch {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// What happened.
        #[source]
        source: Arc<kube::Error>,
    },
    /// No token for a pod's service account.
    #[error("failed to fetch token")]
    Token {
        /// What happened.
        #[source]
        source: Arc<kube::Error>,
    },
    /// The answer to a TokenRequest had no token.
    #[error("failed to fetch token: the answer has none")]
    EmptyToken,
}

impl ObjectError {
    /// For users: the API server's own words where there are some, as in the reference's events.
    #[must_use]
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Missing { .. } | Self::EmptyToken => self.to_string(),
            Self::Fetch { source, .. } => match &**source {
                kube::Error::Api(status) => status.message.clone(),
                other => format!("{self}: {}", chain(other)),
            },
            Self::Token { source } => match &**source {
                kube::Error::Api(status) => format!("{self}: {}", status.message),
                other => format!("{self}: {}", chain(other)),
            },
        }
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The caches. Cheap to clone; dropping the last clone ends all watches.
#[derive(Clone)]
pub(crate) struct Objects {
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
    tokens: Tokens,
    services: Services,
    dirty: Dirty,
}

impl Objects {
    /// Starts the watch of services; everything else starts when a pod needs it. Must be called inside a runtime.
    ///
    /// There is a watch per object that pods refer to: the client must open further connections when the server's limit
    /// of streams on one (100) comes near, as `gantry_kubeapi` does.
    #[must_use]
    pub(crate) fn new(client: &kube::Client) -> Self {
        let dirty = Dirty::default();
        Self {
            config_maps: Watched::new(client.clone(), dirty.clone()),
            secrets: Watched::new(client.clone(), dirty.clone()),
            tokens: Tokens::new(client.clone()),
            services: Services::new(client),
            dirty,
        }
    }

    /// Names what the pod refers to; replaces what it named before. Objects that nobody names any more are dropped.
    pub(crate) fn track(&self, pod: &Pod) {
        let (Some(uid), Some(namespace)) = (&pod.metadata.uid, &pod.metadata.namespace) else {
            return;
        };
        let names = |kind| {
            let of_kind = |object: ObjectRef| (object.kind == kind).then_some(object.name);
            references(pod).into_iter().filter_map(of_kind).collect()
        };
        self.config_maps
            .track(uid, namespace, names(ObjectKind::ConfigMap));
        self.secrets.track(uid, namespace, names(ObjectKind::Secret));
    }

    /// The pod is gone: its references are released and its tokens forgotten.
    pub(crate) fn forget(&self, uid: &str) {
        self.config_maps.forget(uid);
        self.secrets.forget(uid);
        self.tokens.forget(uid);
    }

    /// A configMap: from the cache when some tracked pod refers to it, else from the API server.
    ///
    /// # Errors
    /// When it does not exist or the API server cannot be asked.
    pub(crate) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<ConfigMap>, ObjectError> {
        self.config_maps.get(namespace, name).await
    }

    /// A secret, as [`Self::config_map`].
    ///
    /// # Errors
    /// When it does not exist or the API server cannot be asked.
    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, ObjectError> {
        self.secrets.get(namespace, name).await
    }

    /// A token of a pod's service account, bound to the pod: the cached one until 80 % of its life (at most 24 h), and
    /// while it is valid when no new one can be had.
    ///
    /// # Errors
    /// When there is no valid token and the API server gives none.
    pub(crate) async fn service_account_token(&self, wanted: &TokenRef) -> Result<Token, ObjectError> {
        self.tokens.get(wanted).await
    }

    /// Takes a token that an earlier run of the agent wrote, when it is one of the pod and still fresh.
    pub(crate) fn adopt_token(&self, wanted: &TokenRef, text: &str) {
        self.tokens.adopt(wanted, text);
    }

    /// The services of a namespace that have an address in the cluster, by name. Waits for the first full list.
    pub(crate) async fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.services.of(namespace).await
    }

    /// The pods whose objects changed since somebody last took them.
    #[must_use]
    pub(crate) fn dirty(&self) -> &Dirty {
        &self.dirty
    }
}
