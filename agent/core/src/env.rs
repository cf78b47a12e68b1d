//! The environment of a container: service variables, `envFrom`, `env`, and `$(VAR)` expansion.
//!
//! Service variables < `envFrom` (in order) < `env` (in order); an `env` value sees the variables before it and the
//! service variables. Values are bytes: a secret need not be text.

mod expand;
mod field;
mod service;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVarSource, Pod, Secret};
use thiserror::Error;

pub use expand::{expand, expand_strict, expand_text};
pub use field::{field_value, resource_value};
pub use service::{ServiceLink, ServicePort, service_variables};

use crate::resources::Amounts;

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// The answer to a look-up of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It does not exist.
    NotFound,
    /// It could not be read, for this reason.
    Failed(String),
}

/// What the environment is made from. The shell looks up all that [`references`] names.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// ConfigMaps of the pod's namespace, by name.
    pub config_maps: BTreeMap<String, Lookup<&'a ConfigMap>>,
    /// Secrets of the pod's namespace, by name.
    pub secrets: BTreeMap<String, Lookup<&'a Secret>>,
    /// The services that the pod may see: of its namespace, and `kubernetes` of `default`; `None` while the
    /// services have not been listed yet.
    pub services: Option<&'a [ServiceLink]>,
}

/// Facts about the pod and the node that variables may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The node's addresses, the primary one first.
    pub host_ips: &'a [IpAddr],
    /// The pod's addresses in the node's order of families.
    pub pod_ips: &'a [IpAddr],
    /// The node's allocatable amounts, which stand in for limits that are not set.
    pub allocatable: &'a Amounts,
}

/// Why there is no environment: the waiting message of `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvError {
    /// The API server defaults the field, so this is a malformed pod.
    #[error("nil pod.spec.enableServiceLinks encountered, cannot construct envvars")]
    NoServiceLinks,
    /// Heals by itself.
    #[error("services have not yet been read at least once, cannot construct envvars")]
    ServicesNotRead,
    /// A required object is absent.
    #[error("{kind} {name:?} not found")]
    ObjectNotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object could not be read.
    #[error("{0}")]
    Lookup(String),
    /// A required key is absent.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyNotFound {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The pod's namespace.
        namespace: String,
        /// The object.
        name: String,
        /// The key.
        key: String,
    },
    /// `fieldRef` names something that variables cannot show.
    #[error("unsupported fieldPath: {0}")]
    FieldPath(String),
    /// `resourceFieldRef` names something that is no resource.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// `resourceFieldRef` names a container that the pod does not have.
    #[error("container {0} not found")]
    ContainerNotFound(String),
    /// The source is of a kind that this agent does not know.
    #[error("environment variable {0}: this kind of source is not supported")]
    Source(String),
}

/// The objects that a container's environment refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Names of ConfigMaps, each once.
    pub config_maps: Vec<String>,
    /// Names of Secrets, each once.
    pub secrets: Vec<String>,
}

/// What must be looked up before [`environment`].
#[must_use]
pub fn references(container: &Container) -> References {
    let mut found = References::default();
    for from in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        found
            .secrets
            .extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|v| v.value_from.as_ref())
    {
        found
            .config_maps
            .extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        found
            .secrets
            .extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    for names in [&mut found.config_maps, &mut found.secrets] {
        names.sort_unstable();
        names.dedup();
    }
    found
}

/// The container's environment, in the order of declaration, service variables last.
///
/// # Errors
/// When a required source is missing.
pub fn environment(
    container: &Container,
    facts: Facts<'_>,
    sources: &Sources<'_>,
) -> Result<Vec<Variable>, EnvError> {
    let services = visible_services(facts.pod, sources)?;
    let mut variables = Variables::default();
    for from in container.env_from.iter().flatten() {
        variables.add_all(from, sources)?;
    }
    for var in container.env.iter().flatten() {
        let value = match (var.value.as_deref().filter(|v| !v.is_empty()), &var.value_from) {
            (Some(text), _) => Some(expand(text, |name| {
                variables
                    .get(name)
                    .or_else(|| services.get(name).map(String::as_bytes))
            })),
            (None, Some(source)) => resolve(&var.name, source, container, facts, sources)?,
            (None, None) => Some(Vec::new()),
        };
        if let Some(value) = value {
            variables.set(&var.name, value);
        }
    }
    for (name, value) in services {
        if variables.get(&name).is_none() {
            variables.set(&name, value.into_bytes());
        }
    }
    Ok(variables.list)
}

