//! The pod's own fields as the content of files (`downwardAPI`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, Pod, ResourceFieldSelector};

use crate::env::{EnvError, Facts, resource_value};
use crate::resources::Amounts;

use super::path;
use super::payload::{File, PayloadError};
use super::plan::mode;

/// Why a field cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not among the fields that a volume can show.
    #[error("unsupported fieldPath: {0}")]
    Unsupported(String),
    /// A subscript on a field that is no map.
    #[error("fieldPath \"{0}\" does not support subscript")]
    Subscript(String),
    /// A resource that cannot be shown.
    #[error(transparent)]
    Resource(EnvError),
}

/// The files of a list of items.
pub(crate) fn files(
    items: &[DownwardAPIVolumeFile],
    pod: &Pod,
    default_mode: u32,
    allocatable: &Amounts,
) -> Result<Vec<(String, File)>, Vec<PayloadError>> {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(pod, &field.field_path)
        } else if let Some(resource) = &item.resource_field_ref {
            resource_text(resource, pod, allocatable).map_err(FieldError::Resource)
        } else {
            Ok(String::new())
        };
        match (text, path::clean(&item.path)) {
            (Ok(text), Ok(path)) => {
                let file = File {
                    data: text.into_bytes(),
                    mode: mode(item.mode).unwrap_or(default_mode),
                    user: None,
                };
                files.push((path, file));
            }
            (Err(error), _) => errors.push(error.into()),
            (Ok(_), Err(error)) => errors.push(error.into()),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

/// A container's resource, as the environment of a container shows it; the selector names the container.
fn resource_text(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    allocatable: &Amounts,
) -> Result<String, EnvError> {
    let nobody = Container::default();
    resource_value(
        selector,
        &nobody,
        Facts {
            pod,
            host_ips: &[],
            pod_ips: &[],
            allocatable,
        },
    )
}

/// A field of the pod's metadata as text.
///
/// # Errors
/// When a volume cannot show that field.
pub fn field_value(pod: &Pod, field_path: &str) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    if let Some((map, key)) = field_path
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"))
    {
        let values = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(FieldError::Subscript(field_path.to_owned())),
        };
        return Ok(values
            .as_ref()
            .and_then(|values| values.get(key))
            .cloned()
            .unwrap_or_default());
    }
    match field_path {
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "metadata.name" => Ok(meta.name.clone().unwrap_or_default()),
        "metadata.namespace" => Ok(meta.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Ok(meta.uid.clone().unwrap_or_default()),
        _ => Err(FieldError::Unsupported(field_path.to_owned())),
    }
}

/// Sorted lines `key="value"`, without a newline at the end.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    lines.join("\n")
}

/// A Go string literal, as `strconv.Quote` writes it.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\'' => quoted.push('\''),
            c if u32::from(c) < 0x20 || c == '\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) < 0x1_0000 => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Letters, marks, numbers, punctuation, symbols and the space: the standard library knows, but only tells in its
/// debug format (not as the first character: there it hides marks too).
fn is_printable(c: char) -> bool {
    format!("a{c}").escape_debug().nth(1) != Some('\\')
}
