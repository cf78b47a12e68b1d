//! Mounts of containers, in volumes that the container controls. Needs root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::objects::fake::eventually;
use crate::volumes::mounts::mounts_below;
use crate::volumes::tests::bench::{Bench, pod, read, uid};

#[tokio::test]
async fn containers_get_their_mounts_with_sub_paths() {
    let bench = Bench::new();
    bench.api.config_map("ns", "settings", json!({"app.conf": "one"}));
    let pod = pod(
        &json!([{"name": "config", "configMap": {"name": "settings"}}, {"name": "data", "emptyDir": {}}]),
        &json!({}),
    );
    let volumes = bench.volumes.set_up(&pod).await.unwrap();
    let mounts: Vec<_> = serde_json::from_value(json!([
        {"name": "data", "mountPath": "data"},
        {"name": "config", "mountPath": "/etc/app.conf", "subPath": "app.conf"},
        {"name": "data", "mountPath": "/logs", "subPathExpr": "logs/$(POD)", "readOnly": true},
    ]))
    .unwrap();
    let request = MountRequest {
        uid: uid(&pod),
        container: "c",
        mounts: &mounts,
        volumes: &volumes,
        expand: &|expr| Ok(expr.replace("$(POD)", "web")),
    };
    let resolved = bench.volumes.container_mounts(request).await.unwrap();
    let shown: Vec<_> = resolved
        .iter()
        .map(|m| (m.container_path.as_str(), m.read_only))
        .collect();
    assert_eq!(
        shown,
        [("/data", false), ("/etc/app.conf", true), ("/logs", true)]
    );
    assert_eq!(resolved[0].host_path, volumes["data"].host_path);
    assert_eq!(read(&resolved[1].host_path), "one");
    fs::write(resolved[2].host_path.join("log"), "line").unwrap();
    assert_eq!(read(volumes["data"].host_path.join("logs/web/log")), "line");
    assert_eq!(
        bench.volumes.container_mounts(request).await.unwrap(),
        resolved,
        "again, as for a restart"
    );
    assert_eq!(mounts_below(&bench.pods().join(uid(&pod))).unwrap().len(), 2);
    // A later version of the file is not seen through the sub path, and the old one stays readable.
    bench.api.config_map("ns", "settings", json!({"app.conf": "two"}));
    eventually("the change", || {
        read(volumes["config"].host_path.join("app.conf")) == "two"
    })
    .await;
    assert_eq!(read(&resolved[1].host_path), "one");
    bench.volumes.tear_down(uid(&pod)).await.unwrap();
    assert!(bench.orphans(&[]).await.is_empty());
}

#[tokio::test]
async fn a_sub_path_that_leaves_the_volume_is_refused() {
    let bench = Bench::new();
    let pod = pod(&json!([{"name": "data", "emptyDir": {}}]), &json!({}));
    let volumes = bench.volumes.set_up(&pod).await.unwrap();
    symlink("/etc", volumes["data"].host_path.join("evil")).unwrap();
    let cases = [
        (
            "evil",
            "failed to prepare subPath for volumeMount \"data\" of container \"c\"",
        ),
        (
            "evil/new",
            "failed to prepare subPath for volumeMount \"data\" of container \"c\"",
        ),
        ("/abs", "error SubPath `/abs` must not be an absolute path"),
        (
            "a/../../b",
            "unable to provision SubPath `a/../../b`: must not contain '..'",
        ),
    ];
    for (sub_path, expected) in cases {
        let mount = json!([{"name": "data", "mountPath": "/x", "subPath": sub_path}]);
        let mounts: Vec<_> = serde_json::from_value(mount).unwrap();
        let request = MountRequest {
            uid: uid(&pod),
            container: "c",
            mounts: &mounts,
            volumes: &volumes,
            expand: &|_| Err("no expression".to_owned()),
        };
        let error = bench.volumes.container_mounts(request).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert!(!Path::new("/etc/new").exists());
}
