//! What can go wrong with a pod's volumes, and how it reads in events.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use gantry_agent_core::volumes::path::PathError;
use gantry_agent_core::volumes::payload::PayloadError;

use super::layout::NameError;
use super::local::HostPathError;

/// Some volumes of a pod are not there; the others are. Try again later: every cause can go away, except that of a
/// volume whose name, path or options are refused.
#[derive(Debug, thiserror::Error)]
#[error("unmounted volumes={:?}", self.names())]
pub(crate) struct VolumeError {
    /// At least one, in the order of the spec.
    pub failures: Vec<VolumeFailure>,
}

/// One volume that is not there.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} ")]
pub(crate) struct VolumeFailure {
    /// Its name in the pod's spec.
    pub volume: String,
    /// Why.
    #[source]
    pub cause: SetUpError,
}

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    /// Its files cannot be made: objects are missing, or the API server cannot be asked.
    #[error("{}", list(.0))]
    Payload(Vec<PayloadError>),
    /// The path of the node is not what the pod demands.
    #[error(transparent)]
    HostPath(#[from] HostPathError),
    /// A name or path in the spec is refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A mount path in the spec is refused.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The file system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// The volume's directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An emptyDir on a medium that is not disk or memory.
    #[error("storage medium {0:?} is not supported yet")]
    Medium(String),
    /// A kind of volume that this agent cannot mount yet.
    #[error("{0} volumes are not supported yet")]
    Unsupported(&'static str),
    /// A kind of volume that this agent will never mount.
    #[error(
        "{0} volumes are refused: they are removed from Kubernetes for security reasons (CVE-2024-10220)"
    )]
    Refused(&'static str),
    /// The agent shuts down.
    #[error("the agent is stopping")]
    Stopping,
}

impl VolumeError {
    /// The names of the volumes that are not there.
    #[must_use]
    pub(crate) fn names(&self) -> Vec<&str> {
        self.failures
            .iter()
            .map(|failure| failure.volume.as_str())
            .collect()
    }

    /// One message per failed volume, for events with reason `FailedMount`.
    #[must_use]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.failures.iter().map(VolumeFailure::message).collect()
    }
}

impl VolumeFailure {
    /// As the reference writes it: `MountVolume.SetUp failed for volume "config" : configmap "x" not found`.
    #[must_use]
    pub(crate) fn message(&self) -> String {
        let mut text = self.to_string();
        let mut cause: Option<&dyn Error> = Some(&self.cause);
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }
}

/// One error as it is, several as the reference lists them: `[a, b]`.
fn list(errors: &[PayloadError]) -> String {
    match errors {
        [only] => only.to_string(),
        all => {
            let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
            format!("[{}]", texts.join(", "))
        }
    }
}
