//! The files of a volume with content.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Pod, Secret};

use crate::resources::Amounts;

use super::downward::{self, FieldError};
use super::identity::Identity;
use super::path::{self, PathError};
use super::plan::{Content, Keys, Part, TokenPart, mode};
use super::refs::ObjectKind;

/// Files by their path in the volume; the paths are clean (see [`path::clean`]).
pub type Payload = BTreeMap<String, File>;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// The bytes; may be a secret.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The owner; `None`: root.
    pub user: Option<u32>,
}

/// What the API said about an object.
#[derive(Debug, Clone)]
pub enum Lookup<T> {
    /// It exists.
    Found(Arc<T>),
    /// It does not.
    Missing,
    /// Not known: the request failed, with this message.
    Failed(String),
}

/// What was fetched for the volumes of a pod.
#[derive(Default)]
pub struct Inputs {
    /// By name.
    pub config_maps: HashMap<String, Lookup<ConfigMap>>,
    /// By name.
    pub secrets: HashMap<String, Lookup<Secret>>,
    /// By audience and asked life in seconds; the error is the message.
    pub tokens: HashMap<(String, i64), Result<Vec<u8>, String>>,
}

/// Why the files of a volume cannot be made. All can be repaired from outside, so the caller tries again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The object does not exist and is not optional.
    #[error("{} \"{name}\" not found", kind.word())]
    Missing {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// A key that an item names does not exist in the configMap.
    #[error("configmap references non-existent config key: {0}")]
    MissingConfigKey(String),
    /// A key that an item names does not exist in the secret.
    #[error("references non-existent secret key: {0}")]
    MissingSecretKey(String),
    /// The API server could not be asked.
    #[error("{0}")]
    Fetch(String),
    /// A field of the pod cannot be shown.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A path that does not stay in the volume.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A projection that this agent does not know.
    #[error("projected source {0} is not supported yet")]
    Unsupported(&'static str),
}

impl std::fmt::Debug for File {
    /// Without the bytes: they may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "File({} bytes, {:o}, {:?})",
            self.data.len(),
            self.mode,
            self.user
        )
    }
}

/// The files of a volume.
///
/// # Errors
/// Every part that cannot be made, not only the first.
pub fn payload(
    content: &Content<'_>,
    pod: &Pod,
    inputs: &Inputs,
    allocatable: &Amounts,
) -> Result<Payload, Vec<PayloadError>> {
    let mut files = Payload::new();
    let mut errors = Vec::new();
    for part in &content.parts {
        let made = match part {
            Part::ConfigMap(keys) => config_map(keys, content.default_mode, inputs),
            Part::Secret(keys) => secret(keys, content.default_mode, inputs),
            Part::Downward(items) => downward::files(items, pod, content.default_mode, allocatable),
            Part::Token(wanted) => token(wanted, content.default_mode, Identity::of(pod), inputs),
            Part::Unsupported(word) => Err(vec![PayloadError::Unsupported(word)]),
        };
        match made {
            Ok(part) => files.extend(part),
            Err(mut failed) => errors.append(&mut failed),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let cleaned: Result<Payload, PathError> = files
        .into_iter()
        .map(|(path, file)| Ok((path::clean(&path)?, file)))
        .collect();
    cleaned.map_err(|error| vec![error.into()])
}

type Files = Vec<(String, File)>;

fn config_map(keys: &Keys<'_>, default_mode: u32, inputs: &Inputs) -> Result<Files, Vec<PayloadError>> {
    let Some(map) = find(ObjectKind::ConfigMap, keys, &inputs.config_maps)? else {
        return Ok(Vec::new());
    };
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(keys, default_mode, text.chain(binary).collect())
        .map_err(|key| vec![PayloadError::MissingConfigKey(key)])
}

fn secret(keys: &Keys<'_>, default_mode: u32, inputs: &Inputs) -> Result<Files, Vec<PayloadError>> {
    let Some(secret) = find(ObjectKind::Secret, keys, &inputs.secrets)? else {
        return Ok(Vec::new());
    };
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(keys, default_mode, data.collect()).map_err(|key| vec![PayloadError::MissingSecretKey(key)])
}

/// The object, or `None` when it is missing and may be.
fn find<'a, T>(
    kind: ObjectKind,
    keys: &Keys<'_>,
    known: &'a HashMap<String, Lookup<T>>,
) -> Result<Option<&'a T>, Vec<PayloadError>> {
    match known.get(keys.name) {
        Some(Lookup::Found(object)) => Ok(Some(object)),
        Some(Lookup::Failed(message)) => Err(vec![PayloadError::Fetch(message.clone())]),
        Some(Lookup::Missing) | None if keys.optional => Ok(None),
        Some(Lookup::Missing) | None => Err(vec![PayloadError::Missing {
            kind,
            name: keys.name.to_owned(),
        }]),
    }
}

/// All keys, or those that the items name. The error is the missing key.
fn select(keys: &Keys<'_>, default_mode: u32, data: BTreeMap<&str, &[u8]>) -> Result<Files, String> {
    let file = |bytes: &[u8], mode| File {
        data: bytes.to_vec(),
        mode,
        user: None,
    };
    if keys.items.is_empty() {
        return Ok(data
            .into_iter()
            .map(|(key, bytes)| (key.to_owned(), file(bytes, default_mode)))
            .collect());
    }
    let mut files = Files::new();
    for KeyToPath { key, path, mode: own } in keys.items {
        match data.get(key.as_str()) {
            Some(bytes) => files.push((path.clone(), file(bytes, mode(*own).unwrap_or(default_mode)))),
            None if keys.optional => {}
            None => return Err(key.clone()),
        }
    }
    Ok(files)
}

fn token(
    wanted: &TokenPart<'_>,
    default_mode: u32,
    identity: Identity,
    inputs: &Inputs,
) -> Result<Files, Vec<PayloadError>> {
    // With an fsGroup the owner's bits become the group's when the shell sets the ownership: 0600 becomes 0640.
    let mode = if identity.is_known() { 0o600 } else { default_mode };
    match inputs
        .tokens
        .get(&(wanted.audience.to_owned(), wanted.expiration_secs))
    {
        Some(Ok(token)) => {
            let file = File {
                data: token.clone(),
                mode,
                user: identity.user,
            };
            Ok(vec![(wanted.path.to_owned(), file)])
        }
        Some(Err(message)) => Err(vec![PayloadError::Fetch(message.clone())]),
        None => Err(vec![PayloadError::Fetch(
            "failed to fetch token: not requested".to_owned(),
        )]),
    }
}
