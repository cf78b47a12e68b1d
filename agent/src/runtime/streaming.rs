//! Where exec, attach and port-forward are served: the runtime prepares a session and answers with a URL of its own
//! streaming server, good for one request within a minute. `run` has no session: its answer is the output.

use gantry_agent_core::streaming::Streams;
use gantry_cri::v1;
use tonic::Request;

use super::{ExecOutput, Runtime, RuntimeError};

impl Runtime {
    /// Prepares a command in a running container.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn exec_url(
        &self,
        id: &str,
        command: Vec<String>,
        streams: Streams,
    ) -> Result<String, RuntimeError> {
        let request = v1::ExecRequest {
            container_id: id.to_owned(),
            cmd: command,
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.exec(r).await };
        given("Exec", self.unary("Exec", self.timeout, request, call).await?.url)
    }

    /// Prepares the streams of a running container's first process.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, RuntimeError> {
        let request = v1::AttachRequest {
            container_id: id.to_owned(),
            stdin: streams.stdin,
            tty: streams.tty,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.attach(r).await };
        given(
            "Attach",
            self.unary("Attach", self.timeout, request, call).await?.url,
        )
    }

    /// Prepares connections to ports of a sandbox; none are named when the client names them later.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn port_forward_url(
        &self,
        sandbox_id: &str,
        ports: Vec<i32>,
    ) -> Result<String, RuntimeError> {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            port: ports,
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.port_forward(r).await };
        let answer = self.unary("PortForward", self.timeout, request, call);
        given("PortForward", answer.await?.url)
    }

    /// Runs a command in a container for as long as it takes. Dropped before its end, the runtime ends the command.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub(crate) async fn run_command(
        &self,
        id: &str,
        command: Vec<String>,
    ) -> Result<ExecOutput, RuntimeError> {
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout: 0,
        };
        let mut client = self.runtime.clone();
        let answer = Box::pin(client.exec_sync(Request::new(request))).await;
        let answer = answer.map_err(|status| RuntimeError::new("ExecSync", self.timeout, &status))?;
        let answer = answer.into_inner();
        Ok(ExecOutput {
            stdout: answer.stdout,
            stderr: answer.stderr,
            exit_code: answer.exit_code,
        })
    }
}

fn given(operation: &'static str, url: String) -> Result<String, RuntimeError> {
    if url.is_empty() {
        let field = "url";
        return Err(RuntimeError::Malformed { operation, field });
    }
    Ok(url)
}
