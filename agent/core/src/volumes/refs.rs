//! The configMaps and secrets that a pod depends on: its node may read those and no others (NodeRestriction).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::plan::{Part, Source, containers, plans};

/// The kinds of objects that a pod's containers and volumes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// `ConfigMap`.
    ConfigMap,
    /// `Secret`.
    Secret,
}

/// One object of the pod's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
}

impl ObjectKind {
    /// The word in messages; the reference's.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// Everything the pod refers to: volumes that are mounted, environment, pull secrets.
#[must_use]
pub fn references(pod: &Pod) -> BTreeSet<ObjectRef> {
    let mut found = volume_references(pod);
    for container in containers(pod) {
        environment(container, &mut found);
    }
    if let Some(spec) = &pod.spec {
        for ephemeral in spec.ephemeral_containers.iter().flatten() {
            let as_container = Container {
                env: ephemeral.env.clone(),
                env_from: ephemeral.env_from.clone(),
                ..Container::default()
            };
            environment(&as_container, &mut found);
        }
        for secret in spec.image_pull_secrets.iter().flatten() {
            insert(&mut found, ObjectKind::Secret, &secret.name);
        }
    }
    found
}

/// What its volumes refer to: a change of one of these rewrites files.
#[must_use]
pub fn volume_references(pod: &Pod) -> BTreeSet<ObjectRef> {
    let mut found = BTreeSet::new();
    for plan in plans(pod) {
        let Source::Content(content) = plan.source else {
            continue;
        };
        for part in &content.parts {
            match part {
                Part::ConfigMap(keys) => insert(&mut found, ObjectKind::ConfigMap, keys.name),
                Part::Secret(keys) => insert(&mut found, ObjectKind::Secret, keys.name),
                Part::Downward(_) | Part::Token(_) | Part::Unsupported(_) => {}
            }
        }
    }
    found
}

fn environment(container: &Container, found: &mut BTreeSet<ObjectRef>) {
    for from in container.env_from.iter().flatten() {
        if let Some(map) = &from.config_map_ref {
            insert(found, ObjectKind::ConfigMap, &map.name);
        }
        if let Some(secret) = &from.secret_ref {
            insert(found, ObjectKind::Secret, &secret.name);
        }
    }
    for value in container
        .env
        .iter()
        .flatten()
        .filter_map(|env| env.value_from.as_ref())
    {
        if let Some(key) = &value.config_map_key_ref {
            insert(found, ObjectKind::ConfigMap, &key.name);
        }
        if let Some(key) = &value.secret_key_ref {
            insert(found, ObjectKind::Secret, &key.name);
        }
    }
}

fn insert(found: &mut BTreeSet<ObjectRef>, kind: ObjectKind, name: &str) {
    if !name.is_empty() {
        found.insert(ObjectRef {
            kind,
            name: name.to_owned(),
        });
    }
}
