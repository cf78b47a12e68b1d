//! `/pods`: the pods that this node should run, with their status; `/runningpods/`: what the runtime has of them.

use gantry_agent_core::observed::{ContainerState, ObservedPod};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use serde_json::{Value, json};

use super::{Answer, Api, Refusal, answer};

/// `/pods`.
pub(super) fn wanted(api: &Api) -> Result<Answer, Refusal> {
    let pods = api.pods.all();
    answer::json(&list(pods.iter().map(|entry| entry.with_status())))
}

/// `/runningpods/`.
pub(super) fn running(api: &Api) -> Result<Answer, Refusal> {
    let cache = api.runtime.pods();
    let held = cache.known().unwrap_or_default();
    let observed = held.iter().filter_map(|uid| cache.get(uid));
    answer::json(&list(observed.filter_map(|pod| run(&pod))))
}

fn list(pods: impl Iterator<Item = Pod>) -> Value {
    let items: Vec<Value> = pods.map(item).collect();
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// The items of a list do not say what they are.
fn item(pod: Pod) -> Value {
    let mut item = json!(pod);
    if let Some(fields) = item.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    item
}

/// The little that the runtime knows of a pod; nothing of one that does not run.
fn run(observed: &ObservedPod) -> Option<Pod> {
    let running = observed
        .containers
        .iter()
        .filter(|container| matches!(container.state, ContainerState::Running { .. }));
    let containers: Vec<Container> = running
        .map(|container| Container {
            name: container.name.clone(),
            image: Some(container.image.clone()),
            ..Container::default()
        })
        .collect();
    let ready = observed.sandboxes.iter().any(|sandbox| sandbox.ready);
    if containers.is_empty() && !ready {
        return None;
    }
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers,
            ..PodSpec::default()
        }),
        status: Some(PodStatus::default()),
        ..Pod::default()
    };
    pod.metadata.name = Some(observed.name.clone());
    pod.metadata.namespace = Some(observed.namespace.clone());
    pod.metadata.uid = Some(observed.uid.clone());
    Some(pod)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_list_of_pods_is_a_pod_list() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        let list = list([pod].into_iter());
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&json!("PodList"), &json!("v1"))
        );
        assert_eq!(list["items"], json!([{"metadata": {"name": "p"}}]));
    }

    #[test]
    fn only_what_runs_is_listed_as_running() {
        let container = |name: &str, state| gantry_agent_core::observed::Container {
            id: name.into(),
            sandbox_id: "s".into(),
            name: name.into(),
            attempt: 0,
            hash: String::new(),
            image: "image".into(),
            image_id: String::new(),
            state,
            termination_message_path: String::new(),
            termination_message_policy: String::new(),
            grace_secs: None,
        };
        let mut observed = ObservedPod {
            uid: "u".into(),
            name: "p".into(),
            namespace: "ns".into(),
            containers: vec![container("made", ContainerState::Created)],
            ..ObservedPod::default()
        };
        assert_eq!(run(&observed), None);
        let started_at = Timestamp::UNIX_EPOCH;
        observed
            .containers
            .push(container("runs", ContainerState::Running { started_at }));
        let pod = run(&observed).unwrap();
        let names: Vec<_> = pod.spec.iter().flat_map(|spec| &spec.containers).collect();
        assert_eq!((names.len(), names[0].name.as_str()), (1, "runs"));
        assert_eq!(pod.metadata.uid.as_deref(), Some("u"));
    }
}
