//! Network policies' decisions, pure: [`State`] takes in pods, namespaces and policies, keeps the [`Table`] that the kernel is to
//! have and says what of it has changed. It does no IO and has no clock.
//!
//! A packet that begins a connection passes if the sending pod's egress and the receiving pod's ingress allow it; each is restricted
//! if some policy of that direction selects the pod, and then allowed is what one of those policies allows
//! (<https://kubernetes.io/docs/concepts/services-networking/network-policies/>). Each node enforces what concerns its own pods.

mod attachments;
mod blocks;
mod compile;
mod diff;
mod input;
mod intern;
mod selector;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use attachments::Attachment;
pub use blocks::Range;
pub use diff::Changes;
pub use gantry_proxy_core::Protocol;
pub use input::{Key, NamedPort, Peer, Pod, Policy, PortMatch, Rule};
pub use selector::{Labels, Requirement, Selector};
pub use state::{Event, State};
pub use table::{Chain, Direction, Element, Id, Match, Packet, PortTest, SetName, Table};
