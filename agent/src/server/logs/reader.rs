//! Reads a log for one reader: in the reader's own task when the pages are in memory, else where blocking is allowed.
//!
//! The log is read when the reader wants more, never ahead: a slow one holds at most one block.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::place::{Blocking, Place, ReadError, Source, Step};

/// A reader of one file after the other.
pub(super) struct Reader {
    place: Place,
    /// Reads of logs that may wait for the disk at the same time, of all readers together.
    reads: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(place: Place, reads: Arc<Semaphore>) -> Self {
        Self { place, reads }
    }

    /// The next piece; never [`Step::Wait`]. Cancel safe: what was not given back is read again.
    pub(super) async fn step(&mut self) -> Result<Step, ReadError> {
        // A reader that sees nothing of a long log must not keep others from running.
        tokio::task::consume_budget().await;
        match self.place.step(Blocking::No)? {
            Step::Wait => self.blocking(|place| place.step(Blocking::Yes)).await,
            step => Ok(step),
        }
    }

    /// At the end of a file that will not grow any more: a last line without an end.
    pub(super) async fn rest(&mut self) -> Result<Bytes, ReadError> {
        self.blocking(Place::rest).await
    }

    /// Goes on at the beginning of another file.
    pub(super) fn move_to(&mut self, source: Source) {
        self.place.move_to(source);
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Place) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        // Never closed.
        let permit = self.reads.clone().acquire_owned().await.ok();
        let mut place = self.place.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&mut place).map(|result| (place, result))
        });
        let (place, result) = done.await.map_err(|error| ReadError::Io(error.to_string()))??;
        self.place = place;
        Ok(result)
    }
}
