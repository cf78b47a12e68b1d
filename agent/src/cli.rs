//! The command line: kubelet's flags, read as pflag reads them, made into a [`Config`].
//!
//! Flags that mirror KubeletConfiguration come from the field table; the few that exist only as flags are listed
//! here. `_` and `-` are the same in names; `--flag value`, `--flag=value`, `-v 2`, `-v=2`; a boolean takes its value
//! only after `=`.

use std::{collections::BTreeMap, ffi::OsString, net::IpAddr, path::PathBuf};

use clap::{ArgMatches, Command};
use gantry_chassis::flags::{Line, Refused, last, read, switch, value};

use crate::config::{Config, ConfigError, FIELDS, Field, Kind, Sources, by_flag, load};

/// What `--version` prints; kubeadm reads it.
pub(crate) const VERSION: &str = "v1.36.3";

/// Flags that exist only as flags.
const PLAIN: &[&str] = &[
    "config",
    "config-dir",
    "kubeconfig",
    "bootstrap-kubeconfig",
    "hostname-override",
    "node-ip",
    "cert-dir",
    "cloud-provider",
    "root-dir",
    "node-labels",
];

/// kubelet's flags that change nothing here: accepted, named in the log when given.
const IGNORED: &[&str] = &[
    "runtime-cgroups",
    "image-credential-provider-config",
    "image-credential-provider-bin-dir",
    "lock-file",
    "minimum-container-ttl-duration",
    "maximum-dead-containers-per-container",
    "maximum-dead-containers",
    "experimental-mounter-path",
    "housekeeping-interval",
    "application-metrics-count-limit",
    "boot-id-file",
    "container-hints",
    "containerd",
    "containerd-namespace",
    "event-storage-age-limit",
    "event-storage-event-limit",
    "global-housekeeping-interval",
    "machine-id-file",
    "storage-driver-user",
    "storage-driver-password",
    "storage-driver-host",
    "storage-driver-db",
    "storage-driver-table",
    "storage-driver-buffer-duration",
];

/// As [`IGNORED`], without a value.
const IGNORED_SWITCHES: &[&str] = &[
    "exit-on-lock-contention",
    "experimental-allocatable-ignore-eviction",
    "enable-load-reader",
    "log-cadvisor-usage",
    "storage-driver-secure",
];

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Print this and exit 0.
    Print(String),
    /// Run the agent.
    Run(Box<Config>),
}

/// Read the command line and the files that it names. `args` starts with the program's name; `hostname` is the
/// machine's.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    hostname: &str,
) -> Result<Invocation, ConfigError> {
    let matches = match read(command(), args) {
        Ok(Line::Flags(matches)) => matches,
        Ok(Line::Help(text)) => return Ok(Invocation::Print(text)),
        Err(refused) => {
            return Err(match refused {
                Refused::UnknownFlag(flag) => ConfigError::UnknownFlag { flag },
                Refused::Stray(stray) => {
                    ConfigError::CommandLine(format!("unknown command {stray}: kubelet takes only flags"))
                }
                Refused::NoValue(_) | Refused::Other(_) => ConfigError::CommandLine(refused.to_string()),
            });
        }
    };
    if matches!(last(&matches, "version").as_deref(), Some("true" | "raw")) {
        return Ok(Invocation::Print(format!("Kubernetes {VERSION}\n")));
    }
    Ok(Invocation::Run(Box::new(config(&matches, hostname)?)))
}

fn command() -> Command {
    let mirrors = FIELDS.iter().filter(|field| !field.flag.is_empty()).map(|field| {
        let arg = if field.kind == Kind::Bool {
            switch(field.flag)
        } else {
            value(field.flag)
        };
        match field.flag {
            "v" => arg.short('v').help("log verbosity: 0 to 10"),
            _ => arg.help(format!("{} of the configuration file", field.path)),
        }
    });
    Command::new("kubelet")
        .about("The node agent: runs the pods bound to this machine's node")
        .args(PLAIN.iter().map(|name| value(name)))
        .args(mirrors)
        .args(IGNORED.iter().map(|name| value(name).hide(true)))
        .args(IGNORED_SWITCHES.iter().map(|name| switch(name).hide(true)))
        .arg(switch("version").help("print the version and exit"))
}

fn config(matches: &ArgMatches, hostname: &str) -> Result<Config, ConfigError> {
    let path = |name: &str| {
        last(matches, name)
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    };
    let mut flags = Vec::new();
    for field in FIELDS.iter().filter(|field| by_flag(field.flag).is_some()) {
        if let Some(value) = mirror(matches, field)? {
            flags.push((field.path, value));
        }
    }
    let sources = Sources {
        file: path("config"),
        dir: path("config-dir"),
        flags,
    };
    let (kubelet, mut notices) = load(&sources)?;
    let given: Vec<_> = IGNORED
        .iter()
        .chain(IGNORED_SWITCHES)
        .filter(|name| last(matches, name).is_some())
        .copied()
        .collect();
    if !given.is_empty() {
        notices.push(format!("these flags have no effect: --{}", given.join(", --")));
    }
    let name = last(matches, "hostname-override").unwrap_or_default();
    let name = if name.trim().is_empty() {
        hostname
    } else {
        name.trim()
    };
    Ok(Config {
        node_name: name.to_ascii_lowercase(),
        hostname: hostname.to_owned(),
        kubeconfig: path("kubeconfig"),
        bootstrap_kubeconfig: path("bootstrap-kubeconfig"),
        root_dir: path("root-dir").unwrap_or_else(|| "/var/lib/kubelet".into()),
        cert_dir: path("cert-dir").unwrap_or_else(|| "/var/lib/kubelet/pki".into()),
        node_ips: node_ips(&last(matches, "node-ip").unwrap_or_default())?,
        node_labels: node_labels(matches)?,
        external_cloud_provider: cloud_provider(matches)?,
        kubelet,
        flags: shown(matches),
        notices,
    })
}

