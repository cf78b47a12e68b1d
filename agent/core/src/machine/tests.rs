//! The machine against a model of a runtime: tables, behaviours by name, and random histories with invariants.

mod driver;
mod ending;
mod properties;
mod restarts;
mod starting;
mod table;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};

use super::*;
use driver::Driver;

/// A pod from JSON: `spec` as the user writes it, metadata filled in.
fn pod(spec: serde_json::Value) -> Pod {
    let metadata = serde_json::json!({
        "name": "p", "namespace": "n", "uid": "u", "generation": 1,
    });
    serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

/// A pod with one regular container.
fn simple(restart_policy: &str) -> Pod {
    pod(serde_json::json!({
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "c", "image": "i"}],
    }))
}

fn deleted(pod: &Pod, grace_secs: i64) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.deletion_timestamp = Some(status::time(Timestamp::UNIX_EPOCH));
    pod.metadata.deletion_grace_period_seconds = Some(grace_secs);
    pod
}

fn with_hooks(hooks: serde_json::Value) -> Pod {
    pod(serde_json::json!({
        "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "c", "image": "i", "lifecycle": hooks}],
    }))
}
