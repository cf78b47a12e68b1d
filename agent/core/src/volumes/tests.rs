//! Table tests of the planning.

mod surroundings;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::{Value, json};

use super::payload::{Inputs, Lookup, Payload, PayloadError, payload};
use super::plan::{Content, HostPathKind, Medium, Source, plans};
use crate::resources::amounts;

fn pod(volumes: &Value, more: &Value) -> Pod {
    let mounts: Vec<Value> = volumes
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| json!({"name": volume["name"], "mountPath": format!("/{}", volume["name"].as_str().unwrap())}))
        .collect();
    let mut pod = json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "u-1",
            "labels": {"b": "2", "a": "one"}, "annotations": {"note": "say \"hi\"\n\ttab\\ é\u{7f}\u{a0}😀"},
        },
        "spec": {
            "volumes": volumes,
            "containers": [{
                "name": "c", "volumeMounts": mounts,
                "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}},
            }],
        },
    });
    merge(&mut pod, more);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn inputs() -> Inputs {
    let map: ConfigMap = serde_json::from_value(json!({
        "data": {"plain": "text", "other": "more"}, "binaryData": {"raw": "AAH/"},
    }))
    .unwrap();
    let secret: Secret = serde_json::from_value(json!({"data": {"password": "aHVudGVyMg=="}})).unwrap();
    let mut inputs = Inputs::default();
    inputs
        .config_maps
        .insert("map".to_owned(), Lookup::Found(Arc::new(map)));
    inputs.config_maps.insert("gone".to_owned(), Lookup::Missing);
    inputs
        .config_maps
        .insert("unknown".to_owned(), Lookup::Failed("no answer".to_owned()));
    inputs
        .secrets
        .insert("key".to_owned(), Lookup::Found(Arc::new(secret)));
    inputs
        .tokens
        .insert(("vault".to_owned(), 3607), Ok(b"token".to_vec()));
    inputs
}

fn content<'a>(pod: &'a Pod) -> Content<'a> {
    match plans(pod).remove(0).source {
        Source::Content(content) => content,
        other => panic!("no content: {other:?}"),
    }
}

fn files(volume: &Value, more: &Value) -> Result<Payload, Vec<PayloadError>> {
    let pod = pod(&json!([volume]), more);
    let allocatable: BTreeMap<_, _> =
        serde_json::from_value(json!({"cpu": "3500m", "memory": "1Gi"})).unwrap();
    payload(&content(&pod), &pod, &inputs(), &amounts(Some(&allocatable)))
}

fn text(payload: &Payload) -> Vec<(String, String, u32)> {
    let show = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    payload
        .iter()
        .map(|(path, file)| (path.clone(), show(&file.data), file.mode))
        .collect()
}

fn file(path: &str, data: &str, mode: u32) -> (String, String, u32) {
    (path.to_owned(), data.to_owned(), mode)
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn every_kind_of_volume_is_recognised() {
    let cases = [
        (
            json!({"emptyDir": {}}),
            Source::EmptyDir {
                medium: Medium::Disk,
                size_limit: None,
            },
        ),
        (
            json!({"emptyDir": {"medium": "Memory"}}),
            Source::EmptyDir {
                medium: Medium::Memory,
                size_limit: None,
            },
        ),
        (
            json!({"emptyDir": {"medium": "HugePages-2Mi"}}),
            Source::EmptyDir {
                medium: Medium::Other("HugePages-2Mi"),
                size_limit: None,
            },
        ),
        (
            json!({"hostPath": {"path": "/x", "type": "DirectoryOrCreate"}}),
            Source::HostPath {
                path: "/x",
                kind: HostPathKind::DirectoryOrCreate,
            },
        ),
        (
            json!({"hostPath": {"path": "/x"}}),
            Source::HostPath {
                path: "/x",
                kind: HostPathKind::Any,
            },
        ),
        (
            json!({"hostPath": {"path": "/x", "type": "Hole"}}),
            Source::HostPath {
                path: "/x",
                kind: HostPathKind::Unknown,
            },
        ),
        (json!({"image": {"reference": "x"}}), Source::Image),
        (
            json!({"gitRepo": {"repository": "x"}}),
            Source::Refused("gitRepo"),
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "x"}}),
            Source::Unsupported("persistentVolumeClaim"),
        ),
        (json!({"csi": {"driver": "x"}}), Source::Unsupported("csi")),
        (
            json!({"nfs": {"server": "s", "path": "/"}}),
            Source::Unsupported("nfs"),
        ),
        (
            json!({"rbd": {"monitors": [], "image": "x"}}),
            Source::Unsupported("unknown"),
        ),
    ];
    for (mut volume, expected) in cases {
        volume["name"] = json!("v");
        let pod = pod(&json!([volume]), &json!({}));
        assert_eq!(plans(&pod)[0].source, expected);
    }
}

#[test]
fn a_volume_that_nobody_mounts_is_left_out() {
    let mut pod = pod(&json!([{"name": "used", "emptyDir": {}}]), &json!({}));
    let spec = pod.spec.as_mut().unwrap();
    let mut unused = spec.volumes.as_ref().unwrap()[0].clone();
    "unused".clone_into(&mut unused.name);
    spec.volumes.as_mut().unwrap().push(unused);
    assert_eq!(
        plans(&pod).iter().map(|plan| plan.name).collect::<Vec<_>>(),
        ["used"]
    );
}

