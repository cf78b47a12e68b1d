//! Volumes on real directories and mounts, with a model of the API server. Needs root.

pub(super) mod bench;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use self::bench::{Bench, pod, read, uid};
use super::mounts::{is_mount_point, mounts_below};
use super::*;
use crate::objects::fake::eventually;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn token_volume() -> Value {
    json!({"name": "access", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn a_pod_gets_its_volumes_where_the_reference_puts_them_and_leaves_nothing() {
    let bench = Bench::new();
    bench
        .api
        .config_map("ns", "kube-root-ca.crt", json!({"ca.crt": "CA"}));
    bench.api.config_map("ns", "settings", json!({"color": "blue"}));
    bench.api.put(
        "secrets",
        "ns",
        "key",
        json!({"data": {"password": "aHVudGVyMg=="}}),
    );
    let pod = pod(
        &json!([
            token_volume(),
            {"name": "config", "configMap": {"name": "settings"}},
            {"name": "secret", "secret": {"secretName": "key", "defaultMode": 256}},
            {"name": "labels", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            ]}},
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "host", "hostPath": {"path": bench.root.path().join("host"), "type": "DirectoryOrCreate"}},
        ]),
        &json!({}),
    );
    let mounts = bench.volumes.set_up(&pod).await.unwrap();
    let dir = bench.pods().join(uid(&pod));
    let at = |plugin: &str, name: &str| dir.join(format!("volumes/kubernetes.io~{plugin}/{name}"));
    let expected = [
        ("access", at("projected", "access"), true, true),
        ("config", at("configmap", "config"), true, false),
        ("disk", at("empty-dir", "disk"), false, false),
        ("host", bench.root.path().join("host"), false, false),
        ("labels", at("downward-api", "labels"), true, true),
        ("memory", at("empty-dir", "memory"), false, true),
        ("secret", at("secret", "secret"), true, true),
    ];
    for (name, host_path, read_only, is_mount) in expected {
        assert_eq!(is_mount_point(&host_path).unwrap(), is_mount, "{name}");
        assert_eq!(mounts[name], MountedVolume { host_path, read_only }, "{name}");
    }
    assert_eq!(read(mounts["access"].host_path.join("ca.crt")), "CA");
    assert_eq!(read(mounts["access"].host_path.join("namespace")), "ns");
    assert_eq!(
        read(mounts["access"].host_path.join("token")).split('.').count(),
        3
    );
    assert_eq!(read(mounts["config"].host_path.join("color")), "blue");
    assert_eq!(read(mounts["secret"].host_path.join("password")), "hunter2");
    assert_eq!(mode(&mounts["secret"].host_path.join("password")), 0o400);
    assert_eq!(mode(&mounts["disk"].host_path), 0o777);
    assert_eq!(mode(&dir), 0o750);
    assert!(dir.join("plugins/kubernetes.io~empty-dir/disk/ready").is_file());
    let size = rustix::fs::statvfs(&mounts["memory"].host_path).unwrap();
    assert_eq!(size.f_blocks * size.f_frsize, 1024 * 1024);
    let size = rustix::fs::statvfs(&mounts["secret"].host_path).unwrap();
    assert_eq!(
        size.f_blocks * size.f_frsize,
        8 * 1024 * 1024,
        "at most the memory of the node"
    );

    bench.volumes.tear_down(uid(&pod)).await.unwrap();
    assert!(!dir.exists());
    assert!(mounts_below(&dir).unwrap().is_empty());
    assert!(bench.root.path().join("host").is_dir(), "not the pod's");
    bench.volumes.tear_down(uid(&pod)).await.expect("again");
}

