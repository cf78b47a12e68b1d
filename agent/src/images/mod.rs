//! Images: is it here, may it be pulled, pull it.
//!
//! * Inputs: a pod's container, its pull secrets, the node's registry credentials. Output: what the container is
//!   made from, or the waiting reason and message, in the reference's words.
//! * One task for each running pull, so that a pod which goes away cancels nobody else's pull. Concurrent demands for
//!   one image with the same credentials share a pull; a semaphore bounds how many run.
//! * Back-off between failed attempts lives in the core.

mod credentials;
mod name;
mod pull;
mod throttle;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Secret};
use thiserror::Error;

use crate::metrics::{EnsureImage, ImageMetrics};
use crate::pods::spec::{ImageRef, ImageUser, PodSandboxConfig};
use crate::runtime::{Image, Runtime, RuntimeError};

use credentials::Keyring;
use pull::{Pulled, Puller};

/// An image seen this recently is believed to be there still.
const FRESH: Duration = Duration::from_secs(30);
/// Images remembered at most; a node has tens.
const REMEMBERED: usize = 256;

/// How images are pulled, from KubeletConfiguration.
#[derive(Debug, Clone)]
pub(crate) struct ImagesConfig {
    /// `serializeImagePulls`.
    pub(crate) serialize: bool,
    /// `maxParallelImagePulls`; `None` is without bound.
    pub(crate) max_parallel: Option<usize>,
    /// `registryPullQPS`, pulls a second; 0 is without bound.
    pub(crate) qps: f64,
    /// `registryBurst`.
    pub(crate) burst: u32,
    /// Folders that may hold a `config.json` or `.dockercfg`, the first found wins.
    pub(crate) credential_dirs: Vec<PathBuf>,
}

impl ImagesConfig {
    /// The reference's defaults for an agent with this root folder.
    pub(crate) fn new(root_dir: PathBuf) -> Self {
        let credential_dirs = vec![
            root_dir,
            PathBuf::from("/root/.docker"),
            PathBuf::from("/.docker"),
        ];
        Self {
            serialize: true,
            max_parallel: None,
            qps: 5.0,
            burst: 10,
            credential_dirs,
        }
    }
}

/// Images of the runtime. Clones share everything.
#[derive(Clone)]
pub(crate) struct Images {
    runtime: Runtime,
    puller: Puller,
    config: Arc<ImagesConfig>,
    seen: Arc<Mutex<HashMap<String, (Image, Instant)>>>,
    metrics: ImageMetrics,
}

/// What somebody wants an image for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageRequest<'a> {
    /// A container.
    pub(crate) container: &'a Container,
    /// Its pod's `imagePullSecrets`, those that could be read.
    pub(crate) secrets: &'a [Arc<Secret>],
    /// The pod's sandbox configuration, for the runtime.
    pub(crate) sandbox: Option<&'a PodSandboxConfig>,
}

/// An event to record on the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageEvent {
    /// `Warning`, else `Normal`.
    pub(crate) warning: bool,
    /// `Pulling`, `Pulled`, `Failed`, `InspectFailed`, `ErrImageNeverPull`.
    pub(crate) reason: &'static str,
    /// In the reference's words.
    pub(crate) message: String,
}

/// Why a container waits for its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageReason {
    /// The name cannot be parsed.
    InvalidImageName,
    /// The runtime did not say whether it has it.
    ImageInspectError,
    /// It is not there and must not be pulled.
    ErrImageNeverPull,
    /// The pull failed.
    ErrImagePull,
    /// The registry does not answer.
    RegistryUnavailable,
    /// The runtime's policy refused the signature.
    SignatureValidationFailed,
}

impl ImageReason {
    /// As in `state.waiting.reason`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidImageName => "InvalidImageName",
            Self::ImageInspectError => "ImageInspectError",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::ErrImagePull => "ErrImagePull",
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::SignatureValidationFailed => "SignatureValidationFailed",
        }
    }
}

/// There is no image. Retry with back-off: all of these can heal.
#[derive(Debug, Clone, Error)]
#[error("{}: {message}", reason.as_str())]
pub(crate) struct ImageError {
    /// `state.waiting.reason`.
    pub(crate) reason: ImageReason,
    /// `state.waiting.message`.
    pub(crate) message: String,
}

impl ImageError {
    fn new(reason: ImageReason, message: String) -> Self {
        Self { reason, message }
    }
}

impl Images {
    pub(crate) fn new(runtime: Runtime, config: ImagesConfig) -> Self {
        let puller = Puller::new(runtime.clone(), &config);
        Self {
            runtime,
            puller,
            config: Arc::new(config),
            seen: Arc::default(),
            metrics: ImageMetrics::default(),
        }
    }

    /// The same images, with wishes and pulls counted here.
    #[must_use]
    pub(crate) fn counting(self, metrics: ImageMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Makes sure that the container's image is there as its pull policy demands. `notify` gets the events as they
    /// happen. Cancel safe: a pull goes on for others.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub(crate) async fn ensure(
        &self,
        request: ImageRequest<'_>,
        notify: &(dyn Fn(ImageEvent) + Send + Sync),
    ) -> Result<ImageRef, ImageError> {
        let outcome = self.ensure_inner(request, notify).await;
        if let Err(error) = &outcome {
            notify(warning("Failed", format!("Error: {}", error.reason.as_str())));
        }
        outcome
    }

