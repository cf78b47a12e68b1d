//! What the runtime measures itself: writable layers and the file system of images. And what containerd calls a
//! container's image.

use std::collections::HashMap;

use containerd_client::services::v1::GetContainerRequest;
use containerd_client::services::v1::containers_client::ContainersClient;
use gantry_agent_core::stats::figures::Usage;
use gantry_cri::v1;
use jiff::Timestamp;
use tonic::metadata::MetadataValue;

use super::{Runtime, RuntimeError};

/// Where CRI's containers are in containerd.
const NAMESPACE: &str = "k8s.io";

/// What something takes of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FsUsage {
    /// When the runtime measured it.
    pub(crate) at: Timestamp,
    /// A path in the file system.
    pub(crate) mount_point: String,
    /// How much.
    pub(crate) usage: Usage,
}

impl Runtime {
    /// What each container has written, by its id. The runtime measures now and then by itself and answers from that.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn writable_layers(&self) -> Result<HashMap<String, FsUsage>, RuntimeError> {
        let request = v1::ListContainerStatsRequest { filter: None };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.list_container_stats(r).await };
        let answer = self
            .unary("ListContainerStats", self.timeout, request, call)
            .await?;
        let layer = |stats: v1::ContainerStats| Some((stats.attributes?.id, usage(stats.writable_layer?)));
        Ok(answer.stats.into_iter().filter_map(layer).collect())
    }

    /// What images take, and where they are; `None` when the runtime does not say.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn image_fs(&self) -> Result<Option<FsUsage>, RuntimeError> {
        let request = v1::ImageFsInfoRequest {};
        let mut client = self.images.clone();
        let call = |r| async move { client.image_fs_info(r).await };
        let answer = self.unary("ImageFsInfo", self.timeout, request, call).await?;
        Ok(answer.image_filesystems.into_iter().next().map(usage))
    }

    /// The image's name as containerd keeps it with a container or sandbox; `None` when there is none, or the runtime
    /// is another one.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn image_of(&self, id: &str) -> Result<Option<String>, RuntimeError> {
        let message = GetContainerRequest { id: id.to_owned() };
        let mut client = ContainersClient::new(self.channel.clone())
            .max_decoding_message_size(gantry_cri::MAX_MESSAGE_BYTES);
        let answer = self.unary("GetContainer", self.timeout, message, |mut request| async move {
            request
                .metadata_mut()
                .insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
            client.get(request).await
        });
        match answer.await {
            Ok(answer) => Ok(answer
                .container
                .map(|container| container.image)
                .filter(|image| !image.is_empty())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(RuntimeError::Unimplemented { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn usage(of: v1::FilesystemUsage) -> FsUsage {
    FsUsage {
        at: Timestamp::from_nanosecond(i128::from(of.timestamp)).unwrap_or(Timestamp::UNIX_EPOCH),
        mount_point: of.fs_id.map(|id| id.mountpoint).unwrap_or_default(),
        usage: Usage {
            bytes: of.used_bytes.map_or(0, |bytes| bytes.value),
            inodes: of.inodes_used.map_or(0, |inodes| inodes.value),
        },
    }
}
