//! Why the agent's configuration is refused. Every case is final: the user must change something.

use std::path::PathBuf;

/// One refusal; the text names the source, the field, the value and what is allowed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A flag that kubelet does not have.
    #[error("unknown flag: {flag} (see --help)")]
    UnknownFlag {
        /// The flag as typed.
        flag: String,
    },
    /// The command line cannot be read.
    #[error("{0}")]
    CommandLine(String),
    /// A flag's value is not allowed.
    #[error("flag --{flag}: value {value:?} is not allowed: it must be {allowed}")]
    Flag {
        /// The flag without dashes.
        flag: String,
        /// Its value as typed.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// A file or directory cannot be read.
    #[error("cannot read configuration {path}")]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is neither YAML nor JSON.
    #[error("{source_name} is not valid YAML or JSON")]
    Syntax {
        /// The file.
        source_name: String,
        /// Where and why.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// The file holds a list or a single value.
    #[error("{source_name} must hold a KubeletConfiguration object")]
    NotAnObject {
        /// The file.
        source_name: String,
    },
    /// apiVersion or kind is another one.
    #[error("{source_name}: {key} must be {expected:?}, found {found}")]
    WrongType {
        /// The file.
        source_name: String,
        /// `apiVersion` or `kind`.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A value has the wrong type or is outside its range.
    #[error("{source_name}: field {path}: value {value} is not allowed: it must be {allowed}")]
    Value {
        /// The file.
        source_name: String,
        /// Dotted path of the field.
        path: String,
        /// The value as JSON.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// Values that do not fit together, or a rule that one value breaks.
    #[error("invalid configuration: {}", .0.join("; "))]
    Invalid(
        /// Each broken rule, naming field, value and what is allowed.
        Vec<String>,
    ),
}
