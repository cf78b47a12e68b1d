//! Following a log: what the container writes, as it writes it, across rotation, until it ends.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{
    place::{ReadError, Source, Step},
    reader::Reader,
};
use crate::{
    logs::Reel,
    runtime::{Runtime, RuntimeError},
};

/// Looking without being told: the slow repair, and the only way without inotify (the reference's period).
const REPAIR: Duration = Duration::from_secs(10);
const UNWATCHED: Duration = Duration::from_secs(1);
/// A file has a successor and its writer has not closed it yet.
const CLOSING: Duration = Duration::from_millis(100);

/// A reader that stays.
pub(super) struct Follower {
    reader: Reader,
    reel: Reel,
    /// Resolves when the container has ended; `None` when it has.
    running: Option<BoxFuture<'static, ()>>,
}

impl Follower {
    /// `reader` stands somewhere in the file where `reel` is; `running` resolves when the container has ended.
    pub(super) fn new(reader: Reader, reel: Reel, running: Option<BoxFuture<'static, ()>>) -> Self {
        Self {
            reader,
            reel,
            running,
        }
    }

    /// The next piece; `None` at the end. Not cancel safe; dropped as a whole when the reader is gone.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            // Asked before reading: what is read to its end after that is complete.
            let over = self.running.is_none() || self.reel.generation().is_over();
            self.reel.mark();
            match self.reader.step().await? {
                Step::Text(bytes) => return Ok(Some(bytes)),
                Step::Nothing => continue,
                Step::Done => return Ok(None),
                Step::End | Step::Wait => {}
                Step::Lost => {
                    tracing::debug!("a reader of a log is too far behind: lines are left out");
                    self.advance();
                    continue;
                }
            }
            let more = self.reel.has_more();
            match (more, over) {
                (true, true) => {
                    let rest = self.reader.rest().await?;
                    self.advance();
                    if !rest.is_empty() {
                        return Ok(Some(rest));
                    }
                }
                (false, _) if self.running.is_none() => {
                    let rest = self.reader.rest().await?;
                    return Ok(Some(rest).filter(|rest| !rest.is_empty()));
                }
                (true | false, _) => self.wait(more).await,
            }
        }
    }

    fn advance(&mut self) {
        self.reel.advance();
        let next = self.reel.generation().clone();
        self.reader.move_to(Source::Followed(next));
    }

    /// Until something has happened, or it is time to look.
    async fn wait(&mut self, more: bool) {
        let period = match (more, self.reel.is_unwatched()) {
            (true, _) => CLOSING,
            (false, true) => UNWATCHED,
            (false, false) => REPAIR,
        };
        let ended = async {
            match &mut self.running {
                Some(running) => running.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: watch keeps the newest value.
            () = self.reel.changed() => return,
            // Cancel safe: the future is kept.
            () = ended => self.running = None,
            // Cancel safe: a timer.
            () = tokio::time::sleep(period) => {}
        }
        if !more {
            self.reel.look().await;
        }
    }
}

/// Resolves when container `id` of pod `uid` has ended.
pub(super) async fn ended(runtime: Runtime, uid: String, id: String) {
    let mut pod = runtime.pods().subscribe(&uid);
    let mut seen = false;
    loop {
        let state = {
            let pod = pod.borrow_and_update();
            let found = pod.containers.iter().find(|container| container.id == id);
            found.map(gantry_agent_core::observed::Container::has_ended)
        };
        match state {
            Some(true) => return,
            Some(false) => seen = true,
            // Removed.
            None if seen => return,
            None => {}
        }
        let news = async {
            if pod.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            // Cancel safe: watch keeps the newest value.
            () = news => continue,
            // Cancel safe: a timer.
            () = tokio::time::sleep(REPAIR) => {}
        }
        match runtime.container_log(&id).await {
            Ok(log) if !log.running => return,
            Err(RuntimeError::NotFound { .. }) => return,
            Ok(_) | Err(_) => {}
        }
    }
}