    async fn ensure_inner(
        &self,
        request: ImageRequest<'_>,
        notify: &(dyn Fn(ImageEvent) + Send + Sync),
    ) -> Result<ImageRef, ImageError> {
        let wanted = request.container.image.as_deref().unwrap_or_default();
        let reference = name::with_default_tag(wanted).map_err(|error| {
            let message = format!("Failed to apply default image tag {wanted:?}: {error}");
            notify(warning("InspectFailed", message.clone()));
            ImageError::new(ImageReason::InvalidImageName, message)
        })?;
        let policy = policy(request.container, &reference);
        if policy != Policy::Always {
            let present = self.status(&reference).await.map_err(|error| {
                self.count(policy, None, None);
                let message = format!("Failed to inspect image {wanted:?}: {}", error.message());
                notify(warning("InspectFailed", message.clone()));
                ImageError::new(ImageReason::ImageInspectError, message)
            })?;
            if let Some(image) = present {
                self.count(policy, Some(true), Some(false));
                notify(normal(
                    "Pulled",
                    format!(
                        "Container image {wanted:?} already present on machine and can be accessed by the pod"
                    ),
                ));
                return Ok(image_ref(&image));
            }
        }
        if policy == Policy::Never {
            self.count(policy, Some(false), None);
            let message = format!("Container image {wanted:?} is not present with pull policy of Never");
            notify(warning("ErrImageNeverPull", message.clone()));
            return Err(ImageError::new(ImageReason::ErrImageNeverPull, message));
        }
        // With `Always` nobody looks whether it is there.
        let present = (policy == Policy::IfNotPresent).then_some(false);
        self.count(policy, present, Some(true));
        self.pull(request, reference, notify).await
    }

    fn count(&self, policy: Policy, present: Option<bool>, pulled: Option<bool>) {
        let policy = policy.as_str();
        self.metrics.ensured(EnsureImage {
            policy,
            present,
            pulled,
        });
    }

    async fn pull(
        &self,
        request: ImageRequest<'_>,
        reference: String,
        notify: &(dyn Fn(ImageEvent) + Send + Sync),
    ) -> Result<ImageRef, ImageError> {
        let wanted = request.container.image.as_deref().unwrap_or_default();
        let keyring = Keyring::new(request.secrets, &self.config.credential_dirs);
        let credentials = keyring.lookup(&name::repository(&reference));
        notify(normal("Pulling", format!("Pulling image {wanted:?}")));
        let started = Instant::now();
        let pulled = self
            .puller
            .pull(reference.clone(), credentials, request.sandbox.cloned())
            .await;
        match pulled {
            Ok(Pulled { image, took }) => {
                self.remember(&reference, image.clone());
                self.metrics.pulled(image.size_bytes, started.elapsed());
                notify(normal(
                    "Pulled",
                    format!(
                        "Successfully pulled image {wanted:?} in {} ({} including waiting). Image size: {} bytes.",
                        throttle::go_duration(took),
                        throttle::go_duration(started.elapsed()),
                        image.size_bytes
                    ),
                ));
                Ok(image_ref(&image))
            }
            Err(why) => {
                self.forget(&reference);
                notify(warning(
                    "Failed",
                    format!("Failed to pull image {wanted:?}: {why}"),
                ));
                Err(pull_error(wanted, &why))
            }
        }
    }

    /// Drops what is remembered of an image: after a container could not be made from it.
    pub(crate) fn forget(&self, image: &str) {
        let reference = name::with_default_tag(image);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(reference.as_deref().unwrap_or(image));
    }

    /// From memory when seen a moment ago, else from the runtime.
    async fn status(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let remembered = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.get(reference)
                .filter(|(_, when)| when.elapsed() < FRESH)
                .map(|(image, _)| image.clone())
        };
        if remembered.is_some() {
            return Ok(remembered);
        }
        let image = self.runtime.image_status(reference).await?;
        if let Some(image) = &image {
            self.remember(reference, image.clone());
        }
        Ok(image)
    }

    fn remember(&self, reference: &str, image: Image) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, (_, when)| when.elapsed() < FRESH);
        }
        if seen.len() < REMEMBERED {
            seen.insert(reference.to_owned(), (image, Instant::now()));
        }
    }
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

impl Policy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::IfNotPresent => "ifnotpresent",
            Self::Never => "never",
        }
    }
}

/// The API server defaults the field; a static pod's container gets the same default here.
fn policy(container: &Container, reference: &str) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        Some("IfNotPresent") => Policy::IfNotPresent,
        _ if reference.ends_with(":latest") => Policy::Always,
        _ => Policy::IfNotPresent,
    }
}

fn image_ref(image: &Image) -> ImageRef {
    let user = match image.uid {
        Some(uid) => ImageUser::Uid(uid),
        None if image.username.is_empty() => ImageUser::Uid(0),
        None => ImageUser::Name(image.username.clone()),
    };
    ImageRef {
        id: image.id.clone(),
        user,
    }
}

/// Two failures have a name of their own, by which the runtime's message starts.
fn pull_error(image: &str, why: &str) -> ImageError {
    let named = |prefix: &str, text: &str, reason| {
        let rest = why.strip_prefix(prefix)?;
        Some(ImageError::new(
            reason,
            format!("image pull failed for {image} because {text}{rest}"),
        ))
    };
    named(
        "RegistryUnavailable",
        "the registry is unavailable",
        ImageReason::RegistryUnavailable,
    )
    .or_else(|| {
        let reason = ImageReason::SignatureValidationFailed;
        named(
            "SignatureValidationFailed",
            "the signature validation failed",
            reason,
        )
    })
    .unwrap_or_else(|| ImageError::new(ImageReason::ErrImagePull, why.to_owned()))
}

fn normal(reason: &'static str, message: String) -> ImageEvent {
    ImageEvent {
        warning: false,
        reason,
        message,
    }
}

fn warning(reason: &'static str, message: String) -> ImageEvent {
    ImageEvent {
        warning: true,
        reason,
        message,
    }
}

#[cfg(test)]
mod tests;
