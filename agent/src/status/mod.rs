//! Pod status on its way to the API server.
//!
//! `patch` makes the request's body and `patience` says how long it may wait (both pure); `slot` is what is known of one
//! pod; `writer` is the only code that sends.

mod patch;
mod patience;
mod slot;
mod writer;

pub(crate) use self::writer::{StatusWriter, Target, WriterMetrics};
