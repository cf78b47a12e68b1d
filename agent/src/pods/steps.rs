//! The steps of one pod that are in flight, polled by its worker's task.

use std::collections::HashMap;

use futures::{
    StreamExt as _,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use gantry_agent_core::machine::{Outcome, StepError, StepKey};

use super::turns::StartTurn;

/// How a step ended.
pub(crate) type StepResult = Result<Outcome, StepError>;

/// A step that has ended.
pub(crate) struct Ended {
    pub(crate) step: StepKey,
    pub(crate) result: StepResult,
    /// Of a step that waited for the pod's turn.
    pub(crate) turn: Option<StartTurn>,
}

/// Steps in flight; dropping it drops them all.
#[derive(Default)]
pub(crate) struct Steps {
    running: FuturesUnordered<Abortable<BoxFuture<'static, Ended>>>,
    handles: HashMap<StepKey, AbortHandle>,
}

impl Steps {
    pub(crate) fn begin(&mut self, step: StepKey, work: BoxFuture<'static, StepResult>) {
        let key = step.clone();
        let ended = async move {
            Ended {
                step,
                result: work.await,
                turn: None,
            }
        };
        self.push(key, Box::pin(ended));
    }

    pub(crate) fn begin_turn(&mut self, turn: BoxFuture<'static, StartTurn>) {
        let ended = async move {
            Ended {
                step: StepKey::TakeTurn,
                result: Ok(Outcome::Done),
                turn: Some(turn.await),
            }
        };
        self.push(StepKey::TakeTurn, Box::pin(ended));
    }

    /// Drops a step, which is then never reported.
    pub(crate) fn cancel(&mut self, step: &StepKey) {
        if let Some(handle) = self.handles.remove(step) {
            handle.abort();
        }
    }

    /// Some have not ended.
    pub(crate) fn in_flight(&self) -> bool {
        !self.handles.is_empty()
    }

    /// The next step that ends; waits for ever when none is in flight. Cancel safe.
    pub(crate) async fn next(&mut self) -> Ended {
        loop {
            match self.running.next().await {
                Some(Ok(ended)) => {
                    self.handles.remove(&ended.step);
                    return ended;
                }
                // A cancelled one.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn push(&mut self, key: StepKey, work: BoxFuture<'static, Ended>) {
        let (handle, registration) = AbortHandle::new_pair();
        self.running.push(Abortable::new(work, registration));
        self.handles.insert(key, handle);
    }
}
