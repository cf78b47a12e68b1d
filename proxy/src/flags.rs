//! The command line: kube-proxy's flags, read as pflag reads them.
//!
//! Flags that mirror a field of the configuration file make a configuration of their own; with `--config` they have no effect, but for
//! those of logging. `_` and `-` are the same in names; `--flag value`, `--flag=value`; a boolean takes its value only after `=`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use gantry_chassis::flags::{Line, Refused, last, read, switch, value};
use serde_json::{Map, Value};

use crate::REFERENCE_VERSION;
use crate::config::{ConfigError, File};

mod fields;

use fields::{FIELDS, Field, Kind, NO_EFFECT};

/// Flags with a value that are no field.
const PLAIN: [&str; 8] = [
    "config",
    "write-config-to",
    "hostname-override",
    "master",
    "cni-conf-dir",
    "cni-bin-dir",
    "server-from-kubeconfig",
    "sysctl-net-dir",
];
const SWITCHES: [&str; 5] = ["cleanup", "init-only", "version", NETWORK_POLICY, "stay"];
/// Ours.
const NETWORK_POLICY: &str = "network-policy";

/// Why the command line is refused. Final.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// A flag or argument that nobody knows, or one without its value.
    #[error("{0}")]
    Unknown(String),
    /// A value that the flag does not take.
    #[error("invalid argument {value:?} for --{flag}: {problem}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: String,
    },
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Print this and exit 0.
    Print(String),
    /// Do something.
    Run(Box<Flags>),
}

/// The flags.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Configuration file.
    pub config: Option<PathBuf>,
    /// Write the configuration that is in effect to this file and exit.
    pub write_config_to: Option<PathBuf>,
    /// Remove what this program made in the kernel, with `cni_conf_dir` and `cni_bin_dir` in these, too; and exit.
    pub cleanup: bool,
    /// With `cleanup`, wait until told to exit: a pod that is done and runs. Ours.
    pub stay: bool,
    /// Set kernel settings, and exit.
    pub init_only: bool,
    /// This node's name, if it is not the host's.
    pub hostname_override: Option<String>,
    /// The API server's address instead of the kubeconfig's.
    pub master: Option<String>,
    /// Write the node's CNI configuration to this directory. Ours.
    pub cni_conf_dir: Option<PathBuf>,
    /// Install the CNI plugin that is beside this program in this directory. Ours.
    pub cni_bin_dir: Option<PathBuf>,
    /// A kubeconfig that says where the API server is; identity is that of the pod that this program runs in. Ours.
    pub server_from_kubeconfig: Option<PathBuf>,
    /// Where the kernel's network settings can be written, if not below `/proc/sys/net`. Ours.
    pub sysctl_net_dir: Option<PathBuf>,
    /// Enforce network policies: unless it is said otherwise, where this program also configures the node's network. Ours.
    pub network_policy: bool,
    /// Fields of the configuration that flags set, as an object.
    pub fields: Value,
    /// Those of logging alone.
    pub logging: Map<String, Value>,
    /// Flags that are given and have no effect.
    pub without_effect: Vec<&'static str>,
    /// Every flag with its value, for `/flagz`.
    pub shown: BTreeMap<String, String>,
}

/// Reads the command line; `args` starts with the program's name.
///
/// # Errors
/// When it is refused.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, FlagError> {
    let matches = match read(command(), args) {
        Ok(Line::Flags(matches)) => matches,
        Ok(Line::Help(text)) => return Ok(Invocation::Print(text)),
        Err(refused) => {
            return Err(FlagError::Unknown(match refused {
                Refused::Stray(stray) => {
                    format!("\"kube-proxy\" does not take any arguments, got {stray:?}")
                }
                Refused::UnknownFlag(_) | Refused::NoValue(_) | Refused::Other(_) => refused.to_string(),
            }));
        }
    };
    if is_on(&matches, "version")? {
        let own = env!("CARGO_PKG_VERSION");
        return Ok(Invocation::Print(format!(
            "Kubernetes {REFERENCE_VERSION} (gantry-proxy {own})\n"
        )));
    }
    Ok(Invocation::Run(Box::new(flags(&matches)?)))
}

fn command() -> Command {
    let of = move |name, kind: Kind| {
        if kind == Kind::Bool {
            switch(name)
        } else {
            value(name)
        }
    };
    let mirrors = FIELDS.iter().map(move |field| match field.flag {
        "v" => value("v").short('v').help("log verbosity: 0 to 10"),
        flag => of(flag, field.kind).help(format!("{} of the configuration file", field.paths[0])),
    });
    Command::new("kube-proxy")
        .about("The service proxy: programs nftables for services, and routes to the other nodes' pods")
        .args(PLAIN.iter().map(|name| value(name)))
        .args(SWITCHES.iter().map(|name| switch(name)))
        .args(mirrors)
        .args(NO_EFFECT.iter().map(|(name, kind)| of(name, *kind).hide(true)))
}

