//! A KubeletConfiguration as data: read, checked against the field table, merged, completed with defaults.
//!
//! Unknown and duplicate fields do not stop the start: as in the reference, strict decoding falls back to lenient
//! decoding for v1beta1, and what was ignored is said once.

use serde_json::{Map, Value};

use super::{
    error::ConfigError,
    fields::{self, FIELDS},
};

/// `apiVersion` of every file.
pub(crate) const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// `kind` of every file.
pub(crate) const KIND: &str = "KubeletConfiguration";

/// One source of configuration: a file or the command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layer {
    /// The fields that it sets; a null takes back what an earlier layer set.
    pub(crate) values: Map<String, Value>,
    /// What was ignored, in words.
    pub(crate) notices: Vec<String>,
}

/// Read a file's text: YAML or JSON. `source` names it in errors.
pub(crate) fn decode(text: &str, source: &str) -> Result<Layer, ConfigError> {
    let mut notices = Vec::new();
    let strict = serde_saphyr::options! {};
    let value: Value = match serde_saphyr::from_str_with_options(text, strict) {
        Ok(value) => value,
        Err(strict_error) => {
            let lenient =
                serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
            let value = serde_saphyr::from_str_with_options(text, lenient).map_err(|source_error| {
                ConfigError::Syntax {
                    source_name: source.into(),
                    source: Box::new(source_error),
                }
            })?;
            notices.push(format!(
                "{source}: a field is set twice, the last one counts: {strict_error}"
            ));
            value
        }
    };
    let Value::Object(mut values) = value else {
        return Err(ConfigError::NotAnObject {
            source_name: source.into(),
        });
    };
    for (key, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let found = values.remove(key);
        if found.as_ref().and_then(Value::as_str) != Some(expected) {
            let found = found.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            return Err(ConfigError::WrongType {
                source_name: source.into(),
                key,
                expected,
                found,
            });
        }
    }
    check(&mut values, "", source, &mut notices)?;
    Ok(Layer { values, notices })
}

/// Check every value below `prefix`; take unknown fields out.
fn check(
    values: &mut Map<String, Value>,
    prefix: &str,
    source: &str,
    notices: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut unknown = Vec::new();
    for (key, value) in values.iter_mut() {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        if let Some(field) = fields::by_path(&path) {
            if !value.is_null() {
                field.kind.check(value).map_err(|allowed| ConfigError::Value {
                    source_name: source.into(),
                    path,
                    value: value.to_string(),
                    allowed,
                })?;
            }
        } else if fields::is_group(&path) {
            match value {
                Value::Null => {}
                Value::Object(inner) => check(inner, &path, source, notices)?,
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    let (value, allowed) = (value.to_string(), "an object".to_owned());
                    return Err(ConfigError::Value {
                        source_name: source.into(),
                        path,
                        value,
                        allowed,
                    });
                }
            }
        } else {
            notices.push(format!("{source}: unknown field {path:?} is ignored"));
            unknown.push(key.clone());
        }
    }
    for key in unknown {
        values.remove(&key);
    }
    Ok(())
}

/// Lay `over` on `base`: JSON merge patch (RFC 7386), as the reference merges drop-in files.
pub(crate) fn merge(base: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (_, Value::Null) => {
                base.remove(&key);
            }
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (_, Value::Object(value)) => {
                let mut fresh = Map::new();
                merge(&mut fresh, value);
                base.insert(key, Value::Object(fresh));
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The value at a dotted path.
pub(crate) fn get<'a>(values: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => values.get(path),
        Some((head, rest)) => get(values.get(head)?.as_object()?, rest),
    }
}

/// Set the value at a dotted path; groups on the way are made.
pub(crate) fn set(values: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            values.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let group = values.entry(head).or_insert_with(|| Value::Object(Map::new()));
            if !group.is_object() {
                *group = Value::Object(Map::new());
            }
            if let Value::Object(inner) = group {
                set(inner, rest, value);
            }
        }
    }
}

/// Fill in defaults, and the few that depend on other fields.
pub(crate) fn complete(values: &mut Map<String, Value>) {
    let given = |values: &Map<String, Value>, path: &str| get(values, path).cloned().filter(|v| !v.is_null());
    let update_frequency = given(values, "nodeStatusUpdateFrequency");
    let report_frequency = given(values, "nodeStatusReportFrequency");
    let is_zero = |path: &str, value: &Option<Value>| match (value, fields::by_path(path)) {
        (Some(value), Some(field)) => field.kind.is_zero(value),
        _ => true,
    };
    if let Some(update) = update_frequency.filter(|v| !is_zero("nodeStatusUpdateFrequency", &Some(v.clone())))
        && is_zero("nodeStatusReportFrequency", &report_frequency)
    {
        set(values, "nodeStatusReportFrequency", update);
    }
    if given(values, "serializeImagePulls").is_none() {
        let parallel = given(values, "maxParallelImagePulls")
            .and_then(|v| v.as_i64())
            .unwrap_or(1);
        set(values, "serializeImagePulls", Value::Bool(parallel < 2));
    }
    if given(values, "podPidsLimit")
        .and_then(|v| v.as_i64())
        .is_some_and(|limit| limit < 0)
    {
        set(values, "podPidsLimit", Value::from(-1));
    }
    complete_eviction(values);
    for field in FIELDS {
        let value = get(values, field.path);
        let missing = value.is_none_or(|v| v.is_null() || (field.zero_is_default && field.kind.is_zero(v)));
        if missing && let Some(text) = field.default {
            let default = field.kind.read(text).unwrap_or(Value::Null);
            set(values, field.path, default);
        }
    }
}

/// `evictionHard`: the reference's thresholds unless the user gave some; with `mergeDefaultEvictionSettings` for
/// each signal by itself.
fn complete_eviction(values: &mut Map<String, Value>) {
    let merge_defaults = get(values, "mergeDefaultEvictionSettings") == Some(&Value::Bool(true));
    let mut hard = match values.get("evictionHard") {
        Some(Value::Object(hard)) => hard.clone(),
        _ => Map::new(),
    };
    if !values.get("evictionHard").is_some_and(Value::is_object) || merge_defaults {
        for (signal, threshold) in super::EVICTION_HARD {
            hard.entry(signal).or_insert_with(|| Value::from(threshold));
        }
    }
    values.insert("evictionHard".to_owned(), Value::Object(hard));
}

/// The fields that are set to something else than the default and that the agent does not act on yet.
pub(crate) fn not_honoured(values: &Map<String, Value>) -> Vec<&'static str> {
    let differs = |field: &fields::Field| {
        let default = field
            .default
            .and_then(|text| field.kind.read(text).ok())
            .unwrap_or(Value::Null);
        get(values, field.path).is_some_and(|value| *value != default && !value.is_null())
    };
    FIELDS
        .iter()
        .filter(|field| !field.honoured && differs(field))
        .map(|field| field.path)
        .collect()
}