#[tokio::test]
async fn a_changed_config_map_is_on_disk_within_a_second() {
    let bench = Bench::new();
    bench
        .api
        .config_map("ns", "settings", json!({"color": "blue", "old": "x"}));
    let pod = pod(
        &json!([{"name": "config", "configMap": {"name": "settings"}}]),
        &json!({}),
    );
    let dir = bench.volumes.set_up(&pod).await.unwrap()["config"]
        .host_path
        .clone();
    eventually("the watch", || bench.api.requests("configmaps settings") == 1).await;
    let began = Instant::now();
    bench
        .api
        .config_map("ns", "settings", json!({"color": "red", "new": "y"}));
    eventually("the change", || {
        read(dir.join("color")) == "red" && !dir.join("old").exists()
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(read(dir.join("new")), "y");
    let versions = || {
        fs::read_dir(&dir)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir())
    };
    eventually("the old files' end", || versions().count() == 1).await;
}

#[tokio::test]
async fn labels_in_files_follow_the_pod() {
    let bench = Bench::new();
    let items = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    let pod = pod(
        &json!([{"name": "info", "downwardAPI": {"items": items}}]),
        &json!({}),
    );
    let file = bench.volumes.set_up(&pod).await.unwrap()["info"]
        .host_path
        .join("labels");
    assert_eq!(read(&file), "app=\"web\"");
    let mut newer = (*pod).clone();
    newer
        .metadata
        .labels
        .as_mut()
        .unwrap()
        .insert("tier".to_owned(), "front".to_owned());
    bench.volumes.refresh(&Arc::new(newer)).await.unwrap();
    assert_eq!(read(&file), "app=\"web\"\ntier=\"front\"");
}

#[tokio::test]
async fn a_missing_object_is_told_as_the_reference_does_and_its_arrival_wakes_the_waiter() {
    let bench = Bench::new();
    let pod = pod(
        &json!([{"name": "config", "configMap": {"name": "late"}}, {"name": "scratch", "emptyDir": {}}]),
        &json!({}),
    );
    let error = bench.volumes.set_up(&pod).await.unwrap_err();
    assert_eq!(
        error.messages(),
        [r#"MountVolume.SetUp failed for volume "config" : configmap "late" not found"#]
    );
    assert_eq!(error.to_string(), r#"unmounted volumes=["config"]"#);
    assert!(
        bench
            .pods()
            .join(uid(&pod))
            .join("volumes/kubernetes.io~empty-dir/scratch")
            .is_dir()
    );
    eventually("the watch", || bench.api.requests("configmaps late") == 1).await;
    bench.api.config_map("ns", "late", json!({"key": "here"}));
    timeout(Duration::from_secs(5), bench.volumes.inputs_changed(uid(&pod)))
        .await
        .expect("a word of it");
    let mounts = bench.volumes.set_up(&pod).await.unwrap();
    assert_eq!(read(mounts["config"].host_path.join("key")), "here");
}

#[tokio::test]
async fn kinds_that_cannot_be_mounted_are_named() {
    let bench = Bench::new();
    let pod = pod(
        &json!([
            {"name": "git", "gitRepo": {"repository": "x"}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "x"}},
            {"name": "file", "hostPath": {"path": bench.root.path(), "type": "File"}},
        ]),
        &json!({}),
    );
    let error = bench.volumes.set_up(&pod).await.unwrap_err();
    let root = bench.root.path().display();
    assert_eq!(
        error.messages(),
        [
            "MountVolume.SetUp failed for volume \"git\" : gitRepo volumes are refused: they are removed from \
             Kubernetes for security reasons (CVE-2024-10220)",
            "MountVolume.SetUp failed for volume \"claim\" : persistentVolumeClaim volumes are not supported yet",
            &format!(
                "MountVolume.SetUp failed for volume \"file\" : hostPath type check failed: {root} is not a file"
            ),
        ]
    );
}

#[tokio::test]
async fn the_group_of_the_pod_can_read_everything() {
    let bench = Bench::new();
    bench
        .api
        .config_map("ns", "kube-root-ca.crt", json!({"ca.crt": "CA"}));
    bench
        .api
        .put("secrets", "ns", "key", json!({"data": {"password": "eA=="}}));
    let volumes = json!([
        token_volume(),
        {"name": "secret", "secret": {"secretName": "key", "defaultMode": 256}},
        {"name": "scratch", "emptyDir": {}},
    ]);
    let pod = pod(&volumes, &json!({"fsGroup": 1234, "runAsUser": 77}));
    let mounts = bench.volumes.set_up(&pod).await.unwrap();
    let owner = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        (meta.uid(), meta.gid(), mode(path))
    };
    assert_eq!(
        owner(&mounts["access"].host_path.join("token")),
        (77, 1234, 0o640)
    );
    assert_eq!(
        owner(&mounts["access"].host_path.join("ca.crt")),
        (0, 1234, 0o644)
    );
    assert_eq!(
        owner(&mounts["secret"].host_path.join("password")),
        (0, 1234, 0o440)
    );
    assert_eq!(owner(&mounts["scratch"].host_path), (0, 1234, 0o2777));
    assert_eq!(mode(&mounts["secret"].host_path.join("..data/")) & 0o2050, 0o2050);
}

#[tokio::test]
async fn another_run_of_the_agent_adopts_what_is_there() {
    let mut bench = Bench::new();
    bench
        .api
        .config_map("ns", "kube-root-ca.crt", json!({"ca.crt": "CA"}));
    let volumes = json!([token_volume(), {"name": "scratch", "emptyDir": {"medium": "Memory"}}]);
    let pod = pod(&volumes, &json!({}));
    let before = bench.volumes.set_up(&pod).await.unwrap();
    fs::write(before["scratch"].host_path.join("work"), "half done").unwrap();
    let link = fs::read_link(before["access"].host_path.join("..data")).unwrap();
    bench.restart();
    let after = bench.volumes.set_up(&pod).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(read(after["scratch"].host_path.join("work")), "half done");
    assert_eq!(
        fs::read_link(after["access"].host_path.join("..data")).unwrap(),
        link,
        "nothing was written"
    );
    assert_eq!(bench.api.requests("POST"), 1, "the token was taken from its file");
    assert_eq!(
        mounts_below(&bench.pods().join(uid(&pod))).unwrap().len(),
        2,
        "nothing was mounted twice"
    );
}

#[tokio::test]
async fn orphans_of_an_earlier_run_are_found_and_removed() {
    let mut bench = Bench::new();
    bench
        .api
        .put("secrets", "ns", "key", json!({"data": {"password": "eA=="}}));
    let volumes = json!([{"name": "secret", "secret": {"secretName": "key"}}]);
    let (kept, gone) = (pod(&volumes, &json!({})), pod(&volumes, &json!({})));
    bench.volumes.set_up(&kept).await.unwrap();
    bench.volumes.set_up(&gone).await.unwrap();
    bench.restart();
    assert_eq!(bench.orphans(&[uid(&kept)]).await, [uid(&gone)]);
    bench.volumes.tear_down(uid(&gone)).await.unwrap();
    assert!(bench.orphans(&[uid(&kept)]).await.is_empty());
    assert!(bench.pods().join(uid(&kept)).is_dir());
}

#[tokio::test]
async fn fifty_config_maps_in_five_pods_at_once() {
    let bench = Bench::new();
    let names: Vec<String> = (0..50).map(|n| format!("map-{n}")).collect();
    for name in &names {
        bench.api.config_map("ns", name, json!({"name": name}));
    }
    let volumes: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "configMap": {"name": name}}))
        .collect();
    for _ in 0..3 {
        let pods: Vec<Arc<Pod>> = (0..5).map(|_| pod(&json!(volumes), &json!({}))).collect();
        let all = futures::future::join_all(pods.iter().map(|pod| bench.volumes.set_up(pod))).await;
        for mounts in all {
            let mounts = mounts.unwrap();
            assert!(
                names
                    .iter()
                    .all(|name| read(mounts[name].host_path.join("name")) == *name)
            );
        }
        let ends = pods.iter().map(|pod| bench.volumes.tear_down(uid(pod)));
        assert!(futures::future::join_all(ends).await.iter().all(Result::is_ok));
    }
    assert!(bench.orphans(&[]).await.is_empty());
}

#[tokio::test]
async fn names_from_the_api_cannot_leave_the_directory_of_pods() {
    let bench = Bench::new();
    assert!(matches!(
        bench.volumes.tear_down("../..").await,
        Err(TearDownError::Name(_))
    ));
    assert!(matches!(
        bench.volumes.tear_down("").await,
        Err(TearDownError::Name(_))
    ));
    let layout = bench.volumes.layout();
    assert!(layout.volume("uid", "plugin", "../x").is_err());
    assert!(layout.sub_path("uid", "v", "c/../..", 0).is_err());
}
