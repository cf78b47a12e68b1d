//! `/configz`: the configuration that a node has, with everything that it was not told and took from the defaults.

use std::collections::BTreeSet;

use gantry_tests::cluster::Test;
use serde_json::Value;

use super::raw::raw_json;

/// Every field of the reference's `/configz` on a node that kubeadm joined, as a path.
const CONFIGZ: &str = include_str!("configz.txt");

/// Every path to a value that is no object.
fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() && !path.ends_with("Gates") && !path.ends_with("evictionHard") => {
            for (name, value) in fields {
                leaves(value, &format!("{path}.{name}"), into);
            }
        }
        _ => drop(into.insert(path.to_owned())),
    }
}

#[test]
fn the_configuration_is_the_effective_one() {
    let test = Test::start("raw-configz");
    let all = raw_json(&test, "/configz");
    let config = &all["kubeletconfig"];
    let mut fields = BTreeSet::new();
    leaves(config, "", &mut fields);
    let expected: BTreeSet<_> = CONFIGZ.lines().map(str::to_owned).collect();
    let difference: Vec<_> = expected.symmetric_difference(&fields).collect();
    assert!(difference.is_empty(), "only here or only there: {difference:?}");
    let dns = test.cluster.primary("10.96.0.10", "fd00:96::a");
    for (field, value) in [
        ("clusterDomain", serde_json::json!("cluster.local")),
        ("clusterDNS", serde_json::json!([dns])),
        ("port", 10250.into()),
        ("readOnlyPort", Value::Null),
        ("maxPods", 110.into()),
        ("failCgroupV1", false.into()),
        ("rotateCertificates", true.into()),
        ("containerLogMaxSize", "10Mi".into()),
        ("containerLogMaxFiles", 5.into()),
        ("streamingConnectionIdleTimeout", "4h0m0s".into()),
        ("nodeStatusUpdateFrequency", "10s".into()),
        ("nodeLeaseDurationSeconds", 40.into()),
        ("imageGCHighThresholdPercent", 100.into()),
        ("imageGCLowThresholdPercent", 80.into()),
        ("serializeImagePulls", true.into()),
        ("enableDebuggingHandlers", true.into()),
        ("staticPodPath", "/etc/kubernetes/manifests".into()),
        (
            "evictionHard",
            serde_json::json!({"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"}),
        ),
        (
            "containerRuntimeEndpoint",
            "unix:///var/run/containerd/containerd.sock".into(),
        ),
    ] {
        assert_eq!(config[field], value, "{field}");
    }
    assert_eq!(config["authentication"]["anonymous"]["enabled"], false);
    assert_eq!(config["authorization"]["mode"], "Webhook");
}
