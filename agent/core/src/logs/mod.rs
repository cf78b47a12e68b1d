//! Container logs: what a reader is shown of a log file, and which files of a log are kept.
//!
//! ```text
//! query ──> [`LogOptions`] ──┐
//! pod status ──> [`pick`] ───┼─> the shell opens the file, finds the [`tail`], reads blocks
//!                            │        │ bytes in any cut
//!                            │        v
//!                            └──> [`Printer`] ([`line`]) ──> what the reader sees
//! names in the directory ──> [`rotation`] ──> what to remove, to compress
//! ```
//!
//! A log line as CRI runtimes write it is `<RFC 3339 time> <stdout|stderr> <tag>[:<tag>...] <text>`; the first tag
//! says whether the text goes on in the next line (`P`) or ends with it (`F`). Docker's JSON lines are read as well,
//! because runtimes behind cri-dockerd write them.

pub mod line;
pub mod options;
pub mod pick;
pub mod print;
mod quote;
pub mod rotation;
pub mod tail;

pub use options::{LogOptions, OptionsError};
pub use pick::{NoLogs, container_id};
pub use print::{Printer, Show, Streams, Unsupported};
pub use quote::quote;

#[cfg(test)]
mod tests;
