//! Pod status on its way to the API server.
//!
//! `patch` makes the request's body (pure); `writer` is the only code that sends it.

mod patch;
mod writer;

pub(crate) use self::writer::{StatusWriter, Target, WriterMetrics};
