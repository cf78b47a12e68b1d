//! The node's conditions, in the reference's order and words (`pkg/kubelet/nodestatus/setters.go`). Pure.

use k8s_openapi::{api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::usage::Pressure;

/// One of our conditions and how it reads when true and when false.
struct Words {
    kind: &'static str,
    pressure: Pressure,
    bad: (&'static str, &'static str, &'static str),
    good: (&'static str, &'static str, &'static str),
}

/// Reason, message, and the event's reason on a change.
const PRESSURES: [Words; 3] = [
    Words {
        kind: "MemoryPressure",
        pressure: Pressure::Memory,
        bad: (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "NodeHasInsufficientMemory",
        ),
        good: (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
            "NodeHasSufficientMemory",
        ),
    },
    Words {
        kind: "DiskPressure",
        pressure: Pressure::Disk,
        bad: (
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "NodeHasDiskPressure",
        ),
        good: (
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
            "NodeHasNoDiskPressure",
        ),
    },
    Words {
        kind: "PIDPressure",
        pressure: Pressure::Pid,
        bad: (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "NodeHasInsufficientPID",
        ),
        good: (
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
            "NodeHasSufficientPID",
        ),
    },
];

/// Conditions of `known`, brought up to date: `pressure` says whether there is one, `errors` why the node is not
/// ready. Conditions of others stay. The second value is the reasons of the node events that this gives.
pub(super) fn update(
    known: &[NodeCondition],
    pressure: impl Fn(Pressure) -> bool,
    errors: &[String],
    now: Timestamp,
) -> (Vec<NodeCondition>, Vec<&'static str>) {
    let mut all = known.to_vec();
    let mut events = Vec::new();
    for words in &PRESSURES {
        let bad = pressure(words.pressure);
        let (reason, message, event) = if bad { words.bad } else { words.good };
        if set(&mut all, condition(words.kind, bad, reason, message), now) {
            events.push(event);
        }
    }
    let known_ready = known.iter().any(|c| c.type_ == "Ready");
    let ready = errors.is_empty();
    let (reason, message, event) = if ready {
        (
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
            "NodeReady",
        )
    } else {
        ("KubeletNotReady", joined(errors), "NodeNotReady")
    };
    // A new node is announced by its creation, not by an event of a change.
    if set(&mut all, condition("Ready", ready, reason, &message), now) && known_ready {
        events.push(event);
    }
    (all, events)
}

/// Errors as the reference joins them.
fn joined(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn condition(kind: &str, status: bool, reason: &str, message: &str) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: None,
        last_transition_time: None,
    }
}

/// Put a condition in; true when its status changed.
fn set(all: &mut Vec<NodeCondition>, mut new: NodeCondition, now: Timestamp) -> bool {
    new.last_heartbeat_time = Some(Time(now));
    match all.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            let changed = old.status != new.status;
            new.last_transition_time = if changed {
                Some(Time(now))
            } else {
                old.last_transition_time.take()
            };
            *old = new;
            changed
        }
        None => {
            new.last_transition_time = Some(Time(now));
            all.push(new);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_gets_four_conditions_in_order() {
        let (all, events) = update(
            &[],
            |_| false,
            &["network state unknown".to_owned()],
            Timestamp::now(),
        );
        let kinds: Vec<_> = all
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [
                ("MemoryPressure", "False"),
                ("DiskPressure", "False"),
                ("PIDPressure", "False"),
                ("Ready", "False")
            ]
        );
        assert_eq!(all[3].message.as_deref(), Some("network state unknown"));
        assert_eq!(
            events,
            [
                "NodeHasSufficientMemory",
                "NodeHasNoDiskPressure",
                "NodeHasSufficientPID"
            ]
        );
    }

    #[test]
    fn changes_keep_order_and_transition_times() {
        let (before, after) = (Timestamp::UNIX_EPOCH, Timestamp::now());
        let (old, _) = update(&[], |_| false, &["a".to_owned()], before);
        let (new, events) = update(&old, |pressure| pressure == Pressure::Disk, &[], after);
        assert_eq!(events, ["NodeHasDiskPressure", "NodeReady"]);
        let times: Vec<_> = new
            .iter()
            .map(|c| c.last_transition_time.clone().unwrap().0 == after)
            .collect();
        assert_eq!(times, [false, true, false, true]);
        assert!(new.iter().all(|c| c.last_heartbeat_time == Some(Time(after))));
        assert_eq!(new[1].reason.as_deref(), Some("KubeletHasDiskPressure"));
        let (same, events) = update(&new, |pressure| pressure == Pressure::Disk, &[], after);
        assert_eq!((same, events), (new, vec![]));
    }

    #[test]
    fn errors_are_joined_and_foreign_conditions_stay() {
        let foreign = condition("NetworkUnavailable", false, "RouteCreated", "");
        let errors = [
            "container runtime is down".to_owned(),
            "network state unknown".to_owned(),
        ];
        let (all, _) = update(
            std::slice::from_ref(&foreign),
            |_| false,
            &errors,
            Timestamp::now(),
        );
        assert_eq!(all[0], foreign);
        assert_eq!(
            all[4].message.as_deref(),
            Some("[container runtime is down, network state unknown]")
        );
    }
}
