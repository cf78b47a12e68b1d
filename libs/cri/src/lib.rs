//! The container runtime interface, CRI v1: messages, client stubs and server stubs (for tests).
//!
//! Generated from `proto/cri.proto`, our own declaration of the part of the interface that is used.
//! These types stop at the edge: the agent's core speaks its own words.

/// Package `runtime.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines,
    clippy::large_futures,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// The largest message accepted from a runtime, in bytes: the reference's value (16 MiB).
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

impl std::fmt::Debug for v1::AuthConfig {
    /// Names the registry and the user; a password or token never reaches a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
