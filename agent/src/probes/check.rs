//! One run of a probe, bounded by its timeout (`pkg/kubelet/prober/prober.go`, `pkg/probe`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::runtime::RuntimeError;

use super::http::{self, HttpError, Request};
use super::{ContainerExec, Target, grpc};

/// Errors of the prober itself are tried again at once, this often in all.
const TRIES: u32 = 3;
/// Output of a command beyond this is dropped, in bytes.
const MAX_OUTPUT: usize = 10 * 1024;

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Healthy.
    Success,
    /// Healthy, but somebody should know this.
    Warning(String),
    /// Not healthy.
    Failure(String),
    /// Nothing was found out.
    Error(String),
}

/// Runs probes.
pub(super) struct Checker {
    exec: Arc<dyn ContainerExec>,
}

impl Checker {
    pub(super) fn new(exec: Arc<dyn ContainerExec>) -> Self {
        Self { exec }
    }

    /// Runs the probe of a container; again when the prober itself fails.
    pub(super) async fn check(
        &self,
        probe: &Probe,
        container: &Container,
        target: &Target,
        limit: Duration,
    ) -> Answer {
        let mut answer = self.once(probe, container, target, limit).await;
        for _ in 1..TRIES {
            if !matches!(answer, Answer::Error(_)) {
                break;
            }
            answer = self.once(probe, container, target, limit).await;
        }
        answer
    }

    async fn once(&self, probe: &Probe, container: &Container, target: &Target, limit: Duration) -> Answer {
        let host = target.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
        // Boxed: a task that sleeps between runs should not hold the largest of these.
        if let Some(action) = &probe.exec {
            Box::pin(self.command(action, container, target, limit)).await
        } else if let Some(action) = &probe.http_get {
            Box::pin(get(action, container, &host, limit)).await
        } else if let Some(action) = &probe.tcp_socket {
            Box::pin(connect(action, container, &host, limit)).await
        } else if let Some(action) = &probe.grpc {
            Box::pin(health(action, &host, limit)).await
        } else {
            Answer::Error(format!("missing probe handler for container {}", container.name))
        }
    }

    async fn command(
        &self,
        action: &ExecAction,
        container: &Container,
        target: &Target,
        limit: Duration,
    ) -> Answer {
        let command = expand(action.command.as_deref().unwrap_or_default(), container);
        let shown = command.join(" ");
        match self.exec.exec(&target.container_id, command, limit).await {
            Ok(output) if output.exit_code == 0 => Answer::Success,
            Ok(output) => {
                let mut text = output.stdout;
                text.extend(output.stderr);
                text.truncate(MAX_OUTPUT);
                Answer::Failure(String::from_utf8_lossy(&text).into_owned())
            }
            Err(RuntimeError::Timeout { .. }) => Answer::Failure(format!(
                "command timed out: {shown:?} timed out after {}",
                go_duration(limit)
            )),
            Err(error) => Answer::Error(error.to_string()),
        }
    }
}

/// `$(NAME)` in a probe's command stands for the container's own plain variables; the others are not known here
/// (`ExpandContainerCommandOnlyStatic`). Unknown names stay as they are, `$$` is a dollar sign.
fn expand(command: &[String], container: &Container) -> Vec<String> {
    let value = |name: &str| {
        let found = container.env.iter().flatten().find(|env| env.name == name)?;
        found
            .value_from
            .is_none()
            .then(|| found.value.clone().unwrap_or_default())
    };
    command.iter().map(|word| expand_word(word, &value)).collect()
}

fn expand_word(word: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            expanded.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|tail| tail.split_once(')')) {
            expanded.push_str(&value(name).unwrap_or_else(|| format!("$({name})")));
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

async fn get(action: &HTTPGetAction, container: &Container, host: &str, limit: Duration) -> Answer {
    let request = match Request::new(action, container, host, "kube-probe/1.36") {
        Ok(request) => request,
        Err(message) => return Answer::Error(message),
    };
    let url = request.url();
    match timeout(limit, http::get(request)).await {
        Ok(Ok(response)) => match response.status {
            200..300 => Answer::Success,
            300..400 => {
                let body = String::from_utf8_lossy(&response.body);
                Answer::Warning(format!("Probe terminated redirects, Response body: {body}"))
            }
            status => Answer::Failure(format!("HTTP probe failed with statuscode: {status}")),
        },
        Ok(Err(error @ HttpError::Body { .. })) => Answer::Error(error.message()),
        Ok(Err(error)) => Answer::Failure(error.message()),
        Err(_) => Answer::Failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

async fn connect(action: &TCPSocketAction, container: &Container, host: &str, limit: Duration) -> Answer {
    let port = match http::port(&action.port, container) {
        Ok(port) => port,
        Err(message) => return Answer::Error(message),
    };
    let host = action
        .host
        .as_deref()
        .filter(|host| !host.is_empty())
        .unwrap_or(host);
    let address = http::join_host_port(host, port);
    match timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Answer::Success,
        Ok(Err(error)) => Answer::Failure(format!("dial tcp {address}: {}", connect_reason(&error))),
        Err(_) => Answer::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn health(action: &GRPCAction, host: &str, limit: Duration) -> Answer {
    let service = action.service.as_deref().unwrap_or_default();
    match u16::try_from(action.port) {
        Ok(port) => match grpc::check(&http::join_host_port(host, port), service, limit).await {
            Ok(()) => Answer::Success,
            Err(message) => Answer::Failure(message),
        },
        Err(_) => Answer::Error(format!("invalid port number: {}", action.port)),
    }
}

/// An error of `connect(2)` as the reference writes it: `connect: connection refused`.
pub(super) fn connect_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => format!("connect: {}", plain(error)),
        None => plain(error),
    }
}

/// The system's words without number and capital letter.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// As Go prints whole seconds: `1s`, `1m30s`.
pub(super) fn go_duration(duration: Duration) -> String {
    match duration.as_secs() {
        secs if secs < 60 => format!("{secs}s"),
        secs if secs < 3600 => format!("{}m{}s", secs / 60, secs % 60),
        secs => format!("{}h{}m{}s", secs / 3600, secs % 3600 / 60, secs % 60),
    }
}

#[cfg(test)]
pub(crate) mod tests;
