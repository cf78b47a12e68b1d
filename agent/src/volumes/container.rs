//! The mounts of one container: volumes by name, sub paths resolved.

use std::path::PathBuf;

use gantry_agent_core::volumes::path::PathError;
use k8s_openapi::api::core::v1::VolumeMount;

use super::subpath::{self, Failure};
use super::{NameError, PodMounts, SubPathError, Volumes};

/// Which container's mounts.
#[derive(Clone, Copy)]
pub(crate) struct MountRequest<'a> {
    /// The pod's UID.
    pub uid: &'a str,
    /// The container's name.
    pub container: &'a str,
    /// Its `volumeMounts`.
    pub mounts: &'a [VolumeMount],
    /// The pod's volumes.
    pub volumes: &'a PodMounts,
    /// Expands a `subPathExpr` with the container's environment; the error is the message.
    pub expand: &'a (dyn Fn(&str) -> Result<String, String> + Sync),
}

/// A mount, in the order of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerMount {
    /// The volume's name.
    pub volume: String,
    /// What to mount.
    pub host_path: PathBuf,
    /// Where.
    pub container_path: String,
    /// The spec or the volume demands it.
    pub read_only: bool,
}

/// Why a container's mounts cannot be made: it waits with `CreateContainerConfigError` and this as the message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerMountError {
    /// The spec names a volume that is not there.
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// A `subPathExpr` that cannot be expanded.
    #[error("{0}")]
    Expand(String),
    /// A sub path that cannot be mounted.
    #[error(transparent)]
    SubPath(#[from] SubPathError),
    /// A name in the spec is refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The agent shuts down.
    #[error("the agent is stopping")]
    Stopping,
}

/// A sub path to be bound.
struct Part {
    index: usize,
    volume: String,
    source: PathBuf,
    sub_path: String,
    target: PathBuf,
}

impl Volumes {
    /// Resolves the mounts of a container that is about to be created. Sub paths are bound under `volume-subpaths/`;
    /// they stay until the pod is torn down.
    ///
    /// # Errors
    /// See [`ContainerMountError`].
    pub(crate) async fn container_mounts(
        &self,
        request: MountRequest<'_>,
    ) -> Result<Vec<ContainerMount>, ContainerMountError> {
        let mut resolved = Vec::with_capacity(request.mounts.len());
        let mut parts = Vec::new();
        for (index, mount) in request.mounts.iter().enumerate() {
            let volume = request
                .volumes
                .get(&mount.name)
                .ok_or_else(|| ContainerMountError::NoVolume {
                    volume: mount.name.clone(),
                    container: request.container.to_owned(),
                })?;
            let sub_path = match mount.sub_path_expr.as_deref().filter(|expr| !expr.is_empty()) {
                Some(expr) => (request.expand)(expr).map_err(ContainerMountError::Expand)?,
                None => mount.sub_path.clone().unwrap_or_default(),
            };
            let mut host_path = volume.host_path.clone();
            if !sub_path.is_empty() {
                let target = self
                    .layout()
                    .sub_path(request.uid, &mount.name, request.container, index)?;
                let source = std::mem::replace(&mut host_path, target.clone());
                parts.push(Part {
                    index,
                    volume: mount.name.clone(),
                    source,
                    sub_path,
                    target,
                });
            }
            resolved.push(ContainerMount {
                volume: mount.name.clone(),
                host_path,
                container_path: absolute(&mount.mount_path),
                read_only: mount.read_only.unwrap_or(false) || volume.read_only,
            });
        }
        if !parts.is_empty() {
            let container = request.container.to_owned();
            let bound =
                tokio::task::spawn_blocking(move || parts.iter().try_for_each(|part| part.bind(&container)));
            bound.await.map_err(|_| ContainerMountError::Stopping)??;
        }
        Ok(resolved)
    }
}

impl Part {
    fn bind(&self, container: &str) -> Result<(), SubPathError> {
        let failed = |source| SubPathError::Prepare {
            volume: self.volume.clone(),
            container: container.to_owned(),
            source,
        };
        let open = subpath::open_or_make(&self.source, &self.sub_path).map_err(|failure| match failure {
            Failure::Path(error) => named(error),
            Failure::Prepare(source) => failed(source),
            Failure::Create(source) => SubPathError::Create {
                volume: self.volume.clone(),
                container: container.to_owned(),
                source,
            },
        })?;
        tracing::debug!(
            container,
            volume = self.volume,
            index = self.index,
            "sub path bound"
        );
        subpath::bind(&open, &self.target).map_err(failed)
    }
}

fn named(error: PathError) -> SubPathError {
    SubPathError::Path(error)
}

/// Relative mount paths are relative to the root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

#[cfg(test)]
mod tests;
