use serde_json::{Value, json};

use super::*;
use crate::{
    config::testing,
    events::Events,
    node::runtime_state::tests::state,
    testing::{ApiServer, Call},
};

struct Bench {
    api: ApiServer,
    state: watch::Sender<RuntimeState>,
    node: watch::Receiver<NodeRef>,
    task: tokio::task::JoinHandle<()>,
    _events: tokio::sync::mpsc::Receiver<crate::events::Happening>,
}

/// A running loop over a runtime whose socket does not exist and whose state the test sets.
fn bench(yaml: &str, first: RuntimeState) -> Bench {
    let (client, api) = ApiServer::new();
    let (events, queue) = Events::new("node-1");
    let (state, receiver) = watch::channel(first);
    let runtime = Runtime::connect("unix:///nonexistent/runtime.sock", Duration::from_secs(1)).unwrap();
    let (sync, node) = Sync::new(Arc::new(testing::config(yaml)), client, events, runtime, receiver);
    Bench {
        api,
        state,
        node,
        task: tokio::spawn(sync.run()),
        _events: queue,
    }
}

fn ready(call: &Call) -> &Value {
    call.body["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Ready")
        .unwrap()
}

/// Answer as the API server that applied the patch to `node`.
fn apply(call: Call, node: &mut Value) {
    let mut status = call.body["status"].as_object().unwrap().clone();
    status.retain(|name, _| !name.starts_with('$'));
    if let Some(Value::Array(addresses)) = status.get_mut("addresses") {
        addresses.retain(|address| address.get("$patch").is_none());
    }
    for (name, value) in status {
        node["status"][name] = value;
    }
    call.answer(200, node);
}

#[tokio::test]
async fn registers_and_tells_at_once_when_the_network_is_ready() {
    let now = Some(Instant::now());
    let mut bench = bench("nodeStatusUpdateFrequency: 1h", state(true, false, now));
    let call = bench.api.next().await;
    assert_eq!(call.line(), "POST /api/v1/nodes");
    assert_eq!(call.body["metadata"]["name"], "node-1");
    assert_eq!(ready(&call)["status"], "False");
    assert!(
        ready(&call)["message"]
            .as_str()
            .unwrap()
            .contains("NetworkReady=false")
    );
    let mut node = call.body.clone();
    call.echo();
    let call = bench.api.next().await;
    assert_eq!(call.line(), "PATCH /api/v1/nodes/node-1/status");
    apply(call, &mut node);
    bench.api.stays_quiet(Duration::from_millis(100)).await;
    bench.state.send_replace(state(true, true, now));
    let call = bench.api.next().await;
    assert_eq!(ready(&call)["reason"], "KubeletReady");
    apply(call, &mut node);
    assert!(bench.node.borrow_and_update().is_some());
    bench.task.abort();
}

#[tokio::test]
async fn registration_is_retried_and_an_existing_node_is_reconciled() {
    let mut bench = bench("", state(true, true, Some(Instant::now())));
    bench.api.next().await.refuse(500);
    bench.api.next().await.refuse(409);
    let call = bench.api.next().await;
    assert_eq!(call.line(), "GET /api/v1/nodes/node-1");
    call.answer(
        200,
        &json!({"metadata": {"name": "node-1", "labels": {"foreign": "x"}}}),
    );
    let call = bench.api.next().await;
    assert_eq!(call.line(), "PATCH /api/v1/nodes/node-1");
    assert_eq!(call.body["metadata"]["labels"]["kubernetes.io/os"], "linux");
    assert!(call.body["metadata"]["labels"].get("foreign").is_none());
    bench.task.abort();
}

#[tokio::test]
async fn an_unregistered_node_is_only_read_and_patched() {
    let mut bench = bench("registerNode: false", state(true, true, Some(Instant::now())));
    let call = bench.api.next().await;
    assert_eq!(call.line(), "GET /api/v1/nodes/node-1");
    call.answer(200, &json!({"metadata": {"name": "node-1"}}));
    let call = bench.api.next().await;
    assert_eq!(call.line(), "PATCH /api/v1/nodes/node-1/status");
    bench.task.abort();
}
