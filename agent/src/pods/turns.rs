//! How many pods the node starts, stops and removes at the same time.
//!
//! More at once only makes each slower: a start is mostly work of the CPU (runtime, shim, CNI). Turns are a courtesy,
//! not a lock: one that is held for too long is given back while its work goes on, so that stuck pods delay nobody.
//! Removing what is dead comes last: it costs the runtime as much as stopping, and nobody waits for it.

use std::{future::Future, num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

/// A container that uses its grace period gives its turn back after this.
const CONTAINER_STOP_LIMIT: Duration = Duration::from_millis(500);
/// A sandbox whose network does not go gives its turn back after this.
const SANDBOX_STOP_LIMIT: Duration = Duration::from_secs(5);
/// A dead sandbox is removed after this even when the node never comes to rest.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(20);

/// The turns of a node, first come first served. Clones share them.
///
/// How many there are was measured with two processors, both busy with these: with more turns nothing was done sooner, and what came
/// first was done later.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    /// Pods between their first step and their last started container.
    starts: Arc<Semaphore>,
    /// Containers being stopped.
    container_stops: Arc<Semaphore>,
    /// Sandboxes being stopped: turns of their own, and more of them, so that a pod that has begun to end goes on before the next one
    /// begins.
    sandbox_stops: Arc<Semaphore>,
    /// Dead sandboxes being removed.
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
    /// As many as the machine has processors for.
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, NonZero::get))
    }
}

impl Turns {
    fn new(processors: usize) -> Self {
        let turns = |count| Arc::new(Semaphore::new(count));
        let processors = processors.max(2);
        Self {
            starts: turns(2 * processors),
            container_stops: turns(processors),
            sandbox_stops: turns(2 * processors),
            removals: turns(processors),
            urgent: watch::Sender::new(0),
            removal_patience: REMOVAL_PATIENCE,
        }
    }

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
        let turns = Turns::new(3);
        let stuck = || turns.stop_container(std::future::pending::<()>());
        let all_stuck = futures::future::join_all((0..3).map(|_| stuck()));
        tokio::select! {
            _ = all_stuck => unreachable!("they are stuck"),
            done = turns.stop_container(async { 7 }) => assert_eq!(done, 7),
        }
    }

    #[tokio::test]
    async fn removals_wait_until_nothing_starts_or_stops_but_not_for_ever() {
        let mut turns = Turns::new(1);
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
