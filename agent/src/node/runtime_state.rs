//! Is the container runtime up, and is its network? Polled: often while something is missing, rarely otherwise.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::runtime::{Runtime, RuntimeStatus, RuntimeVersion};

/// While all is well. Containers' ends come by events, not by this.
const POLL: Duration = Duration::from_secs(10);
/// While the runtime or its network is not ready: a CNI configuration that appears is seen at once.
const POLL_UNREADY: Duration = Duration::from_millis(250);
/// While nobody answers on the socket.
const POLL_ABSENT: Duration = Duration::from_secs(1);
/// Without an answer for this long the runtime is down (`maxWaitForContainerRuntime`).
const DOWN_AFTER: Duration = Duration::from_secs(30);

/// The last that was heard of the runtime.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuntimeState {
    /// Its last answer.
    pub(crate) status: Option<Arc<RuntimeStatus>>,
    /// Who it is.
    pub(crate) version: Option<RuntimeVersion>,
    /// When it last said that it is ready.
    last_ready: Option<Instant>,
    /// The last `Status` call failed.
    silent: bool,
}

impl RuntimeState {
    /// Pods may get sandboxes with a network of their own.
    pub(crate) fn network_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.network_ready())
    }

    /// The runtime was asked at least once, whatever came of it.
    pub(super) fn is_heard(&self) -> bool {
        self.status.is_some() || self.silent
    }

    /// Why the node is not ready, in the reference's words; nothing when it is.
    pub(super) fn errors(&self, now: Instant) -> Vec<String> {
        let mut errors = Vec::new();
        match self.last_ready {
            None => errors.push("container runtime status check may not have completed yet".to_owned()),
            Some(last) if now.duration_since(last) >= DOWN_AFTER => {
                errors.push("container runtime is down".to_owned());
            }
            Some(_) => {}
        }
        let Some(status) = &self.status else {
            errors.push("network state unknown".to_owned());
            return errors;
        };
        for (kind, what) in [
            ("RuntimeReady", "container runtime"),
            ("NetworkReady", "container runtime network"),
        ] {
            match status.condition(kind) {
                Some(condition) if condition.status => {}
                Some(condition) => errors.push(format!(
                    "{what} not ready: {kind}=false reason:{} message:{}",
                    condition.reason, condition.message
                )),
                None => errors.push(format!("{what} not ready: {kind} is not reported")),
            }
        }
        errors
    }

    fn runtime_ready(&self) -> bool {
        self.status
            .as_ref()
            .and_then(|status| status.condition("RuntimeReady"))
            .is_some_and(|c| c.status)
    }

    fn pause(&self) -> Duration {
        if self.silent {
            POLL_ABSENT
        } else if self.runtime_ready() && self.network_ready() {
            POLL
        } else {
            POLL_UNREADY
        }
    }
}

/// Keep `state` current. Never ends; abort safe.
pub(super) async fn watch_runtime(runtime: Runtime, state: watch::Sender<RuntimeState>) {
    loop {
        let before = state.borrow().clone();
        let next = ask(&runtime, before.clone()).await;
        report(&before, &next);
        let pause = next.pause();
        state.send_replace(next);
        tokio::time::sleep(pause).await;
    }
}

async fn ask(runtime: &Runtime, mut state: RuntimeState) -> RuntimeState {
    match runtime.status().await {
        Ok(mut status) => {
            // Sorted, so that the node's status does not change with the runtime's order.
            status.handlers.sort_by(|a, b| a.name.cmp(&b.name));
            if state.silent || state.version.is_none() {
                state.version = runtime.version().await.ok();
            }
            state.silent = false;
            state.status = Some(Arc::new(status));
            if state.runtime_ready() {
                state.last_ready = Some(Instant::now());
            }
        }
        Err(error) => {
            if !state.silent {
                warn!(
                    error = error.message(),
                    "the container runtime does not answer, will retry"
                );
            }
            state.silent = true;
        }
    }
    state
}

fn report(before: &RuntimeState, next: &RuntimeState) {
    if next.version != before.version
        && let Some(version) = &next.version
    {
        info!(runtime = version.node_info(), "container runtime");
    }
    if next.network_ready() != before.network_ready() {
        info!(ready = next.network_ready(), "container runtime network");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::runtime::RuntimeCondition;

    pub(crate) fn state(runtime: bool, network: bool, last_ready: Option<Instant>) -> RuntimeState {
        let condition = |kind: &str, status| RuntimeCondition {
            kind: kind.into(),
            status,
            reason: if status { "" } else { "NotYet" }.into(),
            message: if status { "" } else { "cni config uninitialized" }.into(),
        };
        let conditions = vec![
            condition("RuntimeReady", runtime),
            condition("NetworkReady", network),
        ];
        RuntimeState {
            status: Some(Arc::new(RuntimeStatus {
                conditions,
                ..RuntimeStatus::default()
            })),
            last_ready,
            ..RuntimeState::default()
        }
    }

    #[test]
    fn says_what_is_missing_in_the_references_words() {
        let now = Instant::now();
        assert_eq!(
            RuntimeState::default().errors(now),
            [
                "container runtime status check may not have completed yet",
                "network state unknown"
            ]
        );
        assert_eq!(
            state(true, false, Some(now)).errors(now),
            [
                "container runtime network not ready: NetworkReady=false reason:NotYet message:cni config uninitialized"
            ]
        );
        assert!(
            state(true, true, Some(now))
                .errors(now + Duration::from_secs(29))
                .is_empty()
        );
        assert_eq!(
            state(true, true, Some(now)).errors(now + DOWN_AFTER),
            ["container runtime is down"]
        );
        assert_eq!(state(false, true, Some(now)).errors(now).len(), 1);
    }

    #[test]
    fn polls_rarely_only_when_all_is_well() {
        let now = Some(Instant::now());
        assert_eq!(state(true, true, now).pause(), POLL);
        assert_eq!(state(true, false, now).pause(), POLL_UNREADY);
        assert_eq!(
            RuntimeState {
                silent: true,
                ..state(true, true, now)
            }
            .pause(),
            POLL_ABSENT
        );
    }
}
