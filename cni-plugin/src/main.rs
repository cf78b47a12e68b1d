//! A CNI plugin: bridge, veth, address, routes and masquerade for each pod.

fn main() {}
