//! Packets through the table, in network namespaces: needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod affinity;
mod changes;
mod flows;
mod foreign;
mod objects;
mod pods;
mod rig;
mod services;
mod sources;
mod transitions;
