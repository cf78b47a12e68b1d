//! A kube-proxy: programs nftables for services, and routes to the other nodes' pods.
//!
//! ```text
//! watch (API server) ─> run (main loop) ─> cluster (nodes, ranges)
//!    reduce                             ├─> stack (one for each address family)
//!                                       │     ├─> programmer ─> core (decisions) ─> table (nftables)
//!                                       │     └─> node_checks (servers for load balancers)
//!                                       ├─> routes (rtnetlink)
//!                                       ├─> outward (masquerading of pods), cni (plugin and configuration file)
//!                                       └─> events (API server)
//! policy: network policies, with watches, core (`gantry-policy-core`) and tables of their own
//! ```
//!
//! Two tasks on one thread; health and metrics are served by the same runtime. The decisions are in `gantry-proxy-core`.

pub mod affinity;
pub mod cleanup;
pub mod cluster;
pub mod cni;
pub mod config;
pub mod events;
pub mod flags;
pub mod flows;
pub mod health;
pub mod leftovers;
pub mod memory;
pub mod metrics;
pub mod node_checks;
pub mod outward;
mod pace;
pub mod pages;
pub mod policy;
pub mod programmer;
pub mod reduce;
pub mod routes;
pub mod run;
pub mod stack;
pub mod sysctl;
pub mod table;
pub mod watch;

/// The version of Kubernetes whose kube-proxy this program stands in for.
pub const REFERENCE_VERSION: &str = "v1.36.3";
