//! The container runtime, over CRI v1 on a unix socket: one channel, typed calls, typed errors and a cache of what
//! runs. CRI messages stay in here and in `pods::spec`; everything else sees `core::observed`.
//!
//! ```text
//! executor ──> Runtime (calls) ──────────────> containerd, CRI-O
//!                 │ merges what it learned         │
//!                 v                                │ GetContainerEvents, native events (hints), slow full list
//!              PodCache <── Watcher (tasks) <──────┘
//!                 │ watch per pod
//!                 v
//!              pod workers
//! ```
//!
//! * Inputs: the endpoint, a request timeout. Outputs: answers, one `watch` of `Arc<ObservedPod>` for each pod.
//! * Tasks: those of [`Watcher`] (CRI events, native hints, relist); they end when it is dropped.
//! * The channel is lazy and reconnects by itself: an absent runtime is an [`RuntimeError::Unreachable`] for each
//!   call, the cache keeps its last known state, and a relist follows the reconnect.

mod births;
mod cache;
mod calls;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod hints;
mod image;
mod log;
mod merge;
mod message;
mod observe;
mod relist;
mod stats;
mod streaming;
mod watcher;

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gantry_cri::v1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::metrics::RuntimeMetrics;

use births::Births;
pub(crate) use cache::PodCache;
pub(crate) use calls::{ExecOutput, MadeSandbox};
pub(crate) use error::RuntimeError;
pub(crate) use image::{Image, PullAuth};
pub(crate) use log::ContainerLog;
pub(crate) use observe::keys;
pub(crate) use stats::FsUsage;
pub(crate) use watcher::Watcher;

/// The CRI version string that the reference sends with `Version`.
const CRI_VERSION: &str = "0.1.0";
/// The runtime may hang without closing its socket; this finds out, also during a long image pull.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

type RuntimeClient = v1::runtime_service_client::RuntimeServiceClient<Channel>;
type ImageClient = v1::image_service_client::ImageServiceClient<Channel>;

/// A handle on the container runtime. Cheap to clone; all clones share one connection and one cache.
#[derive(Clone)]
pub(crate) struct Runtime {
    runtime: RuntimeClient,
    images: ImageClient,
    channel: Channel,
    timeout: Duration,
    cache: PodCache,
    metrics: RuntimeMetrics,
    births: Births,
}

/// The endpoint cannot be used. Final.
#[derive(Debug, Error)]
#[error(
    "container runtime endpoint {endpoint:?}: expected unix:///path/to/socket (or an absolute path), such as \
     unix:///run/containerd/containerd.sock"
)]
pub(crate) struct EndpointError {
    endpoint: String,
}

/// `Version`: who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeVersion {
    /// `containerd`, `cri-o`.
    pub(crate) name: String,
    /// As the runtime writes it: `v2.4.2`.
    pub(crate) version: String,
}

impl RuntimeVersion {
    /// As in `node.status.nodeInfo.containerRuntimeVersion`: `containerd://2.4.2`.
    #[must_use]
    pub(crate) fn node_info(&self) -> String {
        format!("{}://{}", self.name, self.version.trim_start_matches('v'))
    }
}

/// `Status`: is the runtime ready, is its network ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuntimeStatus {
    /// `RuntimeReady`, `NetworkReady` and whatever else the runtime reports.
    pub(crate) conditions: Vec<RuntimeCondition>,
    /// One for each runtime handler, the default one has an empty name.
    pub(crate) handlers: Vec<RuntimeHandler>,
    /// The runtime honours `supplementalGroupsPolicy`; `None` when it does not say.
    pub(crate) supplemental_groups_policy: Option<bool>,
}

/// One condition of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeCondition {
    /// `RuntimeReady`, `NetworkReady`.
    pub(crate) kind: String,
    /// True when good.
    pub(crate) status: bool,
    /// A word.
    pub(crate) reason: String,
    /// A sentence.
    pub(crate) message: String,
}

/// What one runtime handler can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeHandler {
    /// The name used by RuntimeClass; empty for the default.
    pub(crate) name: String,
    /// Recursive read-only mounts.
    pub(crate) recursive_read_only_mounts: bool,
    /// User namespaces.
    pub(crate) user_namespaces: bool,
}

/// Who manages cgroups below the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupDriver {
    /// systemd slices and scopes.
    Systemd,
    /// Plain directories.
    Cgroupfs,
}

impl RuntimeStatus {
    /// The condition named `kind`.
    #[must_use]
    pub(crate) fn condition(&self, kind: &str) -> Option<&RuntimeCondition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// No sandbox can get an address before this is true.
    #[must_use]
    pub(crate) fn network_ready(&self) -> bool {
        self.condition("NetworkReady").is_some_and(|c| c.status)
    }
}

