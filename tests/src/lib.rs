//! Black-box tests: namespaces, a real container runtime, a real control plane.

pub mod cluster;
