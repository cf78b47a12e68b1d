//! Packets through the table, in network namespaces: needs root.
//!
//! What is not below `ours::` is about services, whoever serves them: with `GANTRY_REFERENCE_PROXY` set to a kube-proxy the same
//! tests run on that (`hack/packets --proxy reference`), which proves the tests. What is below `ours::` looks at our own table, at
//! what our program does to it, or holds it to more than the reference does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod affinity;
mod api;
mod changes;
mod flows;
mod host;
mod kubernetes;
#[path = "../netns/mod.rs"]
mod netns;
mod objects;
mod ours;
mod pods;
mod reference;
mod rig;
mod sctp;
mod services;
mod sources;
