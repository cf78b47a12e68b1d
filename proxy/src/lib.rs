//! A kube-proxy: programs nftables for services, and routes to the other nodes' pods.

pub mod table;
