//! The handler: statuses and texts.

use gantry_agent_core::api::PodRef;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::{
    config::testing::config,
    pods::directory::testing::directory,
    runtime::fake::{FakeRuntime, container_config, sandbox_config},
    server::answer::testing::content,
};

/// A node with one pod `p` that has containers `c` and `d`.
struct Node {
    api: Api,
    dir: tempfile::TempDir,
    fake: FakeRuntime,
}

impl Node {
    /// `state` is that of container `c`, with `ID` for its identifier.
    async fn new(state: Value, yaml: &str) -> Self {
        let (fake, dir) = (FakeRuntime::start().await, tempfile::tempdir().unwrap());
        let runtime = fake.connect();
        let mut sandbox = sandbox_config("u");
        sandbox.log_directory = dir.path().display().to_string();
        let mut container = container_config("u", "c", 0);
        container.log_path = "0.log".to_owned();
        let sandbox_id = runtime.run_sandbox(sandbox.clone(), "").await.unwrap().id;
        let id = runtime.create_container(&sandbox_id, container, sandbox);
        let id = format!("containerd://{}", id.await.unwrap());
        let status = json!([{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "containerID": id, "state": state,
        }]);
        let status = status.to_string().replace("ID!", &id);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "c"}, {"name": "d"}]},
            "status": {"containerStatuses": serde_json::from_str::<Value>(&status).unwrap()},
        }))
        .unwrap();
        let config = Arc::new(config(yaml));
        let api = Api {
            pods: directory([pod]),
            stats: crate::stats::Stats::new(&config, runtime.clone()),
            runtime,
            metrics: crate::metrics::Metrics::new(&config),
            config,
            logs: Logs::new(Tapes::start()),
        };
        Self { api, dir, fake }
    }

    fn write(&self, content: &str) {
        fs::write(self.dir.path().join("0.log"), content).unwrap();
    }

    async fn ask(&self, pod: &str, container: &str, query: &str) -> (u16, String) {
        let of = ContainerRef {
            pod: PodRef {
                namespace: "ns".to_owned(),
                name: pod.to_owned(),
                uid: None,
            },
            container: container.to_owned(),
        };
        let answer = handle(&self.api, query, &of).await;
        let answer = answer.unwrap_or_else(Refusal::into_answer);
        (answer.status().as_u16(), content(answer).await)
    }
}

fn ended() -> Value {
    json!({"terminated": {"exitCode": 0, "containerID": "ID!"}})
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_references_words_and_order() {
    let node = Node::new(json!({"waiting": {"reason": "ContainerCreating"}}), "").await;
    for (pod, container, query, status, text) in [
        (
            "x",
            "c",
            "tailLines=-1",
            422,
            r#"{"message": "Invalid request."}"#,
        ),
        (
            "x",
            "c",
            "tailLines=z",
            400,
            r#"{"message": "Unable to decode query."}"#,
        ),
        ("x", "c", "", 404, "pod \"x\" does not exist"),
        (
            "p",
            "x",
            "stream=Stdout",
            404,
            "container \"x\" not found in pod \"p\"",
        ),
        (
            "p",
            "c",
            "stream=Stdout",
            400,
            "unable to return the given log stream: \"Stdout\". Please enable PodLogsQuerySplitStreams feature gate in kubelet",
        ),
        (
            "p",
            "c",
            "",
            400,
            "container \"c\" in pod \"p\" is waiting to start: ContainerCreating",
        ),
        (
            "p",
            "c",
            "previous=true",
            400,
            "previous terminated container \"c\" in pod \"p\" not found",
        ),
        ("p", "d", "", 400, "container \"d\" in pod \"p\" is not available"),
    ] {
        assert_eq!(
            node.ask(pod, container, query).await,
            (status, text.to_owned()),
            "{pod} {container} {query}"
        );
    }
}

#[tokio::test]
async fn the_log_of_an_ended_container_is_read_and_followed_to_its_end() {
    let node = Node::new(ended(), "").await;
    node.write(&(line("one") + &line("two")));
    for (query, text) in [
        ("", "one\ntwo\n"),
        ("follow=true", "one\ntwo\n"),
        ("tailLines=1", "two\n"),
        (
            "tailLines=1&follow=true&timestamps=true",
            "2026-01-01T00:00:00.500000000Z two\n",
        ),
        ("limitBytes=5", "one\nt"),
        ("sinceTime=2026-01-01T00:00:01Z", ""),
    ] {
        assert_eq!(node.ask("p", "c", query).await, (200, text.to_owned()), "{query}");
    }
}

#[tokio::test]
async fn what_goes_wrong_with_the_file_stands_where_the_log_would() {
    let node = Node::new(ended(), "").await;
    let (status, text) = node.ask("p", "c", "").await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("failed to try resolving symlinks in path"),
        "{text}"
    );
    node.fake.model().forget_containers();
    let (status, text) = node.ask("p", "c", "follow=true").await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("unable to retrieve container logs for containerd://container-"),
        "{text}"
    );
}

#[tokio::test]
async fn a_single_stream_is_read_behind_its_feature_gate() {
    let node = Node::new(ended(), "featureGates: {PodLogsQuerySplitStreams: true}").await;
    node.write(&(line("good") + "2026-01-01T00:00:00Z stderr F bad\n"));
    assert_eq!(
        node.ask("p", "c", "stream=Stderr").await,
        (200, "bad\n".to_owned())
    );
    assert_eq!(node.ask("p", "c", "stream=Stdout").await.1, "good\n");
    assert_eq!(node.ask("p", "c", "stream=All").await.1, "good\nbad\n");
    fs::remove_file(node.dir.path().join("0.log")).unwrap();
    assert_eq!(node.ask("p", "c", "stream=Stderr").await.0, 400);
}