fn is_on(matches: &ArgMatches, name: &'static str) -> Result<bool, FlagError> {
    let Some(value) = last(matches, name) else {
        return Ok(false);
    };
    match Kind::Bool.read(&value) {
        Ok(read) => Ok(read == Value::Bool(true)),
        Err(problem) => Err(FlagError::Value {
            flag: name,
            value,
            problem,
        }),
    }
}

fn flags(matches: &ArgMatches) -> Result<Flags, FlagError> {
    let text = |name: &str| last(matches, name).filter(|text| !text.is_empty());
    let mut fields = Value::Object(Map::new());
    let mut mirrors = Vec::new();
    for field in FIELDS {
        let Some(value) = mirror(matches, field)? else {
            continue;
        };
        if !field.is_logging() {
            mirrors.push(field.flag);
        }
        for path in field.paths {
            put(&mut fields, path, value.clone());
        }
    }
    let path = |name: &str| text(name).map(PathBuf::from);
    let config = path("config");
    let unused = NO_EFFECT
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| last(matches, name).is_some());
    let ignored = mirrors.into_iter().filter(|_| config.is_some());
    let cni_conf_dir = path("cni-conf-dir");
    let network_policy = match last(matches, NETWORK_POLICY) {
        Some(_) => is_on(matches, NETWORK_POLICY)?,
        None => cni_conf_dir.is_some(),
    };
    Ok(Flags {
        network_policy,
        write_config_to: path("write-config-to"),
        cleanup: is_on(matches, "cleanup")?,
        stay: is_on(matches, "stay")?,
        init_only: is_on(matches, "init-only")?,
        hostname_override: text("hostname-override"),
        master: text("master"),
        cni_conf_dir,
        cni_bin_dir: path("cni-bin-dir"),
        server_from_kubeconfig: path("server-from-kubeconfig"),
        sysctl_net_dir: path("sysctl-net-dir"),
        logging: fields["logging"].as_object().cloned().unwrap_or_default(),
        without_effect: unused.chain(ignored).collect(),
        shown: shown(matches),
        config,
        fields,
    })
}

/// The value of a flag that mirrors a field. A repeated list or map grows, everything else is replaced.
fn mirror(matches: &ArgMatches, field: &Field) -> Result<Option<Value>, FlagError> {
    let Some(mut texts) = matches.get_many::<String>(field.flag) else {
        return Ok(None);
    };
    let text = match field.kind {
        Kind::List | Kind::Gates => texts.cloned().collect::<Vec<_>>().join(","),
        Kind::Text | Kind::Bool | Kind::Int | Kind::Float | Kind::Port(_) => {
            texts.next_back().cloned().unwrap_or_default()
        }
    };
    match field.kind.read(&text) {
        Ok(value) => Ok(Some(value)),
        Err(problem) => Err(FlagError::Value {
            flag: field.flag,
            value: text,
            problem,
        }),
    }
}

/// Sets a field by its path.
fn put(object: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        Some((first, rest)) => put(&mut object[first], rest, value),
        None => object[path] = value,
    }
}

/// Every flag with its value, the default of those that were not given.
fn shown(matches: &ArgMatches) -> BTreeMap<String, String> {
    let defaults = File::default().object().unwrap_or_default();
    let default = |field: &Field| {
        let pointer = format!("/{}", field.paths[0].replace('.', "/"));
        match (defaults.pointer(&pointer), field.kind) {
            (_, Kind::Port(address)) => address.rsplit(':').next().unwrap_or_default().to_owned(),
            (None | Some(Value::Null), Kind::List) => "[]".to_owned(),
            (Some(Value::String(text)), _) => text.clone(),
            (None | Some(Value::Null), _) => String::new(),
            (Some(other), _) => other.to_string(),
        }
    };
    let plain = PLAIN.iter().map(|name| (*name, String::new()));
    let switches = SWITCHES.iter().map(|name| (*name, "false".to_owned()));
    let mirrors = FIELDS.iter().map(|field| (field.flag, default(field)));
    let all = plain.chain(switches).chain(mirrors);
    all.map(|(name, default)| (name.to_owned(), last(matches, name).unwrap_or(default)))
        .collect()
}

/// The configuration that flags and file make together, and the file's content.
///
/// # Errors
/// When one of them is not allowed.
pub fn configuration(flags: &Flags) -> Result<(crate::config::Loaded, Option<String>), ConfigError> {
    let Some(path) = &flags.config else {
        return Ok((crate::config::of_fields(flags.fields.clone())?, None));
    };
    let (mut loaded, text) = crate::config::load(path)?;
    loaded.set_logging(&flags.logging)?;
    Ok((loaded, Some(text)))
}

#[cfg(test)]
mod tests;
