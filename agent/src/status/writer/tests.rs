use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use tokio::time::Instant;

use super::*;
use crate::testing::{ApiServer, DEADLINE};

fn pod(name: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            uid: Some(format!("uid-{name}")),
            resource_version: Some("1".into()),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    }
}

fn status(phase: &str) -> PodStatus {
    PodStatus {
        phase: Some(phase.into()),
        ..PodStatus::default()
    }
}

fn metadata(name: &str, uid: &str) -> serde_json::Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "ns", "uid": uid}})
}

async fn flushed(writer: &StatusWriter, uid: &str) {
    tokio::time::timeout(DEADLINE, writer.flush(uid))
        .await
        .expect("flush hangs");
}

#[tokio::test]
async fn a_status_is_patched_with_the_uid_and_flush_waits_for_it() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    writer.publish(&pod("a"), status("Running"));
    let call = api.next().await;
    assert_eq!(call.line(), "PATCH /api/v1/namespaces/ns/pods/a/status");
    assert_eq!(call.content_type, "application/strategic-merge-patch+json");
    assert_eq!(call.body["metadata"]["uid"], "uid-a");
    assert_eq!(call.body["status"]["phase"], "Running");
    let flush = tokio::spawn({
        let writer = writer.clone();
        async move { writer.flush("uid-a").await }
    });
    tokio::task::yield_now().await;
    assert!(!flush.is_finished());
    call.answer(200, &metadata("a", "uid-a"));
    tokio::time::timeout(DEADLINE, flush).await.unwrap().unwrap();
    flushed(&writer, "uid-unknown").await;
}

#[tokio::test]
async fn one_request_per_pod_and_the_latest_wins() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    for phase in ["Pending", "Running", "Failed", "Succeeded"] {
        writer.publish(&pod("a"), status(phase));
        tokio::task::yield_now().await;
    }
    let first = api.next().await;
    writer.publish(&pod("b"), status("Running"));
    let other = api.next().await;
    assert!(
        other.path.ends_with("/pods/b/status"),
        "another pod does not wait"
    );
    api.stays_quiet(Duration::from_millis(50)).await;
    first.answer(200, &metadata("a", "uid-a"));
    other.answer(200, &metadata("b", "uid-b"));
    let last = api.next().await;
    assert_eq!(last.body["status"]["phase"], "Succeeded");
    last.answer(200, &metadata("a", "uid-a"));
    flushed(&writer, "uid-a").await;
    api.stays_quiet(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn the_same_status_is_not_sent_again_unless_another_changed_it() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    writer.publish(&pod("a"), status("Running"));
    api.next().await.answer(200, &metadata("a", "uid-a"));
    flushed(&writer, "uid-a").await;
    let mut seen = pod("a");
    writer.publish(&seen, status("Running"));
    seen.metadata.resource_version = Some("2".into());
    seen.status = Some(status("Running"));
    writer.publish(&seen, status("Running"));
    api.stays_quiet(Duration::from_millis(50)).await;
    seen.metadata.resource_version = Some("3".into());
    seen.status = Some(status("Failed"));
    writer.publish(&seen, status("Running"));
    let call = api.next().await;
    assert_eq!(call.body["status"]["phase"], "Running");
}

#[tokio::test]
async fn errors_are_retried_with_the_newest_status() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    writer.publish(&pod("a"), status("Pending"));
    api.next().await.refuse(500);
    writer.publish(&pod("a"), status("Running"));
    let call = api.next().await;
    assert_eq!(call.body["status"]["phase"], "Running");
    call.answer(200, &metadata("a", "uid-a"));
    flushed(&writer, "uid-a").await;
}

#[tokio::test]
async fn a_pod_that_is_gone_or_replaced_is_forgotten() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    writer.publish(&pod("a"), status("Running"));
    api.next().await.refuse(404);
    flushed(&writer, "uid-a").await;
    writer.publish(&pod("b"), status("Running"));
    api.next().await.refuse(409);
    let call = api.next().await;
    assert_eq!(call.line(), "GET /api/v1/namespaces/ns/pods/b");
    call.answer(200, &metadata("b", "another-uid"));
    flushed(&writer, "uid-b").await;
    api.stays_quiet(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_conflict_over_the_same_pod_is_retried() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    writer.publish(&pod("a"), status("Running"));
    api.next().await.refuse(409);
    api.next().await.answer(200, &metadata("a", "uid-a"));
    let call = api.next().await;
    assert_eq!(call.method, "PATCH");
    call.answer(200, &metadata("a", "uid-a"));
    flushed(&writer, "uid-a").await;
}

#[tokio::test]
async fn a_pod_is_deleted_at_once_and_only_with_its_uid() {
    for code in [200, 404, 409] {
        let (client, mut api) = ApiServer::new();
        let writer = StatusWriter::new(client, WriterMetrics::default());
        let deleted = tokio::spawn(async move { writer.delete_pod(&Target::of(&pod("a"))).await });
        let failed = api.next().await;
        assert_eq!(failed.line(), "DELETE /api/v1/namespaces/ns/pods/a");
        assert_eq!(failed.body["gracePeriodSeconds"], 0);
        assert_eq!(failed.body["preconditions"]["uid"], "uid-a");
        failed.refuse(503);
        let call = api.next().await;
        if code == 200 {
            call.answer(200, &metadata("a", "uid-a"))
        } else {
            call.refuse(code)
        }
        tokio::time::timeout(DEADLINE, deleted).await.unwrap().unwrap();
    }
}

/// A status of a pod whose container waits to be created, with an address or without.
fn creating(address: Option<&str>) -> PodStatus {
    serde_json::from_value(json!({
        "phase": "Pending",
        "podIP": address,
        "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                               "state": {"waiting": {"reason": "ContainerCreating"}}}]
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_step_on_the_way_waits_for_the_next_one_but_not_for_ever() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    writer.publish(&pod("a"), creating(None));
    api.next().await.answer(200, &metadata("a", "uid-a"));
    flushed(&writer, "uid-a").await;
    writer.publish(&pod("a"), creating(Some("10.0.0.7")));
    writer.publish(&pod("a"), status("Running"));
    let call = api.next().await;
    assert_eq!(call.body["status"]["phase"], "Running");
    call.answer(200, &metadata("a", "uid-a"));
    flushed(&writer, "uid-a").await;

    writer.publish(&pod("b"), creating(None));
    api.next().await.answer(200, &metadata("b", "uid-b"));
    flushed(&writer, "uid-b").await;
    let published = Instant::now();
    writer.publish(&pod("b"), creating(Some("10.0.0.7")));
    let call = api.next().await;
    assert_eq!(call.body["status"]["podIP"], "10.0.0.7");
    assert!(published.elapsed() >= Duration::from_secs(1));
    call.answer(200, &metadata("b", "uid-b"));
}

#[tokio::test(start_paused = true)]
async fn who_flushes_does_not_wait_for_company() {
    let (client, mut api) = ApiServer::new();
    let writer = StatusWriter::new(client, WriterMetrics::default());
    writer.publish(&pod("a"), creating(None));
    api.next().await.answer(200, &metadata("a", "uid-a"));
    flushed(&writer, "uid-a").await;
    let published = Instant::now();
    writer.publish(&pod("a"), creating(Some("10.0.0.7")));
    let (call, ()) = tokio::join!(
        async { api.next().await.answer(200, &metadata("a", "uid-a")) },
        flushed(&writer, "uid-a")
    );
    let () = call;
    assert_eq!(published.elapsed(), Duration::ZERO);
}
