//! Packets through the table, in network namespaces: needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod changes;
mod objects;
mod rig;
mod services;