/// Every flag with its value, as `/flagz` shows them: the default of those that were not given.
fn shown(matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let own = PLAIN.iter().chain(IGNORED).chain(IGNORED_SWITCHES);
    for name in own {
        let default = match *name {
            "cert-dir" => "/var/lib/kubelet/pki",
            "root-dir" => "/var/lib/kubelet",
            name if IGNORED_SWITCHES.contains(&name) => "false",
            _ => "",
        };
        // Where somebody may have put a secret.
        let hidden = *name == "storage-driver-password";
        let given = last(matches, name).map(|value| if hidden { "CLASSIFIED".to_owned() } else { value });
        flags.insert((*name).to_owned(), given.unwrap_or_else(|| default.to_owned()));
    }
    for field in FIELDS.iter().filter(|field| !field.flag.is_empty()) {
        let given = last(matches, field.flag);
        let value = given.unwrap_or_else(|| field.default.unwrap_or_default().to_owned());
        let list = matches!(field.kind, Kind::StrList | Kind::IntList);
        let hidden = field.flag == "manifest-url-header" && !value.is_empty();
        let value = match (list, hidden) {
            (_, true) => "CLASSIFIED".to_owned(),
            (true, false) => format!("[{value}]"),
            (false, false) => value,
        };
        flags.insert(field.flag.to_owned(), value);
    }
    flags
}

/// The value of a flag that mirrors a field. A repeated list or map grows, everything else is replaced.
fn mirror(matches: &ArgMatches, field: &Field) -> Result<Option<serde_json::Value>, ConfigError> {
    let Some(mut texts) = matches.get_many::<String>(field.flag) else {
        return Ok(None);
    };
    let text = match field.kind {
        Kind::StrList
        | Kind::IntList
        | Kind::StrMap(_)
        | Kind::QuantityMap(_)
        | Kind::BoolMap
        | Kind::Taints => texts.cloned().collect::<Vec<_>>().join(","),
        _ => texts.next_back().cloned().unwrap_or_default(),
    };
    let refuse = |allowed| ConfigError::Flag {
        flag: field.flag.to_owned(),
        value: text.clone(),
        allowed,
    };
    let value = field.kind.read(&text).map_err(refuse)?;
    field.kind.check(&value).map_err(refuse)?;
    Ok(Some(value))
}

/// One address, or one of each family; `0.0.0.0` and `::` only choose a family, which is what no address does too
/// for IPv4.
fn node_ips(text: &str) -> Result<Vec<IpAddr>, ConfigError> {
    let refuse = || ConfigError::Flag {
        flag: "node-ip".into(),
        value: text.into(),
        allowed: "an IP address, or one IPv4 and one IPv6 address separated by a comma".into(),
    };
    let ips: Vec<IpAddr> = text
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| part.trim().parse().map_err(|_| refuse()))
        .collect::<Result<_, _>>()?;
    match ips.as_slice() {
        [] | [_] => Ok(ips),
        [first, second] if first.is_ipv4() != second.is_ipv4() => Ok(ips),
        _ => Err(refuse()),
    }
}

fn cloud_provider(matches: &ArgMatches) -> Result<bool, ConfigError> {
    match last(matches, "cloud-provider").unwrap_or_default().as_str() {
        "" => Ok(false),
        "external" => Ok(true),
        other => Err(ConfigError::Flag {
            flag: "cloud-provider".into(),
            value: other.into(),
            allowed: "\"\" or \"external\"".into(),
        }),
    }
}

fn node_labels(matches: &ArgMatches) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut labels = BTreeMap::new();
    for text in matches.get_many::<String>("node-labels").into_iter().flatten() {
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (key.trim(), value.trim());
            label_allowed(key, value).map_err(|allowed| ConfigError::Flag {
                flag: "node-labels".into(),
                value: pair.into(),
                allowed,
            })?;
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(labels)
}

/// Labels of the domains kubernetes.io and k8s.io that a node may give itself (KEP-279).
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

fn label_allowed(key: &str, value: &str) -> Result<(), String> {
    let (domain, name) = key.split_once('/').unwrap_or(("", key));
    let in_domain = |root: &str| domain == root || domain.ends_with(&format!(".{root}"));
    let reserved = in_domain("kubernetes.io") || in_domain("k8s.io");
    let own =
        in_domain("kubelet.kubernetes.io") || in_domain("node.kubernetes.io") || OWN_LABELS.contains(&key);
    let part = |text: &str| {
        text.len() <= 63
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let is_domain = domain.len() <= 253
        && domain
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
    if reserved && !own {
        return Err(format!(
            "in the domains kubernetes.io and k8s.io below kubelet.kubernetes.io or node.kubernetes.io, or one of {}",
            OWN_LABELS.join(", ")
        ));
    }
    if !part(name)
        || !is_domain
        || (key.contains('/') && domain.is_empty())
        || !(value.is_empty() || part(value))
    {
        return Err("a label key=value of at most 63 letters, digits, '-', '_' and '.' each".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
