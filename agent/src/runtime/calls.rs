//! CRI calls on sandboxes and containers. Each merges what it learned into the cache, so that the caller's next look
//! at the pod sees the effect of its own call.

use std::time::{Duration, Instant, SystemTime};

use gantry_cri::v1;

use super::merge::Change;
use super::{Runtime, RuntimeError};

/// The reference allows a sandbox (image, CNI) twice the request timeout.
const SANDBOX_FACTOR: u32 = 2;
/// containerd sends the event just before or after the answer; waiting this long for it saves a status call.
const SETTLE: Duration = Duration::from_millis(20);

/// A sandbox that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MadeSandbox {
    /// The runtime's identifier.
    pub(crate) id: String,
    /// The whole call.
    pub(crate) took: Duration,
    /// Of that, until the runtime was done with the network; `None` when it does not tell.
    pub(crate) network: Option<Duration>,
}

/// The result of a command run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecOutput {
    /// What it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) stderr: Vec<u8>,
    /// Zero for success.
    pub(crate) exit_code: i32,
}

impl Runtime {
    /// Makes and starts a sandbox. `handler` comes from the RuntimeClass, empty for the default.
    /// Afterwards the cache knows the sandbox and its addresses.
    ///
    /// # Errors
    /// See [`RuntimeError`]; after a timeout the sandbox may exist, the relist finds it.
    pub(crate) async fn run_sandbox(
        &self,
        config: v1::PodSandboxConfig,
        handler: &str,
    ) -> Result<MadeSandbox, RuntimeError> {
        let uid = config
            .metadata
            .as_ref()
            .map(|m| m.uid.clone())
            .unwrap_or_default();
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        let mut client = self.runtime.clone();
        let limit = self.timeout * SANDBOX_FACTOR;
        let (begun, asked) = (Instant::now(), SystemTime::now());
        let answer = self.unary("RunPodSandbox", limit, request, |r| async move {
            client.run_pod_sandbox(r).await
        });
        let answer = answer.await;
        let took = begun.elapsed();
        self.metrics.sandbox_run(handler, took, answer.is_err());
        let id = answer?.pod_sandbox_id;
        let seen = self
            .cache
            .settled(&uid, SETTLE, |pod| pod.sandboxes.iter().any(|s| s.id == id))
            .await;
        if !seen {
            self.look_at_sandbox(&id).await?;
        }
        let network = self.births.take(&id);
        let network = network.and_then(|at| at.duration_since(asked).ok());
        Ok(MadeSandbox {
            id,
            took,
            network: network.filter(|network| *network <= took),
        })
    }

    /// Stops the sandbox and every container in it at once, and takes its network down. Success when it is gone.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let mut client = self.runtime.clone();
        let answer = self.unary("StopPodSandbox", self.timeout, request, |r| async move {
            client.stop_pod_sandbox(r).await
        });
        gone_is_fine(answer.await)?;
        self.cache.apply(Change::SandboxStopped { id });
        Ok(())
    }

    /// Removes the sandbox and its containers. Success when it is gone.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let mut client = self.runtime.clone();
        let answer = self.unary("RemovePodSandbox", self.timeout, request, |r| async move {
            client.remove_pod_sandbox(r).await
        });
        gone_is_fine(answer.await)?;
        self.cache.apply(Change::SandboxRemoved { id });
        Ok(())
    }

    /// Makes a container in a sandbox; returns its id.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, RuntimeError> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let mut client = self.runtime.clone();
        let answer = self.unary("CreateContainer", self.timeout, request, |r| async move {
            client.create_container(r).await
        });
        Ok(answer.await?.container_id)
    }

    /// Starts a created container of pod `uid`. Afterwards the cache knows that it runs (or has ended already).
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn start_container(&self, uid: &str, id: &str) -> Result<(), RuntimeError> {
        let request = v1::StartContainerRequest {
            container_id: id.to_owned(),
        };
        let mut client = self.runtime.clone();
        let answer = self.unary("StartContainer", self.timeout, request, |r| async move {
            client.start_container(r).await
        });
        answer.await?;
        let seen = self.cache.settled(uid, SETTLE, |pod| {
            pod.containers.iter().any(|c| c.id == id && c.has_started())
        });
        if !seen.await {
            self.refresh(uid).await?;
        }
        Ok(())
    }

    /// Signals the container and kills it after `grace`. Success when it is gone; afterwards the cache knows.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn stop_container(
        &self,
        uid: &str,
        id: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: seconds,
        };
        let mut client = self.runtime.clone();
        let limit = grace + self.timeout;
        let answer = self.unary("StopContainer", limit, request, |r| async move {
            client.stop_container(r).await
        });
        gone_is_fine(answer.await)?;
        let ended = self.cache.settled(uid, SETTLE, |pod| {
            !pod.containers.iter().any(|c| c.id == id && !c.has_ended())
        });
        if !ended.await {
            self.refresh(uid).await?;
        }
        Ok(())
    }

    /// Removes a container, killing it if it runs. Success when it is gone.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = v1::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        let mut client = self.runtime.clone();
        let answer = self.unary("RemoveContainer", self.timeout, request, |r| async move {
            client.remove_container(r).await
        });
        gone_is_fine(answer.await)?;
        self.cache.apply(Change::ContainerRemoved { id });
        Ok(())
    }

    /// Runs a command in a container; the runtime kills it after `limit` (zero: the request timeout).
    ///
    /// # Errors
    /// See [`RuntimeError`]; [`RuntimeError::Timeout`] when the command took longer than `limit`.
    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout: seconds,
        };
        let mut client = self.runtime.clone();
        // As the reference: the runtime enforces `limit`, the call gets the request timeout on top.
        let deadline = limit + self.timeout;
        let answer = self.unary("ExecSync", deadline, request, |r| async move {
            client.exec_sync(r).await
        });
        let answer = answer.await.map_err(|error| match error {
            RuntimeError::Timeout { operation, .. } => RuntimeError::Timeout { operation, limit },
            other => other,
        })?;
        if answer.exit_code != 0 {
            self.metrics.said_no("ExecSync");
        }
        Ok(ExecOutput {
            stdout: answer.stdout,
            stderr: answer.stderr,
            exit_code: answer.exit_code,
        })
    }

    /// Writes a running container's memory and files to an archive. `limit`: at least the request timeout.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn checkpoint_container(
        &self,
        id: &str,
        location: &str,
        limit: Duration,
    ) -> Result<(), RuntimeError> {
        let limit = limit.max(self.timeout);
        let request = v1::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: location.to_owned(),
            timeout: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.checkpoint_container(r).await };
        self.unary("CheckpointContainer", limit, request, call)
            .await
            .map(|_| ())
    }

    /// Makes the runtime open the container's log file anew, after the agent has renamed it.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn reopen_container_log(&self, id: &str) -> Result<(), RuntimeError> {
        let request = v1::ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.reopen_container_log(r).await };
        self.unary("ReopenContainerLog", self.timeout, request, call)
            .await
            .map(|_| ())
    }
}

/// Stop and remove have succeeded when there is nothing left.
fn gone_is_fine<T>(result: Result<T, RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
