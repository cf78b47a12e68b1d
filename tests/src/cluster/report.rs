//! What a failed test shows: its pods, their events, and what the agents said last.

use std::collections::BTreeSet;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use serde::Serialize;

use super::{Machine, Test};

/// Lines of each log.
const LINES: u32 = 40;

/// An object's status (or all of it, when it has none) on one line.
pub(crate) fn brief(object: &impl Serialize) -> String {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let mut shown = match value.get_mut("status") {
        Some(status) => status.take(),
        None => value,
    };
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|name, _| name != "images");
    }
    shown.to_string()
}

/// Prints the report, which the test's output then has below the failure.
pub(crate) fn print(test: &Test, mut machines: Vec<String>) {
    let mut text = format!("\n===== namespace {} =====\n", test.namespace());
    match test
        .cluster
        .request(test.api::<Pod>().list(&ListParams::default()))
    {
        Ok(pods) => {
            for pod in &pods {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                let _ = writeln!(text, "pod {} on {node:?}: {}", pod.name_any(), brief(pod));
                machines.extend(node);
            }
        }
        Err(error) => drop(writeln!(text, "no pods: {error}")),
    }
    if let Ok(events) = test
        .cluster
        .request(test.api::<Event>().list(&ListParams::default()))
    {
        for event in &events {
            let _ = writeln!(
                text,
                "event {} {} x{}: {}",
                event.involved_object.name.as_deref().unwrap_or_default(),
                event.reason.as_deref().unwrap_or_default(),
                event.count.unwrap_or(1),
                event.message.as_deref().unwrap_or_default(),
            );
        }
    }
    for name in machines.into_iter().collect::<BTreeSet<_>>() {
        let journal = Machine::named(&name).journal("kubelet", LINES);
        let _ = writeln!(text, "----- kubelet on {name} -----\n{journal}");
    }
    eprintln!("{text}");
}
