use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::*;
use crate::{events::EventType, testing::ApiServer};

fn pod() -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("ns".into()),
            uid: Some("u1".into()),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    }
}

#[tokio::test]
async fn an_event_is_created_and_its_repeat_counts() {
    let (client, mut api) = ApiServer::new();
    let events = start(client, "node-1", 0, 1, Turns::default());
    for _ in 0..2 {
        events.container(
            (&pod(), "spec.containers{c}"),
            EventType::Normal,
            "Pulled",
            "pulled it",
        );
    }
    let call = api.next().await;
    assert_eq!(call.line(), "POST /api/v1/namespaces/ns/events");
    let event = &call.body;
    assert_eq!(event["involvedObject"]["kind"], "Pod");
    assert_eq!(event["involvedObject"]["uid"], "u1");
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{c}");
    assert_eq!(
        event["source"],
        serde_json::json!({"component": "kubelet", "host": "node-1"})
    );
    assert_eq!(
        (event["count"].as_i64(), event["type"].as_str()),
        (Some(1), Some("Normal"))
    );
    let name = event["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("web."), "{name}");
    call.echo();
    let call = api.next().await;
    assert_eq!(call.line(), format!("PATCH /api/v1/namespaces/ns/events/{name}"));
    assert_eq!(call.body["count"], 2);
}

#[tokio::test]
async fn a_repeat_of_an_expired_event_is_a_new_event() {
    let (client, mut api) = ApiServer::new();
    let events = start(client, "node-1", 50, 100, Turns::default());
    events.node(EventType::Normal, "NodeReady", "ready");
    let call = api.next().await;
    assert_eq!(call.line(), "POST /api/v1/namespaces/default/events");
    assert_eq!(call.body["involvedObject"]["uid"], "node-1");
    call.echo();
    events.node(EventType::Normal, "NodeReady", "ready");
    api.next().await.refuse(404);
    assert_eq!(api.next().await.line(), "POST /api/v1/namespaces/default/events");
}

#[tokio::test]
async fn a_refused_event_is_dropped_and_the_next_one_goes_on() {
    let (client, mut api) = ApiServer::new();
    let events = start(client, "node-1", 50, 100, Turns::default());
    events.pod(&pod(), EventType::Warning, "Failed", "a");
    events.pod(&pod(), EventType::Warning, "Failed", "b");
    api.next().await.refuse(403);
    let call = api.next().await;
    assert_eq!(call.body["message"], "b");
}

#[test]
fn a_full_queue_never_blocks() {
    let (events, mut queue) = Events::new("node-1");
    for n in 0..2000 {
        events.pod(&pod(), EventType::Normal, "Pulled", format!("{n}"));
    }
    let mut waiting = 0;
    while queue.try_recv().is_ok() {
        waiting += 1;
    }
    assert_eq!(waiting, 1000);
}

#[test]
fn the_rate_is_kept_after_the_burst() {
    let now = Instant::now();
    let mut rate = Rate {
        last: now,
        ..Rate::new(10, 2)
    };
    assert_eq!((rate.take(now), rate.take(now)), (Duration::ZERO, Duration::ZERO));
    assert_eq!(rate.take(now), Duration::from_millis(100));
    assert_eq!(rate.take(now), Duration::from_millis(200));
    assert_eq!(rate.take(now + Duration::from_secs(10)), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_normal_waits_for_the_pods_but_not_for_ever() {
    let (client, mut api) = ApiServer::new();
    let turns = Turns::default();
    let events = start(client, "node-1", 0, 1, turns.clone());
    let rush = turns.start().await;
    events.node(EventType::Warning, "SystemOOM", "no memory");
    let call = api.next().await;
    assert_eq!(call.body["reason"], "SystemOOM", "a warning waits for nothing");
    call.echo();
    events.node(EventType::Normal, "First", "");
    let started = tokio::time::Instant::now();
    let call = api.next().await;
    assert_eq!(call.body["reason"], "First");
    assert!(started.elapsed() > PATIENCE / 2, "{:?}", started.elapsed());
    call.echo();
    events.node(EventType::Normal, "Second", "");
    drop(rush);
    let started = tokio::time::Instant::now();
    api.next().await.echo();
    assert_eq!(started.elapsed(), Duration::ZERO);
}
