//! From the configuration file to settings that are known to be valid.
//!
//! Read as the reference reads it: an unknown field is named in the log and ignored, a wrong value is an error that says which
//! field, which value and what is allowed.

mod complete;
mod duration;
mod file;
mod settings;
mod watch;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use duration::GoDuration;
pub use file::{Conntrack, File};
pub use settings::{DetectLocal, NodePortRule, Settings};
pub use watch::ConfigWatch;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// Why there are no settings. All are final: the file or the command line has to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not YAML, or a value is of the wrong kind.
    #[error("configuration file {path}: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// The same of a configuration that flags make.
    #[error("command line: {0}")]
    CommandLine(String),
    /// A value that has no meaning.
    #[error("configuration field {field}: `{value}` is not allowed, only {allowed}")]
    Invalid {
        /// The field's path.
        field: &'static str,
        /// Its value.
        value: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// The configuration cannot be written down.
    #[error("cannot write the configuration down: {0}")]
    Unwritable(String),
}

/// Where a configuration comes from.
#[derive(Debug)]
enum Source<'a> {
    /// A file's content.
    Text(&'a str),
    /// Fields that the command line set.
    Fields(Value),
}

/// A configuration, and the fields in it that nobody knows.
#[derive(Debug)]
pub struct Loaded {
    /// The content with defaults.
    pub file: File,
    /// Paths of unknown fields.
    pub unknown: Vec<String>,
}

impl Loaded {
    /// Logging is also what flags say.
    ///
    /// # Errors
    /// When a value is not allowed.
    pub fn set_logging(&mut self, flags: &serde_json::Map<String, Value>) -> Result<(), ConfigError> {
        let failed = |error: serde_json::Error| ConfigError::CommandLine(error.to_string());
        let mut logging = serde_json::to_value(&self.file.logging).map_err(failed)?;
        if let Some(fields) = logging.as_object_mut() {
            fields.extend(flags.clone());
        }
        self.file.logging = serde_json::from_value(logging).map_err(failed)?;
        Ok(())
    }
}

/// Reads a configuration file; gives back its content too.
///
/// # Errors
/// When it cannot be read or is no KubeProxyConfiguration.
pub fn load(path: &Path) -> Result<(Loaded, String), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let loaded = parse(Source::Text(&text)).map_err(|problem| ConfigError::Malformed {
        path: path.to_owned(),
        problem,
    })?;
    Ok((loaded, text))
}

/// The configuration that is made of flags alone: an object with the fields that they set.
///
/// # Errors
/// When a value is not allowed.
pub fn of_fields(fields: Value) -> Result<Loaded, ConfigError> {
    parse(Source::Fields(fields)).map_err(ConfigError::CommandLine)
}

fn parse(source: Source<'_>) -> Result<Loaded, String> {
    let mut value: Value = match source {
        Source::Text(text) => serde_saphyr::from_str(text).map_err(|e| format!("is not valid YAML: {e}"))?,
        Source::Fields(mut fields) => {
            fields["apiVersion"] = API_VERSION.into();
            fields["kind"] = KIND.into();
            fields
        }
    };
    drop_nulls(&mut value);
    if !value.is_object() {
        return Err("is not a YAML mapping".to_owned());
    }
    let file: File = serde_path_to_error::deserialize(&value).map_err(|e| {
        let path = e.path().to_string();
        format!("field {path}: {}", e.into_inner())
    })?;
    for (field, found, wanted) in [
        ("apiVersion", &file.api_version, API_VERSION),
        ("kind", &file.kind, KIND),
    ] {
        if found != wanted {
            return Err(format!(
                "field {field}: `{found}` is not allowed, only `{wanted}`"
            ));
        }
    }
    let mut unknown = Vec::new();
    let known = serde_json::to_value(&file).map_err(|e| e.to_string())?;
    collect_unknown(&value, &known, "", &mut unknown);
    Ok(Loaded { file, unknown })
}

/// A field that is `null` is an unset one.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

/// Fields of `found` that are not in `known`, which has every field there is.
fn collect_unknown(found: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    let (Value::Object(found), Value::Object(known)) = (found, known) else {
        return;
    };
    for (name, value) in found {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match known.get(name) {
            Some(known) => collect_unknown(value, known, &path, unknown),
            None => unknown.push(path),
        }
    }
}

#[cfg(test)]
mod tests;
