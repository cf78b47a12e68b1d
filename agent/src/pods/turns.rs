//! How many pods the node starts, and how many sandboxes it stops, at the same time.
//!
//! More at once only makes each slower: a start is mostly work of the CPU (runtime, shim, CNI). Turns are a courtesy,
//! not a lock: one that is held for too long is given back while its work goes on, so that stuck pods delay nobody.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pods between their first step and their last started container.
const STARTS: usize = 4;
/// Sandboxes being stopped.
const STOPS: usize = 8;
/// A stop that takes longer gives its turn back.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The turns of a node, first come first served. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    starts: Arc<Semaphore>,
    stops: Arc<Semaphore>,
}

/// A pod's turn to start; over when dropped. `None` while the agent goes down.
pub(crate) type StartTurn = Option<OwnedSemaphorePermit>;

impl Default for Turns {
    fn default() -> Self {
        Self {
            starts: Arc::new(Semaphore::new(STARTS)),
            stops: Arc::new(Semaphore::new(STOPS)),
        }
    }
}

impl Turns {
    /// Waits for a turn to start. Cancel safe: who stops waiting loses the place in the queue.
    pub(crate) async fn start(&self) -> StartTurn {
        // An error would mean that the semaphore is closed, which nobody does.
        self.starts.clone().acquire_owned().await.ok()
    }

    /// Runs `stop` in its turn.
    pub(crate) async fn stop<T>(&self, stop: impl Future<Output = T>) -> T {
        let permit = self.stops.acquire().await.ok();
        let mut stop = std::pin::pin!(stop);
        match tokio::time::timeout(STOP_LIMIT, &mut stop).await {
            Ok(output) => output,
            Err(_) => {
                drop(permit);
                stop.await
            }
        }
    }
}
