//! Hooks against a fake runtime and listeners on loopback.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::probes::check::tests::FakeExec;
use crate::probes::http::tests::{answer, server};

async fn run_hook(exec: &FakeExec, handler: Value, budget: Option<Duration>) -> Result<(), HookError> {
    run_counted(exec, handler, budget, &HookMetrics::default()).await
}

async fn run_counted(
    exec: &FakeExec,
    handler: Value,
    budget: Option<Duration>,
    metrics: &HookMetrics,
) -> Result<(), HookError> {
    let container = serde_json::from_value(json!({"name": "c"})).unwrap();
    let target = HookTarget {
        container: &container,
        container_id: "id",
        pod_ip: Some([127, 0, 0, 1].into()),
        metrics,
    };
    run(exec, &serde_json::from_value(handler).unwrap(), target, budget).await
}

#[tokio::test]
async fn a_command_must_succeed_and_gets_the_budget_as_its_limit() {
    let hook = json!({"exec": {"command": ["save", "--all"]}});
    let budget = Duration::from_secs(30);
    let exec = FakeExec::exits(0);
    run_hook(&exec, hook.clone(), Some(budget)).await.unwrap();
    let words = vec!["save".to_owned(), "--all".to_owned()];
    assert_eq!(*exec.asked.lock().unwrap(), [("id".to_owned(), words, budget)]);
    let error = run_hook(&FakeExec::exits(3), hook, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Exec lifecycle hook ([\"save\", \"--all\"]) for Container \"c\" failed - error: \
         command terminated with exit code 3"
    );
}

#[tokio::test]
async fn any_http_answer_will_do() {
    let exec = FakeExec::exits(0);
    let (port, mut seen) = server(vec![answer("500 Oops", "", "")]).await;
    run_hook(&exec, json!({"httpGet": {"port": port, "path": "/stop"}}), None)
        .await
        .unwrap();
    let asked = seen.recv().await.unwrap();
    assert!(asked.starts_with("GET /stop "), "{asked}");
    assert!(asked.contains("user-agent: kube-lifecycle/1.36\r\n"), "{asked}");
    let refused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = run_hook(
        &exec,
        json!({"httpGet": {"port": refused, "path": "/stop"}}),
        None,
    )
    .await
    .unwrap_err();
    let expected = "HTTP lifecycle hook (/stop) for Container \"c\" failed - error: Get ";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn https_falls_back_to_what_the_server_speaks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        first
            .write_all(answer("400 Bad Request", "", "").as_bytes())
            .await
            .unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        second
            .write_all(answer("200 OK", "", "").as_bytes())
            .await
            .unwrap();
    });
    let metrics = HookMetrics::default();
    let hook = json!({"httpGet": {"port": port, "scheme": "HTTPS"}});
    run_counted(&FakeExec::exits(0), hook, None, &metrics)
        .await
        .unwrap();
    server.await.unwrap();
    assert_eq!((metrics.fallbacks.get(), metrics.short_sleeps.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sleep_takes_its_time_within_the_budget() {
    let exec = FakeExec::exits(0);
    let begun = tokio::time::Instant::now();
    run_hook(
        &exec,
        json!({"sleep": {"seconds": 5}}),
        Some(Duration::from_secs(30)),
    )
    .await
    .unwrap();
    assert_eq!(begun.elapsed().as_secs(), 5);
    let metrics = HookMetrics::default();
    let (hook, budget) = (json!({"sleep": {"seconds": 50}}), Duration::from_secs(30));
    let error = run_counted(&exec, hook, Some(budget), &metrics)
        .await
        .unwrap_err();
    assert_eq!((begun.elapsed().as_secs(), metrics.short_sleeps.get()), (35, 1));
    assert_eq!(
        error.to_string(),
        "lifecycle hook for Container \"c\" not completed in grace period 30s"
    );
}

#[tokio::test]
async fn a_socket_is_no_handler() {
    let error = run_hook(&FakeExec::exits(0), json!({"tcpSocket": {"port": 80}}), None)
        .await
        .unwrap_err();
    assert!(matches!(error, HookError::Invalid), "{error}");
}
