use std::sync::Arc;

use super::*;
use crate::testing::ApiServer;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

fn node() -> NodeRef {
    let metadata = ObjectMeta {
        name: Some("n".into()),
        uid: Some("node-uid".into()),
        ..ObjectMeta::default()
    };
    Some(Arc::new(Node {
        metadata,
        ..Node::default()
    }))
}

#[tokio::test]
async fn a_lease_is_created_then_renewed_without_reading() {
    let (client, mut api) = ApiServer::new();
    let (_sender, receiver) = watch::channel(node());
    let task = tokio::spawn(keep(client, "n".into(), 1, receiver));
    let call = api.next().await;
    assert_eq!(call.line(), format!("GET {PATH}/n"));
    call.refuse(404);
    let call = api.next().await;
    assert_eq!(call.line(), format!("POST {PATH}"));
    assert_eq!(call.body["spec"]["holderIdentity"], "n");
    assert_eq!(call.body["spec"]["leaseDurationSeconds"], 1);
    assert_eq!(call.body["metadata"]["ownerReferences"][0]["uid"], "node-uid");
    let first = call.body["spec"]["renewTime"].as_str().unwrap().to_owned();
    call.echo();
    let call = api.next().await;
    assert_eq!(call.line(), format!("PUT {PATH}/n"));
    assert!(call.body["spec"]["renewTime"].as_str().unwrap() > first.as_str());
    call.echo();
    task.abort();
}

#[tokio::test]
async fn after_trouble_the_lease_is_read_again() {
    let (client, mut api) = ApiServer::new();
    let (_sender, receiver) = watch::channel(None);
    let task = tokio::spawn(keep(client, "n".into(), 40, receiver));
    api.next().await.refuse(500);
    let call = api.next().await;
    assert_eq!(call.line(), format!("GET {PATH}/n"));
    call.answer(
        200,
        &serde_json::json!({"metadata": {"name": "n", "resourceVersion": "7"}, "spec": {}}),
    );
    let call = api.next().await;
    assert_eq!(call.line(), format!("PUT {PATH}/n"));
    assert_eq!(call.body["metadata"]["resourceVersion"], "7");
    assert!(call.body["metadata"].get("ownerReferences").is_none());
    task.abort();
}
