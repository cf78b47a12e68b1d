//! The agent's decisions, without IO, clock or runtime: desired state, observed state and a time go in, a plan
//! and a status come out.
//!
//! ```text
//! desired (API) ──┐
//!                 ├─> machine ──> steps (plan) ──> the shell executes them
//! observed (CRI) ─┘        └────> PodStatus ─────> the shell's status writer
//! ```
//!
//! Kubernetes API types come from `k8s-openapi` (plain data); CRI messages never get here, [`observed`] has our own
//! words for them.

pub mod admission;
pub mod api;
pub mod backoff;
pub mod dns;
pub mod env;
pub mod hash;
pub mod hosts;
pub mod logs;
pub mod machine;
pub mod observed;
pub mod pod;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod resources;
pub mod start;
pub mod stats;
pub mod status;
pub mod streaming;
pub mod volumes;
