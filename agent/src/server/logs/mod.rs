//! `GET /containerLogs/{namespace}/{pod}/{container}`: a container's log, or what is wrong, in the reference's words.
//!
//! ```text
//! options ─> pod ─> container ─> which instance (core::logs::pick) ─> its file (CRI) ─> place ─> Reader ─> body
//!                                                                       Tapes ─────────┘└─ Follower ─┘
//! ```
//!
//! What is wrong before the instance is known is a refusal. After that the answer has begun for the reference, so that
//! users see the reason as if it were the log, with status 200.
//!
//! The body is pulled: the file is read when the connection takes more, in the connection's own task. When the client
//! goes away the body is dropped, and with it the file and, for a follower, its hold on the log.

mod follow;
mod open;
mod place;
mod reader;

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{TryStreamExt as _, future::FutureExt as _, stream};
use gantry_agent_core::{
    api::{ContainerRef, Query},
    logs::{LogOptions, OptionsError, Show, container_id, quote},
    pod,
};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{Response, StatusCode, body::Frame};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::{
    follow::{Follower, ended},
    open::{OpenError, Opening},
    place::{ReadError, Step},
    reader::Reader,
};
use super::{Answer, Api, Body, Refusal, answer::full};
use crate::{
    logs::Tapes,
    runtime::{ContainerLog, Runtime},
};

/// Reads that wait for the disk at the same time. The threads that may block are few, and mounts need them as well.
const READS: usize = 4;

/// What readers of logs share; cheap to clone.
#[derive(Clone)]
pub(crate) struct Logs {
    tapes: Tapes,
    reads: Arc<Semaphore>,
}

/// One reader's way through a log.
enum Course {
    Once(Reader),
    Follow(Box<Follower>),
    Ended,
}

// === impl Logs ===

impl Logs {
    pub(crate) fn new(tapes: Tapes) -> Self {
        Self {
            tapes,
            reads: Arc::new(Semaphore::new(READS)),
        }
    }

    /// Opens the log of an instance.
    async fn open(
        &self,
        runtime: &Runtime,
        id: &str,
        show: Show,
        options: &LogOptions,
    ) -> Result<Course, OpenError> {
        let (_, bare) = id.split_once("://").unwrap_or(("", id));
        let log = runtime.container_log(bare).await;
        let log = log.map_err(|error| {
            tracing::debug!(
                id,
                error = error.message(),
                "the runtime does not say where the log is"
            );
            OpenError::Unknown(id.to_owned())
        })?;
        let opening = Opening {
            path: log.path.clone(),
            show,
            tail: options.tail_lines,
        };
        if options.follow {
            self.follow(runtime, bare, &log, opening).await
        } else {
            let place = self.blocking(|_| opening.once()).await?;
            Ok(Course::Once(Reader::new(place, self.reads.clone())))
        }
    }

    async fn follow(
        &self,
        runtime: &Runtime,
        id: &str,
        log: &ContainerLog,
        opening: Opening,
    ) -> Result<Course, OpenError> {
        let (place, reel) = self.blocking(|tapes| opening.follow(&tapes)).await?;
        let end = || ended(runtime.clone(), log.pod_uid.clone(), id.to_owned()).boxed();
        let running = log.running.then(end);
        let reader = Reader::new(place, self.reads.clone());
        let follower = Follower::new(reader, reel, running);
        Ok(Course::Follow(Box::new(follower)))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Tapes) -> Result<T, OpenError> + Send + 'static,
    ) -> Result<T, OpenError> {
        // Never closed.
        let permit = self.reads.clone().acquire_owned().await.ok();
        let tapes = self.tapes.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(tapes)
        });
        done.await
            .unwrap_or_else(|error| Err(OpenError::Unknown(error.to_string())))
    }
}

// === impl Course ===

impl Course {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        match self {
            Self::Once(reader) => loop {
                match reader.step().await? {
                    Step::Text(bytes) => return Ok(Some(bytes)),
                    Step::Nothing | Step::Wait => {}
                    Step::Done | Step::Lost => return Ok(None),
                    Step::End => {
                        let rest = reader.rest().await?;
                        *self = Self::Ended;
                        return Ok(Some(rest));
                    }
                }
            },
            Self::Follow(follower) => follower.next().await,
            Self::Ended => Ok(None),
        }
    }

    /// What goes wrong on the way is the last that the reader sees.
    fn into_body(self) -> Body {
        let pieces = stream::unfold(self, |mut course| async move {
            let piece = match course.next().await {
                Ok(piece) => piece?,
                Err(error) => {
                    course = Self::Ended;
                    error.to_string().into()
                }
            };
            Some((Ok::<_, io::Error>(piece), course))
        });
        StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()
    }
}

/// The handler.
///
/// # Errors
/// With the reference's status and text.
pub(super) async fn handle(api: &Api, query: &str, of: &ContainerRef) -> Result<Answer, Refusal> {
    let query = Query::parse(query);
    let options = LogOptions::parse(|name| query.get(name)).map_err(refuse)?;
    let (name, container) = (of.pod.name.as_str(), of.container.as_str());
    let entry = api
        .pods
        .by_name(&of.pod.namespace, name)
        .ok_or_else(|| Refusal::not_found(format!("pod {} does not exist", quote(name.as_bytes()))))?;
    if !pod::containers(&entry.pod)
        .iter()
        .any(|spec| spec.name == container)
    {
        let [container, pod] = [container, name].map(|name| quote(name.as_bytes()));
        return Err(Refusal::not_found(format!(
            "container {container} not found in pod {pod}"
        )));
    }
    let gate = api.config.kubelet.gate("PodLogsQuerySplitStreams");
    let streams = options.streams(gate).map_err(refuse)?;
    let id = container_id(name, &entry.status, container, options.previous)
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let show = Show {
        since: options.since(Timestamp::now()),
        timestamps: options.timestamps,
        streams,
        limit_bytes: options.limit_bytes.map(std::num::NonZero::get),
        // The log may grow while it is read.
        lines: options.tail_lines.filter(|_| !options.follow),
    };
    match api.logs.open(&api.runtime, id, show, &options).await {
        Ok(course) => Ok(Response::new(course.into_body())),
        // The answer of the reference begins when standard output is wanted.
        Err(error) if streams.stdout => Ok(Response::new(full(error.to_string()))),
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
}

fn refuse(error: OptionsError) -> Refusal {
    let status = match &error {
        OptionsError::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        OptionsError::Undecodable | OptionsError::StreamGate { .. } => StatusCode::BAD_REQUEST,
    };
    Refusal::new(status, error.to_string())
}

#[cfg(test)]
mod tests;
