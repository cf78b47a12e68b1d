//! CRI image calls.

use std::fmt;
use std::time::Duration;

use gantry_cri::v1;

use super::{Runtime, RuntimeError};

/// A pull may take as long as it makes progress. containerd gives up by itself when nothing moves for five minutes
/// (`image_pull_progress_timeout`), and the channel's keep-alive notices a runtime that hangs; this bound is only
/// there so that no call is without one.
const PULL_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// An image that the runtime has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// The runtime's identifier, as containers are made with.
    pub(crate) id: String,
    /// Names with a tag.
    pub(crate) repo_tags: Vec<String>,
    /// Names with a digest.
    pub(crate) repo_digests: Vec<String>,
    /// Size on disk, in bytes.
    pub(crate) size_bytes: u64,
    /// The numeric user that it runs as, if it names one by number.
    pub(crate) uid: Option<i64>,
    /// The user that it runs as, when given by name.
    pub(crate) username: String,
    /// The runtime must not be asked to remove it.
    pub(crate) pinned: bool,
}

/// Registry credentials for one pull. Never printed.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct PullAuth {
    /// User name.
    pub(crate) username: String,
    /// Password.
    pub(crate) password: String,
    /// Base64 of `user:password`, when given in that form.
    pub(crate) auth: String,
    /// The registry.
    pub(crate) server_address: String,
    /// OAuth2 refresh token.
    pub(crate) identity_token: String,
    /// Bearer token.
    pub(crate) registry_token: String,
}

impl fmt::Debug for PullAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullAuth")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// The image that `reference` (a name, digest or id) means; `None` when the runtime does not have it.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn image_status(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let image = Some(v1::ImageSpec {
            image: reference.to_owned(),
            ..v1::ImageSpec::default()
        });
        let request = v1::ImageStatusRequest {
            image,
            verbose: false,
        };
        let mut client = self.images.clone();
        let answer = self.unary("ImageStatus", self.timeout, request, |r| async move {
            client.image_status(r).await
        });
        Ok(answer
            .await?
            .image
            .filter(|image| !image.id.is_empty())
            .map(image_from))
    }

    /// Pulls an image; returns the reference that containers are made with. `sandbox` tells the runtime for whom.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn pull_image(
        &self,
        reference: &str,
        auth: Option<PullAuth>,
        sandbox: Option<v1::PodSandboxConfig>,
    ) -> Result<String, RuntimeError> {
        let annotations = sandbox
            .as_ref()
            .map(|s| s.annotations.clone())
            .unwrap_or_default();
        let image = Some(v1::ImageSpec {
            image: reference.to_owned(),
            annotations,
            ..v1::ImageSpec::default()
        });
        let request = v1::PullImageRequest {
            image,
            auth: auth.map(auth_config),
            sandbox_config: sandbox,
        };
        let mut client = self.images.clone();
        let answer = self.unary("PullImage", PULL_LIMIT, request, |r| async move {
            client.pull_image(r).await
        });
        Ok(answer.await?.image_ref)
    }

    /// All images that the runtime has.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn list_images(&self) -> Result<Vec<Image>, RuntimeError> {
        let request = v1::ListImagesRequest { filter: None };
        let mut client = self.images.clone();
        let answer = self.unary("ListImages", self.timeout, request, |r| async move {
            client.list_images(r).await
        });
        Ok(answer.await?.images.into_iter().map(image_from).collect())
    }
}

fn image_from(image: v1::Image) -> Image {
    Image {
        id: image.id,
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        size_bytes: image.size,
        uid: image.uid.map(|uid| uid.value),
        username: image.username,
        pinned: image.pinned,
    }
}

fn auth_config(auth: PullAuth) -> v1::AuthConfig {
    v1::AuthConfig {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}
