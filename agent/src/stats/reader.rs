//! The thread on which figures are read: one, whoever asks.
//!
//! Scrapes wait for each other anyway. On the runtime's blocking threads each of them would leave some hundred KiB in
//! the allocator's arena of whichever thread was free; here it is the same memory again and again.

use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;
use tracing::error;

type Job = Box<dyn FnOnce() + Send>;

/// The thread; it ends with the last clone.
#[derive(Clone)]
pub(crate) struct Reader {
    jobs: mpsc::Sender<Job>,
}

impl Reader {
    /// Starts it.
    pub(crate) fn start() -> Self {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let run = move || waiting.iter().for_each(|job| job());
        if let Err(error) = thread::Builder::new().name("figures".to_owned()).spawn(run) {
            error!(%error, "cannot start the thread that reads figures");
        }
        Self { jobs }
    }

    /// Runs `work` there when all that was asked for before is done. `None`: it broke, or there is no thread. What nobody
    /// waits for any more when its turn comes is not begun.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                // Whoever asked may have gone meanwhile.
                let _ = done.send(work());
            }
        };
        self.jobs.send(Box::new(job)).ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_turn_on_one_thread() {
        let reader = Reader::start();
        let asked: Vec<_> = (0..10)
            .map(|number| reader.run(move || (number, thread::current().id())))
            .collect();
        let done = futures::future::join_all(asked).await;
        let first = done[0].unwrap().1;
        for (number, done) in done.into_iter().enumerate() {
            assert_eq!(done, Some((number, first)));
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_begun() {
        let reader = Reader::start();
        let (go, wait) = mpsc::channel::<()>();
        let slow = tokio::spawn({
            let reader = reader.clone();
            async move { reader.run(move || wait.recv().is_err()).await }
        });
        tokio::task::yield_now().await;
        let (begun, seen) = mpsc::channel();
        drop(tokio::time::timeout(std::time::Duration::ZERO, reader.run(move || begun.send(()))).await);
        drop(go);
        assert_eq!(slow.await.unwrap(), Some(true));
        assert_eq!(reader.run(|| 1).await, Some(1));
        assert!(seen.recv().is_err(), "nobody waited for it");
    }
}
