//! Lifecycle hooks: postStart and preStop (`pkg/kubelet/lifecycle`).
//!
//! Input: a handler of the pod's spec and its container. Output: when it has ended, and how. The caller bounds the time:
//! a preStop hook has the pod's grace period, a postStart hook holds up the container for as long as it takes.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler};

use crate::metrics::HookMetrics;
use crate::probes::ContainerExec;
use crate::probes::http::{self, HttpError, Request};
use crate::runtime::RuntimeError;

/// The container instance that a hook belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HookTarget<'a> {
    /// The container in the pod's spec.
    pub(crate) container: &'a Container,
    /// The instance.
    pub(crate) container_id: &'a str,
    /// The pod's address: the default host of an HTTP hook.
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) metrics: &'a HookMetrics,
}

/// How a hook failed. Output of commands is kept out of [`std::fmt::Display`]: it may hold secrets, and the text goes to
/// events and status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// The command could not be run, or took too long.
    #[error("Exec lifecycle hook ({command:?}) for Container {container:?} failed - error: {source}")]
    Exec {
        command: Vec<String>,
        container: String,
        #[source]
        source: RuntimeError,
    },
    /// The command said no.
    #[error(
        "Exec lifecycle hook ({command:?}) for Container {container:?} failed - error: command terminated with exit code {code}"
    )]
    Exit {
        command: Vec<String>,
        container: String,
        code: i32,
    },
    /// No answer. Any answer is good, whatever its status.
    #[error("HTTP lifecycle hook ({path}) for Container {container:?} failed - error: {source}")]
    Http {
        path: String,
        container: String,
        #[source]
        source: HttpError,
    },
    /// The request cannot be made.
    #[error("HTTP lifecycle hook ({path}) for Container {container:?} failed - error: {message}")]
    Request {
        path: String,
        container: String,
        message: String,
    },
    /// The budget is used up.
    #[error("lifecycle hook for Container {container:?} not completed in grace period {}s", budget.as_secs())]
    Overrun { container: String, budget: Duration },
    /// No handler that exists; `tcpSocket` never did anything and is refused.
    #[error("Cannot run handler: invalid handler")]
    Invalid,
}

/// Runs a hook to its end, or to the end of the budget (`None`: no end).
///
/// # Errors
/// See [`HookError`]. A failed postStart hook means that the container is killed (`FailedPostStartHook`); a failed
/// preStop hook only makes an event (`FailedPreStopHook`).
pub(crate) async fn run(
    exec: &dyn ContainerExec,
    handler: &LifecycleHandler,
    target: HookTarget<'_>,
    budget: Option<Duration>,
) -> Result<(), HookError> {
    let hook = Box::pin(run_unbounded(exec, handler, target, budget.unwrap_or_default()));
    let Some(budget) = budget else { return hook.await };
    let overrun = HookError::Overrun {
        container: target.container.name.clone(),
        budget,
    };
    tokio::time::timeout(budget, hook).await.unwrap_or_else(|_| {
        if handler.sleep.is_some() {
            target.metrics.short_sleeps.inc();
        }
        Err(overrun)
    })
}

async fn run_unbounded(
    exec: &dyn ContainerExec,
    handler: &LifecycleHandler,
    target: HookTarget<'_>,
    limit: Duration,
) -> Result<(), HookError> {
    if let Some(action) = &handler.exec {
        command(exec, action, target, limit).await
    } else if let Some(action) = &handler.http_get {
        get(action, target).await
    } else if let Some(sleep) = &handler.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(())
    } else {
        Err(HookError::Invalid)
    }
}

/// The limit goes to the runtime as well: a command must not outlive its budget.
async fn command(
    exec: &dyn ContainerExec,
    action: &ExecAction,
    target: HookTarget<'_>,
    limit: Duration,
) -> Result<(), HookError> {
    let command = action.command.clone().unwrap_or_default();
    let container = target.container.name.clone();
    match exec.exec(target.container_id, command.clone(), limit).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => Err(HookError::Exit {
            command,
            container,
            code: output.exit_code,
        }),
        Err(source) => Err(HookError::Exec {
            command,
            container,
            source,
        }),
    }
}

async fn get(action: &HTTPGetAction, target: HookTarget<'_>) -> Result<(), HookError> {
    let path = action.path.clone().unwrap_or_default();
    let container = target.container.name.clone();
    let host = target.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
    let request = match Request::new(action, target.container, &host, "kube-lifecycle/1.36") {
        Ok(request) => request,
        Err(message) => {
            return Err(HookError::Request {
                path,
                container,
                message,
            });
        }
    };
    let plain = http::without_tls(&request);
    let answer = match http::get(request).await {
        // Hooks were always sent in the clear once, whatever the spec said; the reference still falls back.
        Err(HttpError::NotTls { .. }) => {
            let answer = http::get(plain).await;
            target.metrics.fallbacks.inc_by(answer.is_ok().into());
            answer
        }
        other => other,
    };
    answer.map(drop).map_err(|source| HookError::Http {
        path,
        container,
        source,
    })
}

#[cfg(test)]
mod tests;