#[test]
fn a_config_map_becomes_files() {
    let all = json!({"name": "v", "configMap": {"name": "map"}});
    let made = files(&all, &json!({})).unwrap();
    assert_eq!(made["raw"].data, [0, 1, 255]);
    assert_eq!(
        text(&made)[0..2],
        [file("other", "more", 0o644), file("plain", "text", 0o644)]
    );
    let items = json!({"name": "v", "configMap": {"name": "map", "defaultMode": 0o400, "items": [
        {"key": "plain", "path": "deep//./dir/file"}, {"key": "other", "path": "x", "mode": 0o755},
    ]}});
    let made = files(&items, &json!({})).unwrap();
    assert_eq!(
        text(&made),
        [file("deep/dir/file", "text", 0o400), file("x", "more", 0o755)]
    );
}

#[test]
fn a_secret_becomes_files_and_is_never_shown() {
    let secret = json!({"name": "v", "secret": {"secretName": "key", "defaultMode": 0o440}});
    let made = files(&secret, &json!({})).unwrap();
    assert_eq!(text(&made), [file("password", "hunter2", 0o440)]);
    assert!(!format!("{made:?}").contains("hunter2"));
}

#[test]
fn what_is_missing_is_named_in_the_words_of_the_reference() {
    let cases = [
        (
            json!({"configMap": {"name": "gone"}}),
            "configmap \"gone\" not found",
        ),
        (json!({"configMap": {"name": "unknown"}}), "no answer"),
        (
            json!({"secret": {"secretName": "gone"}}),
            "secret \"gone\" not found",
        ),
        (
            json!({"configMap": {"name": "map", "items": [{"key": "no", "path": "x"}]}}),
            "configmap references non-existent config key: no",
        ),
        (
            json!({"secret": {"secretName": "key", "items": [{"key": "no", "path": "x"}]}}),
            "references non-existent secret key: no",
        ),
        (
            json!({"configMap": {"name": "map", "items": [{"key": "plain", "path": "../x"}]}}),
            "invalid path: must not contain '..': ../x",
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "spec.nodeName"}}]}}),
            "unsupported fieldPath: spec.nodeName",
        ),
        (
            json!({"projected": {"sources": [{"clusterTrustBundle": {"name": "x", "path": "x"}}]}}),
            "projected source clusterTrustBundle is not supported yet",
        ),
    ];
    for (mut volume, expected) in cases {
        volume["name"] = json!("v");
        let errors = files(&volume, &json!({})).unwrap_err();
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [expected]
        );
    }
}

#[test]
fn what_is_optional_may_be_missing_but_not_unknown() {
    let gone = json!({"name": "v", "configMap": {"name": "gone", "optional": true}});
    assert!(files(&gone, &json!({})).unwrap().is_empty());
    let key = json!({"name": "v", "secret": {"secretName": "key", "optional": true, "items": [
        {"key": "no", "path": "x"}, {"key": "password", "path": "y"},
    ]}});
    assert_eq!(
        text(&files(&key, &json!({})).unwrap()),
        [file("y", "hunter2", 0o644)]
    );
    let unknown = json!({"name": "v", "configMap": {"name": "unknown", "optional": true}});
    assert!(
        files(&unknown, &json!({})).is_err(),
        "the API server did not say that it is missing"
    );
}

#[test]
fn the_downward_api_quotes_sorts_and_divides() {
    let volume = json!({"name": "v", "downwardAPI": {"items": [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}, "mode": 0o400},
        {"path": "label", "fieldRef": {"fieldPath": "metadata.labels['a']"}},
        {"path": "no-label", "fieldRef": {"fieldPath": "metadata.labels['none']"}},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "requests.cpu"}},
        {"path": "milli", "resourceFieldRef": {"containerName": "c", "resource": "requests.cpu", "divisor": "1m"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
        {"path": "node-cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
    ]}});
    let made = files(&volume, &json!({})).unwrap();
    let quoted = r#"note="say \"hi\"\n\ttab\\ é\x7f\u00a0😀""#;
    assert_eq!(
        text(&made),
        [
            file("cpu", "1", 0o644),
            file("label", "one", 0o644),
            file("labels", "a=\"one\"\nb=\"2\"", 0o644),
            file("memory", "64", 0o644),
            file("milli", "250", 0o644),
            file("name", "web", 0o644),
            file("no-label", "", 0o644),
            file("node-cpu", "4", 0o644),
            file("notes", quoted, 0o400),
        ]
    );
}

#[test]
fn a_projection_merges_its_sources_and_guards_tokens() {
    let volume = json!({"name": "v", "projected": {"defaultMode": 0o640, "sources": [
        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3607}},
        {"configMap": {"name": "map", "items": [{"key": "plain", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        {"secret": {"name": "key", "items": [{"key": "password", "path": "ca.crt"}]}},
    ]}});
    let made = files(&volume, &json!({})).unwrap();
    let expected = [
        file("ca.crt", "hunter2", 0o640),
        file("namespace", "ns", 0o640),
        file("token", "token", 0o640),
    ];
    assert_eq!(text(&made), expected, "the last source wins");
    assert_eq!(made["token"].user, None);
    let with_user = json!({"spec": {"securityContext": {"runAsUser": 1001}}});
    let made = files(&volume, &with_user).unwrap();
    assert_eq!((made["token"].mode, made["token"].user), (0o600, Some(1001)));
    assert_eq!((made["ca.crt"].mode, made["ca.crt"].user), (0o640, None));
    let with_group = json!({"spec": {"securityContext": {"fsGroup": 2000}}});
    let made = files(&volume, &with_group).unwrap();
    assert_eq!((made["token"].mode, made["token"].user), (0o600, None));
}

#[test]
fn all_failed_sources_are_told() {
    let volume = json!({"name": "v", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "gone"}}, {"secret": {"name": "key"}},
    ]}});
    let errors = files(&volume, &json!({})).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "failed to fetch token: not requested",
            "configmap \"gone\" not found"
        ]
    );
}
