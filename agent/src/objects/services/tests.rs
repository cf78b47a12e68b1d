//! The table of services against a model of the API server.

use serde_json::{Value, json};

use super::*;
use crate::objects::fake::{FakeApi, eventually};

fn service(address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "spec": {"clusterIP": address, "ports": [{"name": "web", "port": 80}, {"port": 53, "protocol": "UDP"}]},
    })
}

async fn names(services: &Services, namespace: &str) -> Vec<String> {
    services
        .of(namespace)
        .await
        .iter()
        .map(|service| service.name.clone())
        .collect()
}

#[tokio::test]
async fn readers_wait_for_the_first_list_and_see_services_with_an_address() {
    let api = FakeApi::default();
    api.put("services", "ns", "web", service("10.96.0.10"));
    api.put("services", "ns", "headless", service("None"));
    api.put(
        "services",
        "ns",
        "external",
        json!({"spec": {"type": "ExternalName", "externalName": "x.y"}}),
    );
    api.put("services", "other", "db", service("10.96.0.11"));
    let services = Services::new(&api.client());
    let found = services.of("ns").await;
    assert_eq!(found.len(), 1);
    let port = |name: &str, protocol: &str, port| ServicePort {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        port,
    };
    assert_eq!(
        *found[0],
        Service {
            name: "web".to_owned(),
            cluster_ip: "10.96.0.10".to_owned(),
            ports: vec![port("web", "TCP", 80), port("", "UDP", 53)],
        }
    );
    assert_eq!(names(&services, "other").await, ["db"]);
    assert!(names(&services, "nowhere").await.is_empty());
}

#[tokio::test]
async fn changes_reach_the_table() {
    let api = FakeApi::default();
    api.put("services", "ns", "one", service("10.96.0.1"));
    let services = Services::new(&api.client());
    assert_eq!(names(&services, "ns").await, ["one"]);
    eventually("the watch", || api.open_watches() == 1).await;
    api.put("services", "ns", "two", service("10.96.0.2"));
    let count = |services: &Services| services.table.read().unwrap().get("ns").map_or(0, BTreeMap::len);
    eventually("the second", || count(&services) == 2).await;
    api.put("services", "ns", "one", service("None"));
    eventually("without address", || count(&services) == 1).await;
    api.delete("services", "ns", "two");
    eventually("the end", || services.table.read().unwrap().is_empty()).await;
}
