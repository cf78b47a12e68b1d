//! Questions to the API server: few at a time, repeated when it is the server that fails.

use std::{fmt::Debug, time::Duration};

use kube::{Api, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::report::Chain;

/// Questions under way at the same time: strangers with invented tokens must not use up the connection to the API
/// server, which the agent needs for its pods.
const AT_ONCE: usize = 16;
/// A question takes at most this long, repetitions included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waits before a repetition: 5 tries, 0.5 s growing by half, as the reference.
const PAUSES: [u64; 4] = [500, 750, 1125, 1687];

/// Takes turns.
pub(super) struct Asking {
    turns: Semaphore,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl Asking {
    /// Waits for a turn.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("the semaphore is never closed")
    }

    /// Sends a review and gives back the API server's copy of it.
    ///
    /// # Errors
    /// What went wrong, in words. They never hold the review, which may have a token.
    pub(super) async fn create<K>(&self, api: &Api<K>, review: &K) -> Result<K, String>
    where
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        let asked = async {
            let mut pauses = PAUSES.iter();
            loop {
                let error = match api.create(&PostParams::default(), review).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                match pauses.next() {
                    Some(pause) if may_pass(&error) => {
                        tokio::time::sleep(Duration::from_millis(*pause)).await
                    }
                    Some(_) | None => return Err(Chain(&error).to_string()),
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        answer.unwrap_or_else(|_| Err(format!("no answer from the API server within {PATIENCE:?}")))
    }
}

/// The same question may get an answer later.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429,
        _ => true,
    }
}
