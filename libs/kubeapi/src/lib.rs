//! The connection to the API server.
//!
//! [`connect()`] makes a `kube::Client` from a kubeconfig file with what a node needs and kube's own transport lacks:
//!
//! - HTTP/2, so that all watches and requests of a program share one TCP connection ([`lanes`] opens another only
//!   when the server's stream limit comes near);
//! - a client certificate that is read again at each handshake, so that rotation needs no restart ([`identity`]);
//! - dead connections are noticed within seconds (HTTP/2 PING and TCP_USER_TIMEOUT), not after the 15 minutes that
//!   the kernel takes;
//! - every request is counted, under client-go's names ([`requests`]);
//! - a pod that Services do not work for yet finds the API server by its node's kubeconfig ([`in_pod`]).
//!
//! [`slim`] has the resources that are watched cluster-wide, reduced to what a node needs.

mod backoff;
mod connect;
mod identity;
mod in_pod;
mod lanes;
mod requests;
pub mod slim;

pub use backoff::WatchBackoff;
pub use connect::{ConnectError, Server, connect, connect_counted, connect_to};
pub use requests::Requests;
