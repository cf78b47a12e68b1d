//! A kubelet: runs the pods bound to its node through a CRI runtime.

fn main() {}
