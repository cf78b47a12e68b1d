//! Running pulls: shared by those who want the same, bounded in number, throttled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;

use super::ImagesConfig;
use super::throttle::Bucket;
use crate::pods::spec::PodSandboxConfig;
use crate::runtime::{Image, PullAuth, Runtime};

/// A finished pull.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    pub(super) image: Image,
    /// The pull alone, without waiting for its turn.
    pub(super) took: Duration,
}

/// The error is the runtime's message.
type Outcome = Result<Pulled, String>;
type Running = Shared<BoxFuture<'static, Outcome>>;

/// What makes two pulls the same.
type Key = (String, Vec<PullAuth>);

#[derive(Clone)]
pub(super) struct Puller {
    runtime: Runtime,
    turns: Arc<Semaphore>,
    running: Arc<Mutex<HashMap<Key, Running>>>,
    bucket: Arc<Mutex<Bucket>>,
}

impl Puller {
    pub(super) fn new(runtime: Runtime, config: &ImagesConfig) -> Self {
        let parallel = if config.serialize {
            1
        } else {
            config.max_parallel.unwrap_or(Semaphore::MAX_PERMITS)
        };
        Self {
            runtime,
            turns: Arc::new(Semaphore::new(parallel.clamp(1, Semaphore::MAX_PERMITS))),
            running: Arc::default(),
            bucket: Arc::new(Mutex::new(Bucket::new(config.qps, config.burst, Instant::now()))),
        }
    }

    /// Joins the pull of this image with these credentials, or starts one in a task of its own.
    pub(super) async fn pull(
        &self,
        reference: String,
        credentials: Vec<PullAuth>,
        sandbox: Option<PodSandboxConfig>,
    ) -> Outcome {
        let key = (reference, credentials);
        let running = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            match running.get(&key) {
                Some(pull) => pull.clone(),
                None => {
                    let pull = self.start(key.clone(), sandbox);
                    running.insert(key, pull.clone());
                    pull
                }
            }
        };
        running.await
    }

    fn start(&self, key: Key, sandbox: Option<PodSandboxConfig>) -> Running {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let outcome = this.run(&key, sandbox).await;
            this.running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
            outcome
        });
        let outcome = async move {
            task.await
                .unwrap_or_else(|_| Err("the pull was interrupted".to_owned()))
        };
        outcome.boxed().shared()
    }

    async fn run(&self, key: &Key, sandbox: Option<PodSandboxConfig>) -> Outcome {
        let (reference, credentials) = key;
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        if !self
            .bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now())
        {
            return Err("pull QPS exceeded".to_owned());
        }
        let started = Instant::now();
        let attempts: Vec<Option<PullAuth>> = if credentials.is_empty() {
            vec![None]
        } else {
            credentials.iter().cloned().map(Some).collect()
        };
        let mut failures: Vec<String> = Vec::new();
        for auth in attempts {
            match self.runtime.pull_image(reference, auth, sandbox.clone()).await {
                Ok(id) => {
                    return Ok(Pulled {
                        image: self.inspect(reference, id).await,
                        took: started.elapsed(),
                    });
                }
                Err(error) if !failures.contains(&error.message()) => failures.push(error.message()),
                Err(_) => {}
            }
        }
        Err(match failures.as_slice() {
            [only] => only.clone(),
            several => format!("[{}]", several.join(", ")),
        })
    }

    /// Size and user of a pulled image; if the runtime does not say, its id must do.
    async fn inspect(&self, reference: &str, id: String) -> Image {
        match self.runtime.image_status(reference).await {
            Ok(Some(image)) => image,
            Ok(None) | Err(_) => Image {
                id,
                ..Image::default()
            },
        }
    }
}
