//! Which instance of a container a reader of its log means, as the pod's status tells.

use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, PodStatus};
use thiserror::Error;

use super::quote;

/// Why there is no log to show; the text goes to the user with status 400.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct NoLogs {
    text: String,
}

/// The ID, with its scheme, of the instance of `container` whose log is wanted.
///
/// # Errors
/// When there is no such instance (yet).
pub fn container_id<'a>(
    pod: &str,
    status: &'a PodStatus,
    container: &str,
    previous: bool,
) -> Result<&'a str, NoLogs> {
    let name = quote(container.as_bytes());
    let of_pod = format!("container {name} in pod {}", quote(pod.as_bytes()));
    let refuse = |text: String| NoLogs { text };
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    let found = all.find(|status| status.name == container);
    let found = found.ok_or_else(|| refuse(format!("{of_pod} is not available")))?;
    let last = last_terminated(found);
    let terminated = || refuse(format!("{of_pod} is terminated"));
    if previous {
        let gone = || format!("previous terminated {of_pod} not found");
        return last.flatten().ok_or_else(|| refuse(gone()));
    }
    let state = found.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Ok(found.container_id.as_deref().unwrap_or_default());
    }
    if let Some(now) = state.and_then(|state| state.terminated.as_ref()) {
        // Without an ID the instance was never made: the one before it is meant.
        let id = some(&now.container_id).or(last.flatten());
        return id.ok_or_else(terminated);
    }
    if let Some(id) = last {
        return id.ok_or_else(terminated);
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    Err(refuse(format!("{of_pod} is waiting to start{}", why(waiting))))
}

/// The last state when the instance has ended; its ID when it has one.
fn last_terminated(status: &ContainerStatus) -> Option<Option<&str>> {
    let last = status.last_state.as_ref()?.terminated.as_ref()?;
    Some(some(&last.container_id))
}

fn some(id: &Option<String>) -> Option<&str> {
    id.as_deref().filter(|id| !id.is_empty())
}

fn why(waiting: Option<&ContainerStateWaiting>) -> String {
    let Some(waiting) = waiting else {
        return " - no logs yet".to_owned();
    };
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" => ": image can't be pulled".to_owned(),
        "ImagePullBackOff" => ": trying and failing to pull image".to_owned(),
        reason => format!(": {reason}"),
    }
}
