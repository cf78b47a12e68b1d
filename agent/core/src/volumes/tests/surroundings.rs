//! Paths, owners and references.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::pod;
use crate::volumes::identity::Identity;
use crate::volumes::path::{PathError, check_sub_path, clean, nested_mount_points};
use crate::volumes::refs::{ObjectKind, references, volume_references};

#[test]
fn paths_stay_in_the_volume() {
    assert_eq!(clean("a/./b//c"), Ok("a/b/c".to_owned()));
    assert_eq!(clean("a..b/..c"), Ok("a..b/..c".to_owned()));
    let long = format!("{}/x", "n".repeat(256));
    let cases = [
        ("", PathError::Empty),
        (".", PathError::Empty),
        ("/abs", PathError::Absolute("/abs".to_owned())),
        ("a/../b", PathError::Backstep("a/../b".to_owned())),
        ("..data/x", PathError::Reserved("..data/x".to_owned())),
        ("./..data", PathError::Reserved("./..data".to_owned())),
        (long.as_str(), PathError::NameTooLong),
    ];
    for (path, error) in cases {
        assert_eq!(clean(path), Err(error), "{path}");
    }
    assert_eq!(check_sub_path("dir/..name"), Ok(()));
    assert!(check_sub_path("/dir").is_err());
    assert!(check_sub_path("a/..").is_err());
}

#[test]
fn mounts_inside_of_other_mounts_need_directories() {
    let mounts = |list: &[(&str, &str)]| {
        let mounts: Vec<Value> = list
            .iter()
            .map(|(name, path)| json!({"name": name, "mountPath": path}))
            .collect();
        let pod = json!({"spec": {"containers": [{"name": "c", "volumeMounts": mounts}]}});
        serde_json::from_value::<Pod>(pod).unwrap()
    };
    let nested = mounts(&[
        ("v", "/dir/"),
        ("a", "/dir/nested"),
        ("b", "/dir/nested/double"),
        ("c", "/dir/nested-vol"),
        ("d", "/dir2"),
        ("e", "/dir/nested2/deep"),
    ]);
    assert_eq!(
        nested_mount_points(&nested, "v").unwrap(),
        ["nested", "nested-vol", "nested2/deep"]
    );
    assert_eq!(nested_mount_points(&nested, "a").unwrap(), ["double"]);
    assert!(nested_mount_points(&nested, "d").unwrap().is_empty());
    let outside = mounts(&[("v", "/dir"), ("a", "/dir/../../etc")]);
    assert!(matches!(
        nested_mount_points(&outside, "v"),
        Err(PathError::MountPoint(_))
    ));
}

#[test]
fn owners_are_those_that_everybody_agrees_on() {
    let pod = |spec: Value| serde_json::from_value::<Pod>(json!({ "spec": spec })).unwrap();
    let own = |user: i64| json!({"name": "c", "securityContext": {"runAsUser": user}});
    let cases = [
        (json!({"containers": [{"name": "c"}]}), None, None),
        (json!({"containers": [own(5), own(5)]}), Some(5), None),
        (json!({"containers": [own(5), own(6)]}), None, None),
        (json!({"containers": [own(5), {"name": "c"}]}), None, None),
        (
            json!({"containers": [own(5), {"name": "c"}], "securityContext": {"runAsUser": 5}}),
            Some(5),
            None,
        ),
        (
            json!({"containers": [{"name": "c"}], "initContainers": [own(7)],
                   "securityContext": {"runAsUser": 5, "fsGroup": 9}}),
            None,
            Some(9),
        ),
    ];
    for (spec, user, group) in cases {
        assert_eq!(
            Identity::of(&pod(spec.clone())),
            Identity { user, group },
            "{spec}"
        );
    }
}

#[test]
fn references_come_from_volumes_environment_and_pull_secrets() {
    let pod = pod(
        &json!([{"name": "v", "projected": {"sources": [{"configMap": {"name": "in-volume"}}]}}]),
        &json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "all"}}]}],
            "ephemeralContainers": [{"name": "e", "env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "k"}}},
            ]}],
        }}),
    );
    let found: Vec<(ObjectKind, String)> = references(&pod)
        .into_iter()
        .map(|object| (object.kind, object.name))
        .collect();
    let expected = [
        (ObjectKind::ConfigMap, "in-volume".to_owned()),
        (ObjectKind::ConfigMap, "one".to_owned()),
        (ObjectKind::Secret, "all".to_owned()),
        (ObjectKind::Secret, "pull".to_owned()),
    ];
    assert_eq!(found, expected);
    assert_eq!(volume_references(&pod).len(), 1);
}
