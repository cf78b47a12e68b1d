//! What can go wrong, one enum for each operation.

use std::io;

use thiserror::Error;

/// Why no netlink socket could be opened. Final: the kernel lacks nf_tables or the process may not use it.
#[derive(Debug, Error)]
#[error("cannot open a netfilter netlink socket")]
pub struct OpenError(#[from] pub(crate) io::Error);

/// Why a transaction was not applied. Nothing of it was applied in any case but [`CommitError::NoAnswer`].
#[derive(Debug, Error)]
pub enum CommitError {
    /// The kernel took no message at all (a permission, memory or size limit). Retry makes sense after a pause.
    #[error("cannot send a transaction of {bytes} bytes")]
    Send {
        /// Size of the batch in bytes.
        bytes: usize,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a message and rolled the transaction back. Final for this content.
    #[error("the kernel refused to {action}{detail}")]
    Refused {
        /// The first refused message in words, such as `add elements to set services`.
        action: String,
        /// The kernel's own explanation, with a leading `: `, or empty.
        detail: String,
        /// Its error number: `ENOENT` and `EEXIST` say that our picture of the table is wrong.
        #[source]
        source: io::Error,
    },
    /// The answer could not be read. The state of the table is unknown: list it.
    #[error("no answer to a transaction from the kernel")]
    NoAnswer(#[source] io::Error),
}

impl CommitError {
    /// The kernel's error number, if it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Send { source, .. } | Self::Refused { source, .. } | Self::NoAnswer(source) => {
                source.raw_os_error()
            }
        }
    }
}

impl CommitError {
    /// True if somebody changed a table after the transaction's generation: ask again and decide anew.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.errno() == Some(ERESTART)
    }
}

/// Why a question was not answered. Retry makes sense.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The question could not be sent or the answer not read.
    #[error("cannot ask the kernel for {what}")]
    Io {
        /// What was asked for.
        what: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The tables kept changing while they were listed.
    #[error("the kernel's tables changed during each of {attempts} attempts to list {what}")]
    Unsteady {
        /// What was asked for.
        what: &'static str,
        /// How often it was tried.
        attempts: u32,
    },
}

impl QueryError {
    /// True if the kernel says that there is no such object.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.raw_os_error() == Some(ENOENT),
            Self::Unsteady { .. } => false,
        }
    }
}

/// "Interrupted system call should be restarted", the kernel's answer to a transaction of an older generation.
const ERESTART: i32 = 85;
/// "No such file or directory", the kernel's answer for an object that does not exist.
pub(crate) const ENOENT: i32 = 2;
