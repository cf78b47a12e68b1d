//! A kubelet: runs the pods bound to its node through a CRI runtime.

#[allow(dead_code, unused_imports, reason = "until run.rs wires it")]
mod runtime;

fn main() {}
