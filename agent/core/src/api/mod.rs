//! The agent's HTTP API, as far as it is words: which path means what, what a caller needs to be allowed, and the
//! parameters of a request.
//!
//! ```text
//! method, path, Accept ── resolve() ──> Unknown | Redirect | Found { area, route or miss }
//!                                                             │ area.subresources(), area.verb(method)
//! query ── Query::parse() ──> single values, lists
//! ```

pub mod area;
pub mod health;
pub mod nodelog;
pub mod path;
pub mod query;
pub mod range;
pub mod route;

pub use area::Area;
pub use query::Query;
pub use route::{ContainerRef, Head, HealthCheck, Miss, PodRef, Resolution, Route, Surface, resolve};
