//! exec, attach, port-forward and run: what a client asks for, and which container or sandbox it means.
//!
//! In: the query, the pod as wanted and as observed. Out: small types, or the reference's own texts
//! (`NewOptions`, `NewV4Options`, `findContainer` and `GetPortForward` of the kubelet). Pure.
//!
//! [`spdy`], [`v5`]: what is spoken with the runtime and with a client that speaks `v5.channel.k8s.io`.

pub mod spdy;
pub mod v5;

use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

use crate::api::Query;
use crate::observed::{Container, ContainerState, ObservedPod, Sandbox};
use crate::pod;

/// Which of the standard streams a client of exec or attach wants, and whether on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// The client writes.
    pub stdin: bool,
    /// The client reads standard output.
    pub stdout: bool,
    /// The client reads standard error; never on a terminal, which mixes both.
    pub stderr: bool,
    /// On a terminal.
    pub tty: bool,
}

/// A query that cannot be served: 400.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// exec and attach without a stream.
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStream,
    /// A WebSocket port-forward names its ports in the query.
    #[error("query parameter \"port\" is required")]
    NoPort,
    /// `port=`
    #[error("query parameter \"port\" cannot be empty")]
    EmptyPort,
    /// `port=http`, `port=65536`; `text` is the whole parameter.
    #[error("unable to parse {text:?} as a port: strconv.ParseUint: parsing {part:?}: {why}")]
    BadPort {
        /// The parameter.
        text: String,
        /// The part of it between commas.
        part: String,
        /// In the words of Go's `strconv`.
        why: &'static str,
    },
    /// `port=0`
    #[error("port {text:?} must be > 0")]
    PortZero {
        /// The parameter.
        text: String,
    },
}

/// Why there is nothing to stream from or to: 500, as in the reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// exec and run.
    #[error("container not found ({name:?})")]
    NoContainer {
        /// As asked for.
        name: String,
    },
    /// attach.
    #[error("container {name} not found in pod {pod}")]
    NoContainerInPod {
        /// As asked for.
        name: String,
        /// `NAME_NAMESPACE`
        pod: String,
    },
    /// attach with another pod's UID.
    #[error("pod {pod} not found")]
    OtherPod {
        /// `NAME_NAMESPACE`
        pod: String,
    },
    /// port-forward into a pod that has nothing running.
    #[error("pod not found ({pod:?})")]
    NoSandbox {
        /// `NAME_NAMESPACE`
        pod: String,
    },
}

impl Streams {
    /// `input`, `output`, `error` and `tty`, each on when its first value is `1`.
    ///
    /// # Errors
    /// When no stream is wanted.
    pub fn parse(query: &Query) -> Result<Self, QueryError> {
        let on = |name| query.get(name) == Some("1");
        let tty = on("tty");
        let streams = Self {
            stdin: on("input"),
            stdout: on("output"),
            stderr: on("error") && !tty,
            tty,
        };
        if streams.stdin || streams.stdout || streams.stderr {
            Ok(streams)
        } else {
            Err(QueryError::NoStream)
        }
    }
}

/// exec: each `command` is one argument.
#[must_use]
pub fn exec_command(query: &Query) -> Vec<String> {
    query.all("command").map(str::to_owned).collect()
}

/// run: one `cmd`, split at each space.
#[must_use]
pub fn run_command(query: &Query) -> Vec<String> {
    query.text("cmd").split(' ').map(str::to_owned).collect()
}

/// The ports of a WebSocket port-forward: `port=80,81&port=82`. With SPDY they come with the streams instead.
///
/// # Errors
/// When there is none or one is no port.
pub fn ports(query: &Query) -> Result<Vec<i32>, QueryError> {
    let mut ports = Vec::new();
    for text in query.all("port") {
        if text.is_empty() {
            return Err(QueryError::EmptyPort);
        }
        for part in text.split(',') {
            match port(part) {
                Ok(0) => {
                    return Err(QueryError::PortZero {
                        text: text.to_owned(),
                    });
                }
                Ok(port) => ports.push(i32::from(port)),
                Err(why) => {
                    return Err(QueryError::BadPort {
                        text: text.to_owned(),
                        part: part.to_owned(),
                        why,
                    });
                }
            }
        }
    }
    if ports.is_empty() {
        return Err(QueryError::NoPort);
    }
    Ok(ports)
}

/// As Go's `ParseUint` with 16 bits, which takes no sign and tells too large from no number.
fn port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    text.parse().map_err(|_| "value out of range")
}

/// The container that exec and run mean: it runs.
///
/// # Errors
/// When none of that name runs.
pub fn exec_target<'a>(observed: Option<&'a ObservedPod>, name: &str) -> Result<&'a Container, TargetError> {
    running(observed, name).ok_or_else(|| TargetError::NoContainer {
        name: name.to_owned(),
    })
}

/// The container that attach means, and whether it has a terminal: its own specification says so, whatever the client
/// asks for. `uid` is empty when the client did not name one.
///
/// # Errors
/// When none of that name runs, or the pod has another UID.
pub fn attach_target<'a>(
    pod: &Pod,
    observed: Option<&'a ObservedPod>,
    uid: &str,
    name: &str,
) -> Result<(&'a Container, bool), TargetError> {
    let missing = || TargetError::NoContainerInPod {
        name: name.to_owned(),
        pod: full_name(pod),
    };
    let container = running(observed, name).ok_or_else(missing)?;
    if !uid.is_empty() && pod.metadata.uid.as_deref() != Some(uid) {
        return Err(TargetError::OtherPod { pod: full_name(pod) });
    }
    Ok((container, pod::tty(pod, name).ok_or_else(missing)?))
}

/// The sandbox whose network port-forward means.
///
/// # Errors
/// When nothing of the pod runs.
pub fn forward_target<'a>(pod: &Pod, observed: Option<&'a ObservedPod>) -> Result<&'a Sandbox, TargetError> {
    let active = observed.filter(|pod| {
        pod.sandboxes.iter().any(|sandbox| sandbox.ready) || pod.containers.iter().any(is_running)
    });
    active
        .and_then(ObservedPod::sandbox)
        .ok_or_else(|| TargetError::NoSandbox { pod: full_name(pod) })
}

fn running<'a>(observed: Option<&'a ObservedPod>, name: &str) -> Option<&'a Container> {
    let mut containers = observed?.containers.iter();
    containers.find(|container| container.name == name && is_running(container))
}

fn is_running(container: &Container) -> bool {
    match &container.state {
        ContainerState::Running { .. } => true,
        ContainerState::Created | ContainerState::Exited(_) | ContainerState::Unknown => false,
    }
}

fn full_name(pod: &Pod) -> String {
    let [name, namespace] = [&pod.metadata.name, &pod.metadata.namespace];
    format!(
        "{}_{}",
        name.as_deref().unwrap_or_default(),
        namespace.as_deref().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
