//! From a pod status to the strategic merge patch that puts it into the API.
//!
//! Conditions of others (readiness gates, the scheduler, ...) stay: `conditions` merges by `type`, and a condition is
//! taken away only when it is one of ours. Lists of addresses are replaced. What the status leaves empty is nulled.

use k8s_openapi::{
    api::core::v1::{PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use serde_json::{Map, Value, json};

use crate::normal::normalised;

/// Condition types that belong to the kubelet alone (`pkg/kubelet/types/pod_status.go`).
const OWN_CONDITIONS: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "PodResizeInProgress",
    "PodResizePending",
    "AllContainersRestarting",
];

/// Fields that are deleted when the status does not have them.
const CLEARED: [&str; 8] = [
    "message",
    "reason",
    "podIP",
    "podIPs",
    "hostIPs",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];

/// The body of `PATCH /api/v1/namespaces/<ns>/pods/<name>/status` for the pod with this `uid`.
///
/// `known` is what the API server has as far as we know: own conditions that are there and not in `status` go.
pub(super) fn body(uid: &str, status: &PodStatus, known: &[PodCondition]) -> Value {
    // A k8s-openapi type always serialises to an object; its fields have string keys only.
    let mut fields = match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    for name in CLEARED {
        let empty = fields
            .get(name)
            .is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
        if empty {
            fields.insert(name.to_owned(), Value::Null);
        }
    }
    for name in ["podIPs", "hostIPs"] {
        if let Some(Value::Array(list)) = fields.get_mut(name) {
            list.insert(0, json!({"$patch": "replace"}));
        }
    }
    if let Some(Value::Array(list)) = fields.get_mut("conditions") {
        let order: Vec<_> = list
            .iter()
            .map(|condition| json!({"type": condition["type"]}))
            .collect();
        for condition in list.iter_mut().filter_map(Value::as_object_mut) {
            // Merged with what is there: a reason that no longer holds must be taken away.
            for name in ["reason", "message"] {
                condition.entry(name).or_insert(Value::Null);
            }
        }
        list.extend(gone(status, known).map(|kind| json!({"$patch": "delete", "type": kind})));
        fields.insert("$setElementOrder/conditions".to_owned(), Value::Array(order));
    }
    json!({"metadata": {"uid": uid}, "status": fields})
}

/// Own condition types that `known` has and `status` has not.
fn gone<'a>(status: &'a PodStatus, known: &'a [PodCondition]) -> impl Iterator<Item = &'a str> {
    let kept = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == kind)
    };
    known
        .iter()
        .map(|condition| condition.type_.as_str())
        .filter(move |kind| OWN_CONDITIONS.contains(kind) && !kept(kind))
}

/// Give each condition its transition time: that of `known` when the status is the same there, else `now`.
/// A time that the status brings along is kept when the condition changed.
pub(super) fn stamp(status: &mut PodStatus, known: &[PodCondition], now: Timestamp) {
    for condition in status.conditions.iter_mut().flatten() {
        let old = known
            .iter()
            .find(|old| old.type_ == condition.type_ && old.status == condition.status);
        if let Some(time) = old.and_then(|old| old.last_transition_time.clone()) {
            condition.last_transition_time = Some(time);
        } else if condition.last_transition_time.is_none() {
            condition.last_transition_time = Some(Time(now));
        }
    }
}

