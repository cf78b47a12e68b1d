//! How many pods the node starts, stops and removes at the same time.
//!
//! More at once only makes each slower: a start is mostly work of the CPU (runtime, shim, CNI). Turns are a courtesy,
//! not a lock: one that is held for too long is given back while its work goes on, so that stuck pods delay nobody.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pods between their first step and their last started container.
const STARTS: usize = 4;
/// Containers being stopped, and as many sandboxes: turns of their own, so that a pod that has begun to end goes on
/// before the next one begins.
const STOPS: usize = 4;
/// A container that uses its grace period gives its turn back after this.
const CONTAINER_STOP_LIMIT: Duration = Duration::from_millis(500);
/// A sandbox whose network does not go gives its turn back after this.
const SANDBOX_STOP_LIMIT: Duration = Duration::from_secs(5);
/// Dead sandboxes being removed: nobody waits for that, and it must not slow down what somebody waits for.
const REMOVALS: usize = 2;

/// The turns of a node, first come first served. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    starts: Arc<Semaphore>,
    container_stops: Arc<Semaphore>,
    sandbox_stops: Arc<Semaphore>,
    removals: Arc<Semaphore>,
}

/// A pod's turn to start; over when dropped. `None` while the agent goes down.
pub(crate) type StartTurn = Option<OwnedSemaphorePermit>;

impl Default for Turns {
    fn default() -> Self {
        Self {
            starts: Arc::new(Semaphore::new(STARTS)),
            container_stops: Arc::new(Semaphore::new(STOPS)),
            sandbox_stops: Arc::new(Semaphore::new(STOPS)),
            removals: Arc::new(Semaphore::new(REMOVALS)),
        }
    }
}

impl Turns {
    /// Waits for a turn to start. Cancel safe: who stops waiting loses the place in the queue.
    pub(crate) async fn start(&self) -> StartTurn {
        // An error would mean that the semaphore is closed, which nobody does.
        self.starts.clone().acquire_owned().await.ok()
    }

    /// Stops a container in its turn.
    pub(crate) async fn stop_container<T>(&self, stop: impl Future<Output = T>) -> T {
        in_turn(&self.container_stops, CONTAINER_STOP_LIMIT, stop).await
    }

    /// Stops a sandbox in its turn.
    pub(crate) async fn stop_sandbox<T>(&self, stop: impl Future<Output = T>) -> T {
        in_turn(&self.sandbox_stops, SANDBOX_STOP_LIMIT, stop).await
    }

    /// Removes a dead sandbox in its turn.
    pub(crate) async fn remove<T>(&self, remove: impl Future<Output = T>) -> T {
        in_turn(&self.removals, SANDBOX_STOP_LIMIT, remove).await
    }
}

/// Holds a turn for at most `limit`, however long the work takes.
async fn in_turn<T>(turns: &Semaphore, limit: Duration, work: impl Future<Output = T>) -> T {
    // An error would mean that the semaphore is closed, which nobody does.
    let permit = turns.acquire().await.ok();
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(limit, &mut work).await {
        Ok(output) => output,
        Err(_) => {
            drop(permit);
            work.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_takes_too_long_gives_its_turn_back() {
        let turns = Turns::default();
        let stuck = || turns.stop_container(std::future::pending::<()>());
        let all_stuck = futures::future::join_all((0..STOPS).map(|_| stuck()));
        tokio::select! {
            _ = all_stuck => unreachable!("they are stuck"),
            done = turns.stop_container(async { 7 }) => assert_eq!(done, 7),
        }
    }
}
