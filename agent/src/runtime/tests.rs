//! Against a fake runtime that speaks real CRI over a unix socket.

use std::time::Duration;

use gantry_agent_core::observed::ContainerState;

use super::fake::{FakeRuntime, container_config, sandbox_config};
use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

async fn until(
    runtime: &Runtime,
    uid: &str,
    wanted: impl Fn(&gantry_agent_core::observed::ObservedPod) -> bool,
) {
    let settled = runtime.pods().settled(uid, PATIENCE, wanted).await;
    assert!(settled, "pod {uid} is {:?}", runtime.pods().get(uid));
}

async fn started(runtime: &Runtime, uid: &str) -> (String, String) {
    let sandbox = runtime.run_sandbox(sandbox_config(uid), "").await.unwrap().id;
    let id = runtime
        .create_container(&sandbox, container_config(uid, "c", 0), sandbox_config(uid))
        .await
        .unwrap();
    runtime.start_container(uid, &id).await.unwrap();
    (sandbox, id)
}

#[tokio::test]
async fn the_effect_of_an_own_call_is_visible_at_once_without_events() {
    let fake = FakeRuntime::start().await;
    let runtime = fake.connect();
    let (sandbox, id) = started(&runtime, "u1").await;
    let pod = runtime.pods().get("u1").unwrap();
    assert_eq!((pod.name.as_str(), pod.namespace.as_str()), ("pod-u1", "ns"));
    assert_eq!(
        pod.sandbox().unwrap().ips,
        ["10.0.0.7".parse::<std::net::IpAddr>().unwrap()]
    );
    assert!(matches!(
        pod.container("c").unwrap().state,
        ContainerState::Running { .. }
    ));
    assert_eq!(pod.container("c").unwrap().sandbox_id, sandbox);
    runtime
        .stop_container("u1", &id, Duration::from_secs(1))
        .await
        .unwrap();
    assert!(
        runtime
            .pods()
            .get("u1")
            .unwrap()
            .container("c")
            .unwrap()
            .has_ended()
    );
    runtime.stop_sandbox(&sandbox).await.unwrap();
    assert!(!runtime.pods().get("u1").unwrap().sandbox().unwrap().ready);
    runtime.remove_sandbox(&sandbox).await.unwrap();
    assert!(runtime.pods().get("u1").is_none());
    // Again: what is gone is gone.
    runtime.remove_sandbox(&sandbox).await.unwrap();
    runtime.stop_container("u1", &id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn an_exit_reaches_the_watch_through_the_event_stream_with_its_message() {
    let dir = tempfile::tempdir().unwrap();
    let message = dir.path().join("message");
    std::fs::write(&message, "bye").unwrap();
    let fake = FakeRuntime::start().await;
    let runtime = fake.connect();
    let _watcher = runtime.watch();
    runtime.pods().synced().await;
    let (_, id) = started(&runtime, "u1").await;
    fake.exit(&id, 3, &message).await;
    until(&runtime, "u1", |pod| {
        pod.container("c").is_some_and(|c| c.has_ended())
    })
    .await;
    let pod = runtime.pods().get("u1").unwrap();
    let exit = pod.container("c").unwrap().exit().unwrap().clone();
    assert_eq!(
        (exit.code, exit.reason.as_str(), exit.message.as_str()),
        (3, "Error", "bye")
    );
    assert_eq!(fake.status_calls(), 0, "events carry all that is needed");
}

#[tokio::test]
async fn a_lost_event_stream_is_reopened_and_what_was_missed_is_listed() {
    let fake = FakeRuntime::start().await;
    let runtime = fake.connect();
    let _watcher = runtime.watch();
    runtime.pods().synced().await;
    let (_, id) = started(&runtime, "u1").await;
    fake.exit_without_event(&id, 1).await;
    fake.break_streams().await;
    until(&runtime, "u1", |pod| {
        pod.container("c").is_some_and(|c| c.has_ended())
    })
    .await;
}

#[tokio::test]
async fn a_runtime_that_is_away_leaves_the_picture_as_it_was_and_heals() {
    let fake = FakeRuntime::start().await;
    let runtime = fake.connect();
    let _watcher = runtime.watch();
    runtime.pods().synced().await;
    started(&runtime, "u1").await;
    let state = fake.stop().await;
    let error = runtime.refresh("u1").await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(runtime.pods().get("u1").is_some());
    assert_eq!(runtime.pods().known().unwrap(), ["u1"]);
    state.forget_everything().await;
    let _fake = state.restart().await;
    until(&runtime, "u1", |pod| {
        pod.containers.is_empty() && pod.sandboxes.is_empty()
    })
    .await;
}

#[tokio::test]
async fn nothing_is_known_before_the_first_list() {
    let fake = FakeRuntime::start().await;
    let other = fake.connect();
    started(&other, "u1").await;
    let runtime = fake.connect();
    assert_eq!(runtime.pods().known(), None);
    let _watcher = runtime.watch();
    runtime.pods().synced().await;
    assert_eq!(runtime.pods().known().unwrap(), ["u1"]);
    assert!(matches!(
        runtime.pods().get("u1").unwrap().container("c").unwrap().state,
        ContainerState::Running { .. }
    ));
}

#[tokio::test]
async fn without_an_event_stream_exits_are_found_by_listing() {
    let fake = FakeRuntime::start().await;
    fake.refuse_events().await;
    let runtime = fake.connect();
    let _watcher = runtime.watch();
    runtime.pods().synced().await;
    let (_, id) = started(&runtime, "u1").await;
    fake.exit_without_event(&id, 0).await;
    until(&runtime, "u1", |pod| {
        pod.container("c").is_some_and(|c| c.has_ended())
    })
    .await;
}

#[tokio::test]
async fn readiness_version_and_driver() {
    let fake = FakeRuntime::start().await;
    let runtime = fake.connect();
    assert_eq!(runtime.version().await.unwrap().node_info(), "fake://1.2.3");
    let status = runtime.status().await.unwrap();
    let default = status.handlers.iter().find(|handler| handler.name.is_empty());
    assert!(status.network_ready() && default.unwrap().recursive_read_only_mounts);
    assert_eq!(
        runtime.cgroup_driver().await.unwrap(),
        Some(CgroupDriver::Cgroupfs)
    );
    let output = runtime
        .exec_sync("any", vec!["false".into()], Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(
        (output.exit_code, output.stdout.as_slice()),
        (1, b"out".as_slice())
    );
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_a_timeout() {
    let fake = FakeRuntime::start().await;
    let runtime = Runtime::connect(&fake.endpoint(), Duration::from_millis(50)).unwrap();
    fake.hang().await;
    let error = runtime.status().await.unwrap_err();
    assert!(
        matches!(
            error,
            RuntimeError::Timeout {
                operation: "Status",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn endpoints() {
    let connect = |endpoint: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        Runtime::connect(endpoint, PATIENCE).map(|_| ())
    };
    assert!(connect("unix:///run/containerd/containerd.sock").is_ok());
    assert!(connect("/run/containerd/containerd.sock").is_ok());
    assert!(
        connect("tcp://1.2.3.4:5")
            .unwrap_err()
            .to_string()
            .contains("expected unix:///path")
    );
    assert!(connect("").is_err());
}
