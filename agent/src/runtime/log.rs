//! Where a container's log is, asked of the runtime.

use std::path::PathBuf;

use gantry_cri::v1;

use super::{Runtime, RuntimeError, keys};

/// What the runtime says of a container, for its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerLog {
    /// The file; empty when there is none.
    pub(crate) path: PathBuf,
    /// Of the container's pod.
    pub(crate) pod_uid: String,
    /// It may still write.
    pub(crate) running: bool,
}

impl Runtime {
    /// Where the container's log is.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn container_log(&self, id: &str) -> Result<ContainerLog, RuntimeError> {
        const OPERATION: &str = "ContainerStatus";
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.container_status(r).await };
        let answer = self.unary(OPERATION, self.timeout, request, call).await?;
        let status = answer.status.ok_or(RuntimeError::Malformed {
            operation: OPERATION,
            field: "status",
        })?;
        Ok(ContainerLog {
            running: match status.state() {
                v1::ContainerState::ContainerRunning | v1::ContainerState::ContainerUnknown => true,
                v1::ContainerState::ContainerCreated | v1::ContainerState::ContainerExited => false,
            },
            pod_uid: status.labels.get(keys::POD_UID).cloned().unwrap_or_default(),
            path: status.log_path.into(),
        })
    }
}
