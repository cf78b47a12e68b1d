//! What can go wrong between the agent and the container runtime.

use std::time::Duration;

use thiserror::Error;
use tonic::{Code, Status};

/// A failed call to the container runtime.
#[derive(Debug, Clone, Error)]
pub(crate) enum RuntimeError {
    /// Nothing answers at the endpoint: absent, restarting, or the connection broke during the call. Retry.
    #[error("{operation}: the container runtime cannot be reached: {message}")]
    Unreachable {
        /// The CRI method.
        operation: &'static str,
        /// What the transport says.
        message: String,
    },
    /// The runtime did not answer in time; the operation may still have happened. Retry after a look.
    #[error("{operation}: no answer from the container runtime within {limit:?}")]
    Timeout {
        /// The CRI method.
        operation: &'static str,
        /// The time allowed.
        limit: Duration,
    },
    /// The object that the call is about does not exist. Final.
    #[error("{operation}: not found: {message}")]
    NotFound {
        /// The CRI method.
        operation: &'static str,
        /// The runtime's words.
        message: String,
    },
    /// The runtime does not have this method. Final.
    #[error("{operation}: the container runtime does not implement it")]
    Unimplemented {
        /// The CRI method.
        operation: &'static str,
    },
    /// The runtime refused or failed. Retry with back-off: most causes are outside (image, CNI, disk).
    #[error("{operation}: {message}")]
    Failed {
        /// The CRI method.
        operation: &'static str,
        /// How the runtime classes it.
        code: Code,
        /// The runtime's words, as users see them in pod status and events.
        message: String,
    },
    /// The answer lacks a field that CRI requires. Retry.
    #[error("{operation}: the container runtime's answer lacks {field}")]
    Malformed {
        /// The CRI method.
        operation: &'static str,
        /// What is missing.
        field: &'static str,
    },
}

impl RuntimeError {
    /// From a gRPC status; `limit` is the time that the call was given.
    pub(super) fn new(operation: &'static str, limit: Duration, status: &Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unavailable => Self::Unreachable { operation, message },
            // A broken connection shows as Unknown "transport error" or as Cancelled by the peer.
            Code::Unknown | Code::Internal if is_transport(status) => {
                Self::Unreachable { operation, message }
            }
            Code::DeadlineExceeded => Self::Timeout { operation, limit },
            Code::Cancelled if message.contains("Timeout expired") => Self::Timeout { operation, limit },
            Code::NotFound => Self::NotFound { operation, message },
            Code::Unimplemented => Self::Unimplemented { operation },
            code => Self::Failed {
                operation,
                code,
                message,
            },
        }
    }

    /// The part that a user should read: the runtime's own words when it has some.
    #[must_use]
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Failed { message, .. } | Self::NotFound { message, .. } => message.clone(),
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Unimplemented { .. }
            | Self::Malformed { .. } => self.to_string(),
        }
    }

    /// As Go programs print a gRPC status: what the reference hands to clients of exec, attach, port-forward and run.
    #[must_use]
    pub(crate) fn as_status(&self) -> String {
        let (code, text) = match self {
            Self::Unreachable { message, .. } => (Code::Unavailable, message.as_str()),
            Self::Timeout { .. } => (Code::DeadlineExceeded, "context deadline exceeded"),
            Self::NotFound { message, .. } => (Code::NotFound, message.as_str()),
            Self::Unimplemented { .. } => (Code::Unimplemented, "the runtime does not implement it"),
            Self::Failed { code, message, .. } => (*code, message.as_str()),
            Self::Malformed { .. } => return self.to_string(),
        };
        format!("rpc error: code = {code:?} desc = {text}")
    }

    /// The runtime has too much to do: its limit on sessions that were prepared and not yet begun, for one.
    #[must_use]
    pub(crate) fn is_exhausted(&self) -> bool {
        let exhausted = Code::ResourceExhausted;
        matches!(self, Self::Failed { code, .. } if *code == exhausted)
    }

    /// The object is gone: for a stop or a removal this is success.
    #[must_use]
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The runtime itself is away, which says nothing about the pod.
    #[must_use]
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>())
        || status.message() == "transport error"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_variants() {
        let limit = Duration::from_secs(1);
        let of = |code, message: &str| RuntimeError::new("X", limit, &Status::new(code, message));
        assert!(of(Code::Unavailable, "connect").is_unreachable());
        assert!(of(Code::Unknown, "transport error").is_unreachable());
        assert!(of(Code::NotFound, "no such container").is_not_found());
        assert!(matches!(
            of(Code::DeadlineExceeded, ""),
            RuntimeError::Timeout { .. }
        ));
        assert!(matches!(
            of(Code::Cancelled, "Timeout expired"),
            RuntimeError::Timeout { .. }
        ));
        let failed = of(Code::Unknown, "failed to reserve name");
        assert_eq!(failed.message(), "failed to reserve name");
        assert_eq!(failed.to_string(), "X: failed to reserve name");
        assert_eq!(
            failed.as_status(),
            "rpc error: code = Unknown desc = failed to reserve name"
        );
        assert_eq!(
            of(Code::NotFound, "no such container").as_status(),
            "rpc error: code = NotFound desc = no such container"
        );
        assert!(of(Code::ResourceExhausted, "too many").is_exhausted());
        assert!(!failed.is_exhausted());
    }
}
