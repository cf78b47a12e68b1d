//! What a node does for its users, tried on the cluster that `hack/up` started. Every test has a namespace of its own
//! and none disturbs a node, so all run side by side; those that do are in `cluster_faults`.
//!
//! The same tests pass on the reference programs (`hack/up --agent reference --proxy reference --cni reference`). The
//! few behaviours that differ on purpose ask `Cluster::is_reference` and say why.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod auth;
mod cadvisor;
mod config;
mod configz;
mod connections;
mod containers;
mod dns;
mod dual_stack;
mod exposition;
mod host_ports;
mod logs;
mod logs_errors;
mod logs_follow;
mod metrics;
mod network;
mod node;
mod policies;
mod probes;
mod proxy;
mod raw;
mod restarts;
mod stats;
mod streams;
mod termination;
mod volumes;
mod zpages;
