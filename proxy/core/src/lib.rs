//! The proxy's decisions: services and endpoints in, ruleset and differences out. No IO, no clock.
//!
//! ```text
//! slim objects ─> State ─ changed services ─> compile ─ Front -> Program ─┐
//!                  (state)                    (choose, place)             ├─> diff ─> Changes (chains, then operations)
//! NodeFacts ──────────────────────────────── Ruleset (what is in the kernel)┘
//! ```
//!
//! [`Planner`] holds all of it and answers with the operations that bring the kernel's table from the last answer to the present
//! state. One service changed means that one service is compiled. What the elements mean is the table's layout: `layout` in the
//! shell writes the fixed rules that look them up.
//!
//! Words: a *front* is what clients address (an address and port, or a node port); its *program* says what happens there; a *backend*
//! is where a connection ends up; a *slot* is a backend's number under its front, the value that the kernel draws at random.

pub mod affinity;
pub mod chain;
pub mod check;
pub mod choose;
pub mod compile;
pub mod diff;
pub mod facts;
pub mod families;
pub mod model;
pub mod nodes;
pub mod outward;
pub mod place;
pub mod planner;
pub mod ruleset;
pub mod stale;
pub mod state;
pub mod unlisted;

pub use affinity::{Remembered, Suspects};
pub use chain::{Chain, Part, Scope, Target};
pub use check::{HealthCheck, health_checks};
pub use diff::{Changes, Op};
pub use facts::NodeFacts;
pub use families::{Families, Family, PerFamily};
pub use model::{
    Endpoint, EndpointState, Key, NodeHint, Policy, Port, Protocol, Restriction, Service, ServicePort, Slice,
    ZoneSet,
};
pub use nodes::{Node, Route};
pub use outward::Outward;
pub use planner::{Conflict, Planner};
pub use ruleset::{Backend, Element, Front, Masquerade, Program, Ruleset, Verdict};
pub use stale::{Flows, StaleFlows, UdpFlow};
pub use state::{Event, Kind, State};
pub use unlisted::Unlisted;

#[cfg(test)]
mod tests;
