//! A kube-proxy: programs nftables for ClusterIP and NodePort services.

fn main() {}
