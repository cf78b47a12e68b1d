//! Fetches what the files of a pod's volumes are made of, all at once.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use futures::future::{join, join_all, join3};
use gantry_agent_core::volumes::payload::{Inputs, Lookup};
use gantry_agent_core::volumes::plan::{Part, Source, TokenPart, VolumePlan};
use gantry_agent_core::volumes::refs::{ObjectKind, ObjectRef, volume_references};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::objects::{ObjectError, Objects, TokenRef};

use super::atomic::DATA;
use super::layout::Layout;

/// The inputs, and when the first of the tokens is due for its successor.
pub(super) struct Fetched {
    pub(super) inputs: Inputs,
    pub(super) refresh_at: Option<Timestamp>,
}

/// Asks for everything that the plans need. Failures are part of the answer.
pub(super) async fn fetch(objects: &Objects, pod: &Pod, plans: &[VolumePlan<'_>]) -> Fetched {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let wanted = volume_references(pod);
    let maps = lookups(&wanted, ObjectKind::ConfigMap, |name| {
        objects.config_map(namespace, name)
    });
    let secrets = lookups(&wanted, ObjectKind::Secret, |name| {
        objects.secret(namespace, name)
    });
    let token_parts: Vec<TokenPart<'_>> = tokens(plans).map(|(_, part)| part).collect();
    let requests = join_all(token_parts.iter().map(|part| async {
        let wanted = token_ref(pod, *part);
        objects.service_account_token(&wanted).await
    }));
    let (config_maps, secrets, answers) = join3(maps, secrets, requests).await;
    let mut inputs = Inputs {
        config_maps: config_maps.into_iter().collect(),
        secrets: secrets.into_iter().collect(),
        ..Inputs::default()
    };
    let mut refresh_at: Option<Timestamp> = None;
    for (part, answer) in token_parts.iter().zip(answers) {
        if let Ok(token) = &answer {
            refresh_at = Some(refresh_at.map_or(token.refresh_at, |first| first.min(token.refresh_at)));
        }
        let token = answer
            .map(|token| token.expose().as_bytes().to_vec())
            .map_err(|error| error.message());
        inputs
            .tokens
            .insert((part.audience.to_owned(), part.expiration_secs), token);
    }
    Fetched { inputs, refresh_at }
}

/// Hands the tokens that an earlier run of the agent wrote to the cache.
pub(super) async fn adopt_tokens(objects: &Objects, layout: &Layout, pod: &Pod, plans: &[VolumePlan<'_>]) {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let reads = tokens(plans).filter_map(|(plan, part)| {
        let Source::Content(content) = &plan.source else {
            return None;
        };
        let file = layout
            .volume(uid, content.plugin.dir_name(), plan.name)
            .ok()?
            .join(DATA)
            .join(part.path);
        Some(async move {
            if let Ok(text) = tokio::fs::read_to_string(file).await {
                objects.adopt_token(&token_ref(pod, part), &text);
            }
        })
    });
    join_all(reads).await;
}

fn tokens<'a>(plans: &'a [VolumePlan<'a>]) -> impl Iterator<Item = (&'a VolumePlan<'a>, TokenPart<'a>)> {
    plans.iter().flat_map(|plan| {
        let parts = match &plan.source {
            Source::Content(content) => content.parts.as_slice(),
            Source::EmptyDir { .. }
            | Source::HostPath { .. }
            | Source::Image
            | Source::Refused(_)
            | Source::Unsupported(_) => &[],
        };
        parts.iter().filter_map(move |part| match part {
            Part::Token(token) => Some((plan, *token)),
            Part::ConfigMap(_) | Part::Secret(_) | Part::Downward(_) | Part::Unsupported(_) => None,
        })
    })
}

fn token_ref(pod: &Pod, part: TokenPart<'_>) -> TokenRef {
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone());
    TokenRef {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        service_account: account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        pod_name: pod.metadata.name.clone().unwrap_or_default(),
        pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
        audience: part.audience.to_owned(),
        expiration_secs: part.expiration_secs,
    }
}

async fn lookups<'a, K, F>(
    wanted: &'a BTreeSet<ObjectRef>,
    kind: ObjectKind,
    get: impl Fn(&'a str) -> F,
) -> Vec<(String, Lookup<K>)>
where
    F: Future<Output = Result<Arc<K>, ObjectError>>,
{
    let names = wanted
        .iter()
        .filter(|object| object.kind == kind)
        .map(|object| object.name.as_str());
    let answers = join_all(names.map(|name| join(std::future::ready(name), get(name)))).await;
    let lookup = |answer| match answer {
        Ok(object) => Lookup::Found(object),
        Err(ObjectError::Missing { .. }) => Lookup::Missing,
        Err(error) => Lookup::Failed(error.message()),
    };
    answers
        .into_iter()
        .map(|(name, answer)| (name.to_owned(), lookup(answer)))
        .collect()
}