/// Does the API server's copy lack something of `wanted`? Conditions of others do not count.
pub(super) fn differs(api: &PodStatus, wanted: &PodStatus) -> bool {
    let own = |status: &PodStatus| {
        normalised(&PodStatus {
            conditions: None,
            // Written by others or derived by the API server.
            nominated_node_name: None,
            qos_class: None,
            host_ip: None,
            host_ips: None,
            ..status.clone()
        })
    };
    let there = api.conditions.as_deref().unwrap_or_default();
    let known: Vec<Value> = there.iter().map(normalised).collect();
    own(api) != own(wanted)
        || wanted
            .conditions
            .iter()
            .flatten()
            .any(|condition| !known.contains(&normalised(condition)))
        || gone(wanted, there).next().is_some()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ContainerStatus, PodIP};

    use super::*;

    fn condition(kind: &str, status: &str) -> PodCondition {
        PodCondition {
            type_: kind.into(),
            status: status.into(),
            ..PodCondition::default()
        }
    }

    fn status(conditions: Vec<PodCondition>) -> PodStatus {
        PodStatus {
            phase: Some("Running".into()),
            conditions: Some(conditions),
            ..PodStatus::default()
        }
    }

    #[test]
    fn nulls_what_is_empty_and_replaces_addresses() {
        let mut wanted = status(vec![condition("Ready", "True")]);
        wanted.pod_ips = Some(vec![PodIP {
            ip: "10.0.0.7".into(),
        }]);
        let body = body("u1", &wanted, &[]);
        assert_eq!(body["metadata"], json!({"uid": "u1"}));
        assert_eq!(
            body["status"]["podIPs"],
            json!([{"$patch": "replace"}, {"ip": "10.0.0.7"}])
        );
        assert_eq!(body["status"]["reason"], Value::Null);
        assert!(body["status"].as_object().unwrap().contains_key("reason"));
        assert!(!body["status"].as_object().unwrap().contains_key("startTime"));
    }

    #[test]
    fn takes_away_own_conditions_only() {
        let known = [
            condition("PodResizePending", "True"),
            condition("example.com/gate", "True"),
        ];
        let body = body("u1", &status(vec![condition("Ready", "True")]), &known);
        let ready = json!({"type": "Ready", "status": "True", "reason": null, "message": null});
        let taken = json!({"$patch": "delete", "type": "PodResizePending"});
        assert_eq!(body["status"]["conditions"], json!([ready, taken]));
        assert_eq!(
            body["status"]["$setElementOrder/conditions"],
            json!([{"type": "Ready"}])
        );
    }

    #[test]
    fn keeps_the_transition_time_until_the_status_changes() {
        let (old, now) = (Timestamp::UNIX_EPOCH, Timestamp::now());
        let mut known = condition("Ready", "False");
        known.last_transition_time = Some(Time(old));
        let known = [known];
        let mut same = status(vec![condition("Ready", "False")]);
        stamp(&mut same, &known, now);
        assert_eq!(same.conditions.unwrap()[0].last_transition_time, Some(Time(old)));
        let mut changed = status(vec![condition("Ready", "True")]);
        stamp(&mut changed, &known, now);
        assert_eq!(
            changed.conditions.unwrap()[0].last_transition_time,
            Some(Time(now))
        );
    }

    #[test]
    fn sees_a_status_that_another_changed() {
        let wanted = status(vec![condition("Ready", "True")]);
        assert!(!differs(
            &status(vec![
                condition("example.com/gate", "True"),
                condition("Ready", "True")
            ]),
            &wanted
        ));
        assert!(differs(&status(vec![condition("Ready", "False")]), &wanted));
        assert!(differs(
            &PodStatus {
                phase: Some("Pending".into()),
                ..wanted.clone()
            },
            &wanted
        ));
    }

    #[test]
    fn the_api_servers_spelling_is_no_difference() {
        let mut wanted = status(vec![condition("Ready", "True")]);
        stamp(&mut wanted, &[], Timestamp::now());
        wanted.start_time = Some(Time(Timestamp::now()));
        wanted.container_statuses = Some(vec![ContainerStatus {
            name: "c".into(),
            ..ContainerStatus::default()
        }]);
        let mut shown = serde_json::to_value(&wanted).unwrap();
        shown["containerStatuses"][0]["lastState"] = json!({});
        shown["conditions"][0]["lastProbeTime"] = Value::Null;
        shown["qosClass"] = json!("BestEffort");
        let shown: PodStatus = serde_json::from_value(shown).unwrap();
        assert_ne!(shown, wanted);
        assert!(!differs(&shown, &wanted));
    }
}
