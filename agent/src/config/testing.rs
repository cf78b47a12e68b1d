//! Configurations for tests of other modules.

use super::{Config, Settings, document, finish};

/// The fields in `yaml` (without apiVersion and kind) on top of the defaults.
pub(crate) fn settings(yaml: &str) -> Settings {
    let text = format!(
        "apiVersion: {}\nkind: {}\n{yaml}",
        document::API_VERSION,
        document::KIND
    );
    let layer = document::decode(&text, "test").unwrap();
    finish(layer.values, &mut Vec::new()).unwrap()
}

/// A node named node-1 with these settings.
pub(crate) fn config(yaml: &str) -> Config {
    Config {
        node_name: "node-1".into(),
        hostname: "node-1".into(),
        kubeconfig: None,
        bootstrap_kubeconfig: None,
        root_dir: "/var/lib/kubelet".into(),
        cert_dir: "/var/lib/kubelet/pki".into(),
        node_ips: Vec::new(),
        node_labels: Default::default(),
        external_cloud_provider: false,
        kubelet: settings(yaml),
        flags: Default::default(),
        notices: Vec::new(),
    }
}