impl Runtime {
    /// Prepares the channel to `endpoint` (`unix:///run/containerd/containerd.sock`). Nothing is sent yet: the
    /// first call connects, and so does each call after a broken connection. `timeout` is KubeletConfiguration's
    /// `runtimeRequestTimeout`.
    ///
    /// # Errors
    /// When the endpoint is no unix socket.
    pub(crate) fn connect(endpoint: &str, timeout: Duration) -> Result<Self, EndpointError> {
        let path = socket_path(endpoint).ok_or_else(|| EndpointError {
            endpoint: endpoint.to_owned(),
        })?;
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .connect_with_connector_lazy(connector);
        let limit = gantry_cri::MAX_MESSAGE_BYTES;
        Ok(Self {
            runtime: RuntimeClient::new(channel.clone())
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit),
            images: ImageClient::new(channel.clone())
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit),
            channel,
            timeout,
            cache: PodCache::default(),
            metrics: RuntimeMetrics::default(),
            births: Births::default(),
        })
    }

    /// The same runtime, with its calls counted here.
    #[must_use]
    pub(crate) fn counting(self, metrics: RuntimeMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// What runs, as far as known.
    #[must_use]
    pub(crate) fn pods(&self) -> &PodCache {
        &self.cache
    }

    /// Starts the tasks that keep [`Runtime::pods`] current.
    #[must_use]
    pub(crate) fn watch(&self) -> Watcher {
        Watcher::spawn(self.clone())
    }

    /// CRI `Version`.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn version(&self) -> Result<RuntimeVersion, RuntimeError> {
        let request = v1::VersionRequest {
            version: CRI_VERSION.to_owned(),
        };
        let mut client = self.runtime.clone();
        let answer = self.unary("Version", self.timeout, request, |r| async move {
            client.version(r).await
        });
        let answer = answer.await?;
        Ok(RuntimeVersion {
            name: answer.runtime_name,
            version: answer.runtime_version,
        })
    }

    /// CRI `Status`.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn status(&self) -> Result<RuntimeStatus, RuntimeError> {
        let request = v1::StatusRequest { verbose: false };
        let mut client = self.runtime.clone();
        let answer = self.unary("Status", self.timeout, request, |r| async move {
            client.status(r).await
        });
        Ok(runtime_status(answer.await?))
    }

    /// CRI `RuntimeConfig`: the cgroup driver that the runtime uses; `None` when it does not implement the call,
    /// and then the agent's own configuration decides.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn cgroup_driver(&self) -> Result<Option<CgroupDriver>, RuntimeError> {
        let request = v1::RuntimeConfigRequest {};
        let mut client = self.runtime.clone();
        let answer = self
            .unary("RuntimeConfig", self.timeout, request, |r| async move {
                client.runtime_config(r).await
            })
            .await;
        match answer {
            Ok(answer) => Ok(answer.linux.map(|linux| match linux.cgroup_driver() {
                v1::CgroupDriver::Systemd => CgroupDriver::Systemd,
                v1::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
            })),
            Err(RuntimeError::Unimplemented { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One unary call with a deadline, sent along as `grpc-timeout` so that the runtime gives up too.
    async fn unary<Req, Resp, F, Fut>(
        &self,
        operation: &'static str,
        limit: Duration,
        message: Req,
        call: F,
    ) -> Result<Resp, RuntimeError>
    where
        F: FnOnce(Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Resp>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(limit);
        let begun = Instant::now();
        // Boxed: these futures are large, and every worker would carry the largest.
        let answer = match tokio::time::timeout(limit, Box::pin(call(request))).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(RuntimeError::new(operation, limit, &status)),
            Err(_elapsed) => Err(RuntimeError::Timeout { operation, limit }),
        };
        self.metrics.called(operation, begun.elapsed(), answer.is_err());
        answer
    }
}

fn socket_path(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn runtime_status(answer: v1::StatusResponse) -> RuntimeStatus {
    let conditions = answer.status.map(|s| s.conditions).unwrap_or_default();
    RuntimeStatus {
        conditions: conditions
            .into_iter()
            .map(|c| RuntimeCondition {
                kind: c.r#type,
                status: c.status,
                reason: c.reason,
                message: c.message,
            })
            .collect(),
        handlers: answer
            .runtime_handlers
            .into_iter()
            .map(|h| {
                let features = h.features.unwrap_or_default();
                RuntimeHandler {
                    name: h.name,
                    recursive_read_only_mounts: features.recursive_read_only_mounts,
                    user_namespaces: features.user_namespaces,
                }
            })
            .collect(),
        supplemental_groups_policy: answer.features.map(|f| f.supplemental_groups_policy),
    }
}

#[cfg(test)]
mod tests;
