//! The call: which command, for which container, from the environment variables of the CNI specification ("Parameters").

use std::path::{Path, PathBuf};

use crate::owner::Owner;

/// A command with the parameters that it needs, all validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Attach a container to the network.
    Add(Attachment),
    /// Detach it.
    Del(Attachment),
    /// Verify an attachment.
    Check(Attachment),
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Say whether ADD could work.
    Status,
    /// Say which versions are spoken.
    Version,
}

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// `CNI_CONTAINERID`.
    pub(crate) container: String,
    /// `CNI_IFNAME`, the name inside the container.
    pub(crate) ifname: String,
    /// `CNI_NETNS`; absent only at DEL, when the runtime no longer knows it.
    pub(crate) netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub(crate) args: CniArgs,
}

/// What we use of `CNI_ARGS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CniArgs {
    /// `IP`: the address to take.
    pub(crate) ip: Option<String>,
    /// `MAC`: the hardware address to take.
    pub(crate) mac: Option<String>,
    /// `K8S_POD_NAMESPACE`, `K8S_POD_NAME` and `K8S_POD_UID`: whose sandbox it is.
    pub(crate) pod: PodArgs,
}

/// The pod, as far as the runtime says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodArgs {
    /// Its namespace.
    pub(crate) namespace: Option<String>,
    /// Its name.
    pub(crate) name: Option<String>,
    /// Its UID.
    pub(crate) uid: Option<String>,
}

/// Why the environment is not a request.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvironmentError {
    /// A variable that this command needs is not set.
    #[error("the environment variable {0} is missing")]
    Missing(&'static str),
    /// A variable has a value outside of its rules.
    #[error("the environment variable {name} has the value {value:?}: {rule}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
}

impl Command {
    /// Reads the command. `variable` answers the value of an environment variable.
    pub(crate) fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let command = variable("CNI_COMMAND").filter(|value| !value.is_empty());
        let command = command.ok_or(EnvironmentError::Missing("CNI_COMMAND"))?;
        Ok(match command.as_str() {
            "ADD" => Self::Add(Attachment::parse(&variable, true)?),
            "DEL" => Self::Del(Attachment::parse(&variable, false)?),
            "CHECK" => Self::Check(Attachment::parse(&variable, true)?),
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => {
                return Err(EnvironmentError::Invalid {
                    name: "CNI_COMMAND",
                    value: command,
                    rule: "use ADD, DEL, CHECK, GC, STATUS or VERSION",
                });
            }
        })
    }
}

impl Attachment {
    fn parse(
        variable: &impl Fn(&str) -> Option<String>,
        needs_netns: bool,
    ) -> Result<Self, EnvironmentError> {
        let present = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let container = present("CNI_CONTAINERID").ok_or(EnvironmentError::Missing("CNI_CONTAINERID"))?;
        if !is_identifier(&container) {
            return Err(EnvironmentError::Invalid {
                name: "CNI_CONTAINERID",
                value: container,
                rule: "it starts with a letter or digit and has only letters, digits, '_', '.' and '-'",
            });
        }
        let ifname = present("CNI_IFNAME").ok_or(EnvironmentError::Missing("CNI_IFNAME"))?;
        if !is_interface_name(&ifname) {
            return Err(EnvironmentError::Invalid {
                name: "CNI_IFNAME",
                value: ifname,
                rule: INTERFACE_NAME_RULE,
            });
        }
        let netns = present("CNI_NETNS").map(PathBuf::from);
        if needs_netns && netns.is_none() {
            return Err(EnvironmentError::Missing("CNI_NETNS"));
        }
        let args = CniArgs::parse(&present("CNI_ARGS").unwrap_or_default())?;
        Ok(Self {
            container,
            ifname,
            netns,
            args,
        })
    }

    /// The namespace, of a command that cannot do without.
    pub(crate) fn netns(&self) -> Result<&Path, EnvironmentError> {
        self.netns
            .as_deref()
            .ok_or(EnvironmentError::Missing("CNI_NETNS"))
    }

    /// The key of everything that belongs to this attachment.
    pub(crate) fn owner(&self) -> Owner {
        Owner::new(&self.container, &self.ifname)
    }
}

impl CniArgs {
    /// `KEY=VALUE;KEY=VALUE`. Unknown keys need `IgnoreUnknown`, as in the CNI conventions.
    fn parse(text: &str) -> Result<Self, EnvironmentError> {
        let invalid = |rule| EnvironmentError::Invalid {
            name: "CNI_ARGS",
            value: text.to_owned(),
            rule,
        };
        let given = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let mut args = Self::default();
        let (mut unknown, mut ignore_unknown) = (false, false);
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(invalid("each part is KEY=VALUE"))?;
            match key {
                "IP" => args.ip = Some(value.to_owned()),
                "MAC" => args.mac = Some(value.to_owned()),
                "K8S_POD_NAMESPACE" => args.pod.namespace = given(value),
                "K8S_POD_NAME" => args.pod.name = given(value),
                "K8S_POD_UID" => args.pod.uid = given(value),
                "IgnoreUnknown" => ignore_unknown = matches!(value, "1" | "true" | "True" | "TRUE"),
                _ => unknown = true,
            }
        }
        if unknown && !ignore_unknown {
            return Err(invalid(
                "known keys are IP, MAC and those of a pod; add IgnoreUnknown=1 to allow others",
            ));
        }
        Ok(args)
    }
}

/// The rule of [`is_interface_name`], in words.
pub(crate) const INTERFACE_NAME_RULE: &str =
    "1 to 15 printable ASCII characters, not '.' or '..', without '/', ':' and spaces";

/// Whether the kernel accepts this as the name of an interface (and it is safe as a path element).
pub(crate) fn is_interface_name(name: &str) -> bool {
    let printable = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    (1..=15).contains(&name.len()) && printable && name != "." && name != ".."
}

/// Whether this is a container identifier or network name of the CNI specification. Safe as a path element.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && name.len() <= 255
}

#[cfg(test)]
mod tests;
