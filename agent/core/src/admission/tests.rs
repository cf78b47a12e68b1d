use serde_json::{Value, json};

use super::*;
use crate::resources::amounts;

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
}

fn asking(cpu: &str) -> Pod {
    pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "x.io/unknown": "5"}}}]}))
}

fn on_port(port: i32, ip: &str, protocol: &str) -> Pod {
    let port = json!({"containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": protocol});
    pod(json!({"containers": [{"name": "c", "ports": [port]}]}))
}

fn node() -> NodeView {
    let allocatable = serde_json::from_value(json!({"cpu": "2", "memory": "1Gi"})).expect("quantities");
    NodeView {
        name: "n1".into(),
        labels: BTreeMap::from([("disk".into(), "ssd".into()), ("rank".into(), "5".into())]),
        taints: Vec::new(),
        allocatable: amounts(Some(&allocatable)),
        max_pods: 2,
    }
}

fn reason(pod: &Pod, others: &[&Pod]) -> String {
    admit(pod, &node(), others)
        .err()
        .map(|f| f.reason)
        .unwrap_or_default()
}

#[test]
fn resources_and_pods_are_counted() {
    let (one, half) = (asking("1"), asking("500m"));
    assert_eq!(reason(&one, &[&one]), "");
    assert_eq!(reason(&one, &[&half, &half]), "OutOfpods");
    let refused = admit(&asking("1500m"), &node(), &[&one]).expect_err("too much");
    assert_eq!(refused.reason, "OutOfcpu");
    assert_eq!(
        refused.message,
        "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
    );
    assert_eq!(
        reason(&pod(json!({})), &[&asking("2")]),
        "",
        "who asks for nothing always fits"
    );
}

#[test]
fn host_ports_conflict_by_number_protocol_and_address() {
    let table = [
        ("0.0.0.0", "TCP", 80, "NodePorts"),
        ("10.0.0.1", "TCP", 80, "NodePorts"),
        ("10.0.0.2", "TCP", 80, ""),
        ("10.0.0.1", "UDP", 80, ""),
        ("10.0.0.1", "TCP", 81, ""),
    ];
    let used = on_port(80, "10.0.0.1", "TCP");
    for (ip, protocol, port, expected) in table {
        assert_eq!(
            reason(&on_port(port, ip, protocol), &[&used]),
            expected,
            "{ip} {protocol} {port}"
        );
    }
    let refused = admit(&used, &node(), &[&used]).expect_err("in use");
    assert!(
        refused
            .message
            .ends_with("didn't have free ports for the requested pod ports")
    );
}

#[test]
fn selectors_and_affinity_have_to_match_the_node() {
    let affinity = |term: Value| {
        let required = json!({"nodeSelectorTerms": [term]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
    };
    let expression = |key: &str, operator: &str, values: Value| {
        affinity(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
    };
    let name = |name: &str| {
        affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}))
    };
    let table = [
        (json!({"nodeSelector": {"disk": "ssd"}}), true),
        (json!({"nodeSelector": {"disk": "tape"}}), false),
        (expression("disk", "In", json!(["ssd"])), true),
        (expression("disk", "NotIn", json!(["ssd"])), false),
        (expression("gpu", "Exists", json!([])), false),
        (expression("gpu", "DoesNotExist", json!([])), true),
        (expression("rank", "Gt", json!(["4"])), true),
        (expression("rank", "Lt", json!(["4"])), false),
        (name("n1"), true),
        (name("n2"), false),
        (affinity(json!({})), false),
    ];
    for (spec, matches) in table {
        assert_eq!(reason(&pod(spec.clone()), &[]).is_empty(), matches, "{spec}");
    }
}

#[test]
fn only_no_execute_taints_reject_and_tolerations_help() {
    let mut node = node();
    let taint = |effect: &str| Taint {
        effect: effect.into(),
        key: "k".into(),
        ..Taint::default()
    };
    node.taints = vec![taint("NoSchedule")];
    assert!(admit(&pod(json!({})), &node, &[]).is_ok());
    node.taints = vec![taint("NoExecute")];
    assert_eq!(
        admit(&pod(json!({})), &node, &[]).expect_err("tainted").reason,
        "TaintToleration"
    );
    for toleration in [
        json!({"operator": "Exists"}),
        json!({"key": "k", "effect": "NoExecute"}),
    ] {
        assert!(admit(&pod(json!({"tolerations": [toleration]})), &node, &[]).is_ok());
    }
}

#[test]
fn pods_of_another_system_or_node_are_refused() {
    assert_eq!(
        reason(&pod(json!({"os": {"name": "windows"}})), &[]),
        "PodOSNotSupported"
    );
    assert_eq!(reason(&pod(json!({"nodeName": "n2"})), &[]), "NodeName");
}
