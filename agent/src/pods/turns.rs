//! How many pods the node starts, stops and removes at the same time.
//!
//! More at once only makes each slower: a start is mostly work of the CPU (runtime, shim, CNI). Turns are a courtesy,
//! not a lock: one that is held for too long is given back while its work goes on, so that stuck pods delay nobody.
//! Removing what is dead comes last: it costs the runtime as much as stopping, and nobody waits for it.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

/// Pods between their first step and their last started container.
const STARTS: usize = 4;
/// Containers being stopped, and as many sandboxes: turns of their own, so that a pod that has begun to end goes on
/// before the next one begins.
const STOPS: usize = 4;
/// A container that uses its grace period gives its turn back after this.
const CONTAINER_STOP_LIMIT: Duration = Duration::from_millis(500);
/// A sandbox whose network does not go gives its turn back after this.
const SANDBOX_STOP_LIMIT: Duration = Duration::from_secs(5);
/// Dead sandboxes being removed.
const REMOVALS: usize = 2;
/// A dead sandbox is removed after this even when the node never comes to rest.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(20);

/// The turns of a node, first come first served. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    starts: Arc<Semaphore>,
    container_stops: Arc<Semaphore>,
    sandbox_stops: Arc<Semaphore>,
    removals: Arc<Semaphore>,
    /// How many starts and stops are under way or wait for a turn.
    urgent: watch::Sender<usize>,
    removal_patience: Duration,
}

/// A pod's turn to start; over when dropped.
#[derive(Debug)]
pub(crate) struct StartTurn {
    /// `None` while the agent goes down.
    _permit: Option<OwnedSemaphorePermit>,
    _urgent: Urgent,
}

/// Somebody waits for what is being done. Over when dropped.
#[derive(Debug)]
struct Urgent(watch::Sender<usize>);

impl Urgent {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            starts: Arc::new(Semaphore::new(STARTS)),
            container_stops: Arc::new(Semaphore::new(STOPS)),
            sandbox_stops: Arc::new(Semaphore::new(STOPS)),
            removals: Arc::new(Semaphore::new(REMOVALS)),
            urgent: watch::Sender::new(0),
            removal_patience: REMOVAL_PATIENCE,
        }
    }
}

impl Turns {
    /// Waits for a turn to start. Cancel safe: who stops waiting loses the place in the queue.
    pub(crate) async fn start(&self) -> StartTurn {
        let urgent = Urgent::begin(&self.urgent);
        StartTurn {
            // An error would mean that the semaphore is closed, which nobody does.
            _permit: self.starts.clone().acquire_owned().await.ok(),
            _urgent: urgent,
        }
    }

    /// Stops a container in its turn.
    pub(crate) async fn stop_container<T>(&self, stop: impl Future<Output = T>) -> T {
        let urgent = Urgent::begin(&self.urgent);
        in_turn(&self.container_stops, CONTAINER_STOP_LIMIT, Some(urgent), stop).await
    }

    /// Stops a sandbox in its turn.
    pub(crate) async fn stop_sandbox<T>(&self, stop: impl Future<Output = T>) -> T {
        let urgent = Urgent::begin(&self.urgent);
        in_turn(&self.sandbox_stops, SANDBOX_STOP_LIMIT, Some(urgent), stop).await
    }

    /// Removes a dead sandbox in its turn, once nothing starts or stops any more.
    pub(crate) async fn remove<T>(&self, remove: impl Future<Output = T>) -> T {
        self.rest(self.removal_patience).await;
        in_turn(&self.removals, SANDBOX_STOP_LIMIT, None, remove).await
    }

    /// Waits until nothing starts or stops any more, for what can wait: `patience` at most.
    pub(crate) async fn rest(&self, patience: Duration) {
        let mut urgent = self.urgent.subscribe();
        // Neither a busy node nor the sender's end, which cannot come before ours, changes what is to be done.
        let _ = timeout(patience, urgent.wait_for(|count| *count == 0)).await;
    }
}

/// Holds a turn, and counts as urgent, for at most `limit`, however long the work takes.
async fn in_turn<T>(
    turns: &Semaphore,
    limit: Duration,
    urgent: Option<Urgent>,
    work: impl Future<Output = T>,
) -> T {
    // An error would mean that the semaphore is closed, which nobody does.
    let permit = turns.acquire().await.ok();
    let mut work = std::pin::pin!(work);
    match timeout(limit, &mut work).await {
        Ok(output) => output,
        Err(_) => {
            drop((permit, urgent));
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

    #[tokio::test]
    async fn removals_wait_until_nothing_starts_or_stops_but_not_for_ever() {
        let mut turns = Turns::default();
        let start = turns.start().await;
        {
            let mut removal = std::pin::pin!(turns.remove(async {}));
            assert!(futures::poll!(removal.as_mut()).is_pending());
            drop(start);
            removal.await;
        }

        turns.removal_patience = Duration::ZERO;
        let _start = turns.start().await;
        turns.remove(async {}).await;
    }
}