fn visible_services(pod: &Pod, sources: &Sources<'_>) -> Result<BTreeMap<String, String>, EnvError> {
    let links = pod
        .spec
        .as_ref()
        .and_then(|s| s.enable_service_links)
        .ok_or(EnvError::NoServiceLinks)?;
    let annotations = pod.metadata.annotations.as_ref();
    let from_file = annotations
        .and_then(|a| a.get("kubernetes.io/config.source"))
        .is_some_and(|source| source != "api");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match sources.services {
        Some(services) => Ok(service_variables(services, namespace, links)),
        None if from_file => Ok(BTreeMap::new()),
        None => Err(EnvError::ServicesNotRead),
    }
}

/// The variables so far; a later value replaces an earlier one in its place.
#[derive(Default)]
struct Variables {
    list: Vec<Variable>,
    places: BTreeMap<String, usize>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.places
            .get(name)
            .map(|place| self.list[*place].value.as_slice())
    }

    fn set(&mut self, name: &str, value: Vec<u8>) {
        match self.places.get(name) {
            Some(place) => self.list[*place].value = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push(Variable {
                    name: name.to_owned(),
                    value,
                });
            }
        }
    }

    fn add_all(&mut self, from: &EnvFromSource, sources: &Sources<'_>) -> Result<(), EnvError> {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(map) = find("configmap", &reference.name, optional, &sources.config_maps)? {
                for (key, value) in map.data.iter().flatten() {
                    self.set(&format!("{prefix}{key}"), value.clone().into_bytes());
                }
            }
        } else if let Some(reference) = &from.secret_ref {
            let optional = reference.optional.unwrap_or(false);
            if let Some(secret) = find("secret", &reference.name, optional, &sources.secrets)? {
                for (key, value) in secret.data.iter().flatten() {
                    self.set(&format!("{prefix}{key}"), value.0.clone());
                }
            }
        }
        Ok(())
    }
}

/// `None`: an optional object that does not exist.
fn find<'a, T>(
    kind: &'static str,
    name: &str,
    optional: bool,
    objects: &BTreeMap<String, Lookup<&'a T>>,
) -> Result<Option<&'a T>, EnvError> {
    match objects.get(name) {
        Some(Lookup::Found(object)) => Ok(Some(object)),
        Some(Lookup::Failed(why)) => Err(EnvError::Lookup(why.clone())),
        Some(Lookup::NotFound) | None if optional => Ok(None),
        Some(Lookup::NotFound) | None => Err(EnvError::ObjectNotFound {
            kind,
            name: name.to_owned(),
        }),
    }
}

/// The value of a variable with a source; `None`: an optional one that is absent, so that there is no variable.
fn resolve(
    name: &str,
    source: &EnvVarSource,
    container: &Container,
    facts: Facts<'_>,
    sources: &Sources<'_>,
) -> Result<Option<Vec<u8>>, EnvError> {
    let namespace = facts.pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        field_value(&field.field_path, facts).map(|value| Some(value.into_bytes()))
    } else if let Some(selector) = &source.resource_field_ref {
        resource_value(selector, container, facts).map(|value| Some(value.into_bytes()))
    } else if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional.unwrap_or(false);
        let map = find("configmap", &r.name, optional, &sources.config_maps)?;
        let missing = || EnvError::KeyNotFound {
            kind: "ConfigMap",
            namespace,
            name: r.name.clone(),
            key: r.key.clone(),
        };
        let value = map
            .and_then(|m| m.data.as_ref())
            .and_then(|d| d.get(&r.key))
            .map(|v| v.clone().into_bytes());
        if value.is_none() && !optional {
            Err(missing())
        } else {
            Ok(value)
        }
    } else if let Some(r) = &source.secret_key_ref {
        let optional = r.optional.unwrap_or(false);
        let secret = find("secret", &r.name, optional, &sources.secrets)?;
        let missing = || EnvError::KeyNotFound {
            kind: "Secret",
            namespace,
            name: r.name.clone(),
            key: r.key.clone(),
        };
        let value = secret
            .and_then(|s| s.data.as_ref())
            .and_then(|d| d.get(&r.key))
            .map(|v| v.0.clone());
        if value.is_none() && !optional {
            Err(missing())
        } else {
            Ok(value)
        }
    } else {
        Err(EnvError::Source(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
