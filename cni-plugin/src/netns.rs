//! Network namespaces: opening the container's and working inside it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The magic number of the file system of namespaces (statfs(2)).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Why a namespace is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    /// There is nothing at this path.
    #[error("the network namespace {path} does not exist")]
    Missing {
        /// `CNI_NETNS`.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// It cannot be opened or entered.
    #[error("cannot {verb} the network namespace {path}")]
    Unusable {
        /// What failed.
        verb: &'static str,
        /// `CNI_NETNS`.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The path is something else.
    #[error("CNI_NETNS {path} is not a namespace")]
    NotANamespace {
        /// `CNI_NETNS`.
        path: PathBuf,
    },
    /// The container's namespace is the one we run in.
    #[error(
        "CNI_NETNS {path} is the host's own network namespace: a pod on the host network needs no plugin"
    )]
    Own {
        /// `CNI_NETNS`.
        path: PathBuf,
    },
    /// The thread could not return, so nothing more can be done safely.
    #[error("cannot return from the network namespace {path}")]
    Stuck {
        /// `CNI_NETNS`.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl NamespaceError {
    /// The code of the CNI specification.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Missing { .. } => 3,
            Self::NotANamespace { .. } | Self::Own { .. } => 4,
            Self::Unusable { .. } | Self::Stuck { .. } => 5,
        }
    }
}

/// An open network namespace and the way back.
#[derive(Debug)]
pub(crate) struct Namespace {
    path: PathBuf,
    inner: File,
    own: File,
}

impl Namespace {
    /// Opens the namespace at a path, and checks that it is one and not ours.
    pub(crate) fn open(path: &Path) -> Result<Self, NamespaceError> {
        let failed = |verb, source: io::Error| NamespaceError::Unusable {
            verb,
            path: path.to_owned(),
            source,
        };
        let inner = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => NamespaceError::Missing {
                path: path.to_owned(),
                source,
            },
            _ => failed("open", source),
        })?;
        let kind = rustix::fs::fstatfs(&inner).map_err(|error| failed("inspect", error.into()))?;
        if u64::try_from(kind.f_type).ok() != Some(NSFS_MAGIC) {
            return Err(NamespaceError::NotANamespace {
                path: path.to_owned(),
            });
        }
        let own =
            File::open("/proc/thread-self/ns/net").map_err(|source| failed("leave ours for", source))?;
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let same = identity(&inner).and_then(|inner| Ok(inner == identity(&own)?));
        if same.map_err(|source| failed("inspect", source))? {
            return Err(NamespaceError::Own {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            inner,
            own,
        })
    }

    /// Runs `work` with this thread inside the namespace.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, NamespaceError> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.inner.as_fd(), kind).map_err(|error| NamespaceError::Unusable {
            verb: "enter",
            path: self.path.clone(),
            source: error.into(),
        })?;
        let outcome = work();
        move_into_link_name_space(self.own.as_fd(), kind).map_err(|error| NamespaceError::Stuck {
            path: self.path.clone(),
            source: error.into(),
        })?;
        Ok(outcome)
    }

    /// The descriptor, for netlink.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}
