//! From two node statuses to the strategic merge patch between them. Pure.

use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use serde_json::{Map, Value, json};

use crate::normal::normalised;

/// Is there a difference besides heartbeat times?
pub(super) fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        // Order is the API server's business.
        let conditions = status.conditions.get_or_insert_default();
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        for condition in conditions {
            condition.last_heartbeat_time = None;
        }
        normalised(&status)
    };
    still(old) != still(new)
}

/// The body of `PATCH /api/v1/nodes/<name>/status`: only what changed, and always all of `conditions`, whose
/// heartbeat times are the point of a patch without a change.
pub(super) fn body(old: &NodeStatus, new: &NodeStatus) -> Value {
    let fields = |status: &NodeStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (before, mut after) = (fields(old), fields(new));
    let conditions = after.remove("conditions");
    let mut patch = Map::new();
    for (name, value) in &after {
        if before.get(name) != Some(value) {
            patch.insert(name.clone(), changed(name, before.get(name), value));
        }
    }
    for name in before
        .keys()
        .filter(|name| *name != "conditions" && !after.contains_key(*name))
    {
        patch.insert(name.clone(), Value::Null);
    }
    if let Some(conditions) = conditions {
        let order = new
            .conditions
            .iter()
            .flatten()
            .map(|NodeCondition { type_, .. }| json!({"type": type_}))
            .collect();
        patch.insert("$setElementOrder/conditions".to_owned(), Value::Array(order));
        patch.insert("conditions".to_owned(), conditions);
    }
    json!({"status": patch})
}

/// A changed field: maps lose the keys that are gone, merged lists are replaced.
fn changed(name: &str, old: Option<&Value>, new: &Value) -> Value {
    match (name, new, old) {
        ("addresses", Value::Array(list), _) => {
            let mut list = list.clone();
            list.insert(0, json!({"$patch": "replace"}));
            Value::Array(list)
        }
        ("capacity" | "allocatable" | "nodeInfo", Value::Object(map), Some(Value::Object(old))) => {
            let gone = old
                .keys()
                .filter(|key| !map.contains_key(*key))
                .map(|key| (key.clone(), Value::Null));
            Value::Object(map.clone().into_iter().chain(gone).collect())
        }
        _ => new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::{
        api::core::v1::{ContainerImage, NodeAddress},
        apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
        jiff::Timestamp,
    };

    use super::*;

    fn status(time: Timestamp, gpu: bool, image: &str) -> NodeStatus {
        let mut capacity = BTreeMap::from([("cpu".to_owned(), Quantity("2".into()))]);
        if gpu {
            capacity.insert("example.com/gpu".to_owned(), Quantity("1".into()));
        }
        NodeStatus {
            addresses: Some(vec![NodeAddress {
                type_: "InternalIP".into(),
                address: image.into(),
            }]),
            capacity: Some(capacity),
            conditions: Some(vec![NodeCondition {
                type_: "Ready".into(),
                status: "True".into(),
                last_heartbeat_time: Some(Time(time)),
                ..NodeCondition::default()
            }]),
            images: Some(vec![ContainerImage {
                names: Some(vec![image.into()]),
                size_bytes: Some(1),
            }]),
            ..NodeStatus::default()
        }
    }

    #[test]
    fn heartbeats_are_no_difference() {
        let (old, new) = (
            status(Timestamp::UNIX_EPOCH, true, "a"),
            status(Timestamp::now(), true, "a"),
        );
        assert!(!differs(&old, &new));
        assert!(!differs(
            &NodeStatus {
                runtime_handlers: Some(vec![]),
                ..old.clone()
            },
            &new
        ));
        let patch = body(&old, &new);
        let names: Vec<_> = patch["status"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(names, ["$setElementOrder/conditions", "conditions"]);
    }

    #[test]
    fn only_changes_are_sent_and_gone_keys_are_nulled() {
        let now = Timestamp::now();
        let (old, new) = (status(now, true, "a"), status(now, false, "b"));
        assert!(differs(&old, &new));
        let patch = &body(&old, &new)["status"];
        assert_eq!(patch["capacity"], json!({"cpu": "2", "example.com/gpu": null}));
        assert_eq!(patch["addresses"][0], json!({"$patch": "replace"}));
        assert_eq!(patch["images"], json!([{"names": ["b"], "sizeBytes": 1}]));
        assert!(patch.get("nodeInfo").is_none());
    }
}
