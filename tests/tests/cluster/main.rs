//! What a node does for its users, tried on the cluster that `hack/up` started. Every test has a namespace of its own
//! and none disturbs a node, so all run side by side; those that do are in `cluster_faults`.
//!
//! The same tests pass on the reference programs (`hack/up --agent reference --proxy reference --cni reference`). The
//! few behaviours that differ on purpose ask `Cluster::is_reference` and say why.

mod config;
mod containers;
mod dns;
mod network;
mod node;
mod probes;
mod restarts;
mod streams;
mod termination;
mod volumes;
