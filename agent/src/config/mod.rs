//! The agent's configuration: command line, drop-in files, configuration file, defaults, in this order of strength.
//!
//! ```text
//! --config file -> decode -+
//! --config-dir/*.conf -----+-> merge -> complete (defaults) -> validate -> Settings
//! flags -------------------+
//! ```
//!
//! `fields` is the table of everything that kubelet's configuration knows; `document` works on data by that table;
//! `settings` is the typed result. See <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>.

mod document;
mod duration;
mod error;
mod fields;
pub(crate) mod gates;
mod kind;
mod settings;
mod shown;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod threshold;
mod validate;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

pub(crate) use self::threshold::Threshold;
pub(crate) use self::{error::ConfigError, settings::Settings};
pub(crate) use self::{fields::FIELDS, fields::Field, fields::by_flag, kind::Kind};

/// Hard eviction thresholds unless the user gives others (`pkg/kubelet/eviction/defaults_linux.go`).
const EVICTION_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// Everything that the agent was told, complete and valid.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The name of our Node object: `--hostname-override`, else the host's name in lower case.
    pub(crate) node_name: String,
    /// The machine's own host name.
    pub(crate) hostname: String,
    /// The file that holds (or, after the bootstrap, will hold) the connection to the API server.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The file with the bootstrap token.
    pub(crate) bootstrap_kubeconfig: Option<PathBuf>,
    /// Where pods' directories and plugins live, `/var/lib/kubelet`.
    pub(crate) root_dir: PathBuf,
    /// Where certificates live, `/var/lib/kubelet/pki`.
    pub(crate) cert_dir: PathBuf,
    /// `--node-ip`: none, one, or one of each family; the first is the primary one.
    pub(crate) node_ips: Vec<IpAddr>,
    /// `--node-labels`.
    pub(crate) node_labels: BTreeMap<String, String>,
    /// `--cloud-provider=external`: a cloud controller fills in addresses and removes the `uninitialized` taint.
    pub(crate) external_cloud_provider: bool,
    /// KubeletConfiguration.
    pub(crate) kubelet: Settings,
    /// The command line: every flag and its value, given or not.
    pub(crate) flags: BTreeMap<String, String>,
    /// What was read and ignored; to be logged once.
    pub(crate) notices: Vec<String>,
}

/// The files and flags that make up a KubeletConfiguration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// `--config-dir`.
    pub(crate) dir: Option<PathBuf>,
    /// Flags that mirror fields: path and value.
    pub(crate) flags: Vec<(&'static str, Value)>,
}

/// Read, merge, complete and check; the second value is what was ignored.
pub(crate) fn load(sources: &Sources) -> Result<(Settings, Vec<String>), ConfigError> {
    let mut values = Map::new();
    let mut notices = Vec::new();
    let files = sources.file.iter().cloned().chain(match &sources.dir {
        Some(dir) => drop_ins(dir)?,
        None => Vec::new(),
    });
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|source| ConfigError::Unreadable {
            path: file.clone(),
            source,
        })?;
        let layer = document::decode(&text, &file.display().to_string())?;
        document::merge(&mut values, layer.values);
        notices.extend(layer.notices);
    }
    for (path, value) in &sources.flags {
        match (document::get(&values, path), value) {
            // The reference merges gates of the command line with those of the file; all else is replaced.
            (Some(Value::Object(old)), Value::Object(new)) if *path == "featureGates" => {
                let mut merged = old.clone();
                merged.extend(new.clone());
                document::set(&mut values, path, Value::Object(merged));
            }
            _ => document::set(&mut values, path, value.clone()),
        }
    }
    let settings = finish(values, &mut notices)?;
    Ok((settings, notices))
}

/// From merged values to settings.
fn finish(mut values: Map<String, Value>, notices: &mut Vec<String>) -> Result<Settings, ConfigError> {
    document::complete(&mut values);
    validate::check(&values)?;
    let ignored = document::not_honoured(&values);
    if !ignored.is_empty() {
        notices.push(format!(
            "these configuration fields have no effect yet: {}",
            ignored.join(", ")
        ));
    }
    // The table checked every value, so what is left are rules of the typed form, e.g. a name server's address.
    let mut settings: Settings = serde_json::from_value(Value::Object(values.clone()))
        .map_err(|error| ConfigError::Invalid(vec![error.to_string()]))?;
    settings.document = values;
    Ok(settings)
}

/// The drop-in files below a directory, sorted by path.
fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: dir.to_owned(),
        source,
    };
    let mut files = Vec::new();
    let mut entries = std::fs::read_dir(dir)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            files.extend(drop_ins(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    Ok(files)
}
