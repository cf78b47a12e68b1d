use serde_json::json;

use super::*;

#[test]
fn a_service_keeps_what_decides_about_packets() {
    let full = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "dns", "namespace": "kube-system", "resourceVersion": "7",
            "labels": {"a": "b"}, "managedFields": [{"manager": "x", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "type": "NodePort",
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 30}},
            "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local", "selector": {"k8s-app": "dns"},
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53, "nodePort": 30053}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}}
    });
    let service: Service = serde_json::from_value(full).unwrap();
    assert_eq!(service.metadata.name.as_deref(), Some("dns"));
    assert_eq!(service.metadata.managed_fields, None);
    assert_eq!(service.cluster_ips, ["10.96.0.10"]);
    assert_eq!(service.external_ips, ["192.0.2.1"]);
    assert_eq!(service.affinity_timeout_secs, Some(30));
    assert_eq!(service.external_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(service.ports[0].node_port, Some(30053));
    assert_eq!(service.ingress[0].ip.as_deref(), Some("192.0.2.9"));
}

#[test]
fn a_slice_keeps_its_service_and_endpoints() {
    let full = json!({
        "metadata": {"name": "dns-x", "namespace": "kube-system", "resourceVersion": "8",
            "labels": {"kubernetes.io/service-name": "dns", "other": "1"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-21T07:00:00Z"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": "n1",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "hints": {"forZones": [{"name": "a"}], "forNodes": null},
            "targetRef": {"kind": "Pod", "name": "p"}}],
        "ports": null
    });
    let slice: EndpointSlice = serde_json::from_value(full).unwrap();
    assert_eq!(slice.metadata.resource_version.as_deref(), Some("8"));
    assert_eq!(slice.service_name.as_deref(), Some("dns"));
    assert!(slice.trigger_time.is_some());
    assert_eq!(slice.endpoints[0].node_name.as_deref(), Some("n1"));
    let hints = slice.endpoints[0].hints.as_ref().unwrap();
    assert_eq!(
        (hints.for_zones[0].name.as_str(), hints.for_nodes.len()),
        ("a", 0)
    );
    assert!(slice.ports.is_empty());
}

#[test]
fn bookmarks_have_nothing_but_a_version() {
    let labels = json!({"topology.kubernetes.io/zone": "a", "other": "b"});
    let node: Node = serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap();
    assert_eq!(node.zone.as_deref(), Some("a"));
    let bookmark = json!({"kind": "Node", "metadata": {"resourceVersion": "12", "creationTimestamp": null}});
    let node: Node = serde_json::from_value(bookmark).unwrap();
    assert_eq!(node.metadata.resource_version.as_deref(), Some("12"));
    let slice: EndpointSlice = serde_json::from_value(json!({"metadata": {"resourceVersion": "3"}})).unwrap();
    assert_eq!(slice.metadata.resource_version.as_deref(), Some("3"));
}

#[test]
fn a_pod_keeps_its_labels_addresses_and_ports() {
    let full = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "u1", "resourceVersion": "9", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}],
            "initContainers": [
                {"name": "once", "ports": [{"name": "never", "containerPort": 1}]},
                {"name": "sidecar", "restartPolicy": "Always", "ports": [{"containerPort": 9, "protocol": "UDP"}]}]},
        "status": {"phase": "Running", "podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}, {"ip": "fd00::2"}]}
    });
    let pod: Pod = serde_json::from_value(full).unwrap();
    assert_eq!(pod.metadata.resource_version.as_deref(), Some("9"));
    assert_eq!(
        (pod.labels["app"].as_str(), pod.uid.as_deref()),
        ("web", Some("u1"))
    );
    assert_eq!(pod.pod_ips, ["10.244.0.2", "fd00::2"]);
    assert!(!pod.host_network);
    let ports: Vec<_> = pod.ports.iter().map(|port| port.container_port).collect();
    assert_eq!(ports, [80, 9], "an init container that ends serves nobody");
    let mirror = json!({"metadata": {"uid": "u2", "annotations": {"a": "b", "kubernetes.io/config.mirror": "static"}}});
    let mirror: Pod = serde_json::from_value(mirror).unwrap();
    assert_eq!(mirror.uid.as_deref(), Some("static"));
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": {"team": "x"}}})).unwrap();
    assert_eq!(namespace.labels["team"], "x");
}
