//! The caches against a model of the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::time::timeout;

use crate::objects::fake::{FakeApi, eventually};
use crate::objects::{ObjectError, Objects};

fn pod(uid: &str, config_map: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "configMap": {"name": config_map}}],
        },
    }))
    .unwrap()
}

async fn changed(objects: &Objects) -> Vec<String> {
    let set = timeout(Duration::from_secs(5), objects.dirty().take())
        .await
        .expect("a change");
    let mut uids: Vec<String> = set.into_iter().collect();
    uids.sort();
    uids
}

fn value(map: &k8s_openapi::api::core::v1::ConfigMap) -> &str {
    map.data.as_ref().unwrap()["key"].as_str()
}

#[tokio::test]
async fn one_request_and_one_watch_serve_all_pods() {
    let api = FakeApi::default();
    api.config_map("ns", "config", json!({"key": "one"}));
    let objects = Objects::new(&api.client());
    objects.track(&pod("a", "config"));
    objects.track(&pod("b", "config"));
    assert_eq!(value(&objects.config_map("ns", "config").await.unwrap()), "one");
    assert_eq!(value(&objects.config_map("ns", "config").await.unwrap()), "one");
    eventually("the watch", || {
        api.requests("WATCH /api/v1/namespaces/ns/configmaps config") == 1
    })
    .await;
    assert_eq!(api.requests("GET /api/v1/namespaces/ns/configmaps/config"), 1);
    api.config_map("ns", "config", json!({"key": "two"}));
    assert_eq!(changed(&objects).await, ["a", "b"]);
    assert_eq!(value(&objects.config_map("ns", "config").await.unwrap()), "two");
}

#[tokio::test]
async fn the_watch_ends_with_the_last_pod() {
    let api = FakeApi::default();
    api.config_map("ns", "config", json!({"key": "one"}));
    let objects = Objects::new(&api.client());
    eventually("the watch of services", || api.open_watches() == 1).await;
    objects.track(&pod("a", "config"));
    objects.track(&pod("b", "config"));
    eventually("the watch", || api.open_watches() == 2).await;
    objects.forget("a");
    objects.config_map("ns", "config").await.unwrap();
    assert_eq!(api.open_watches(), 2);
    objects.forget("b");
    eventually("its end", || api.open_watches() == 1).await;
}

#[tokio::test]
async fn a_missing_object_is_reported_and_its_creation_too() {
    let api = FakeApi::default();
    let objects = Objects::new(&api.client());
    objects.track(&pod("a", "late"));
    let error = objects.config_map("ns", "late").await.unwrap_err();
    assert_eq!(error.to_string(), "configmap \"late\" not found");
    eventually("the watch", || {
        api.requests("WATCH /api/v1/namespaces/ns/configmaps late") == 1
    })
    .await;
    api.config_map("ns", "late", json!({"key": "here"}));
    assert_eq!(changed(&objects).await, ["a"]);
    assert_eq!(value(&objects.config_map("ns", "late").await.unwrap()), "here");
    api.delete("configmaps", "ns", "late");
    assert_eq!(changed(&objects).await, ["a"]);
    assert!(matches!(
        objects.config_map("ns", "late").await,
        Err(ObjectError::Missing { .. })
    ));
}

#[tokio::test]
async fn a_closed_watch_is_opened_again_and_nothing_is_lost() {
    let api = FakeApi::default();
    api.config_map("ns", "config", json!({"key": "one"}));
    let objects = Objects::new(&api.client());
    objects.track(&pod("a", "config"));
    eventually("the watch", || {
        api.requests("WATCH /api/v1/namespaces/ns/configmaps config") == 1
    })
    .await;
    api.close_watches();
    eventually("the next", || {
        api.requests("WATCH /api/v1/namespaces/ns/configmaps config") == 2
    })
    .await;
    api.config_map("ns", "config", json!({"key": "two"}));
    assert_eq!(changed(&objects).await, ["a"]);
}

#[tokio::test]
async fn a_refusal_before_the_server_knows_the_pod_is_no_error() {
    let api = FakeApi::default();
    api.config_map("ns", "config", json!({"key": "one"}));
    let objects = Objects::new(&api.client());
    eventually("the watch of services", || api.open_watches() == 1).await;
    api.refuse(3);
    objects.track(&pod("a", "config"));
    assert_eq!(value(&objects.config_map("ns", "config").await.unwrap()), "one");
}

#[tokio::test]
async fn an_immutable_object_is_not_watched() {
    let api = FakeApi::default();
    api.put(
        "configmaps",
        "ns",
        "fixed",
        json!({"data": {"key": "one"}, "immutable": true}),
    );
    let objects = Objects::new(&api.client());
    objects.track(&pod("a", "fixed"));
    assert_eq!(value(&objects.config_map("ns", "fixed").await.unwrap()), "one");
    assert_eq!(value(&objects.config_map("ns", "fixed").await.unwrap()), "one");
    assert_eq!(api.requests("configmaps fixed"), 0);
    assert_eq!(api.requests("configmaps/fixed"), 1);
}

#[tokio::test]
async fn the_api_server_failing_is_an_error_with_its_cause_and_heals() {
    let api = FakeApi::default();
    api.config_map("ns", "config", json!({"key": "one"}));
    let objects = Objects::new(&api.client());
    api.fail(true);
    objects.track(&pod("a", "config"));
    let error = objects.config_map("ns", "config").await.unwrap_err();
    assert_eq!(error.to_string(), "failed to get configmap \"config\"");
    assert_eq!(error.message(), "InternalError", "the server's own words");
    api.fail(false);
    assert_eq!(value(&objects.config_map("ns", "config").await.unwrap()), "one");
}
