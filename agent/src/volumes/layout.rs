//! Where everything of a pod lies under the agent's root directory: the reference's layout (kubelet-surface.md,
//! section 5), which other programs on the node rely on.

use std::path::{Component, Path, PathBuf};

/// Volumes without content of the API, in the layout's words.
pub(super) const EMPTY_DIR: &str = "kubernetes.io~empty-dir";
/// Directories below `volumes/` whose files belong to the agent: they are removed with what is in them.
pub(super) const OWN_PLUGINS: [&str; 5] = [
    EMPTY_DIR,
    "kubernetes.io~configmap",
    "kubernetes.io~secret",
    "kubernetes.io~downward-api",
    "kubernetes.io~projected",
];
/// The directory of a pod's mounted volumes.
pub(super) const VOLUMES: &str = "volumes";
/// The directory of a pod's block devices.
pub(super) const VOLUME_DEVICES: &str = "volumeDevices";

/// A name that came from the API and is no single path element.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a file")]
pub(crate) struct NameError(String);

/// The agent's directories.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below `root`, the agent's `--root-dir`; symbolic links in it are resolved when it exists, so that its paths are
    /// those of the kernel's mount table.
    #[must_use]
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
        }
    }

    /// `pods/`.
    #[must_use]
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Everything of one pod.
    ///
    /// # Errors
    /// When the UID is no file name.
    pub(crate) fn pod(&self, uid: &str) -> Result<PathBuf, NameError> {
        Ok(self.pods().join(element(uid)?))
    }

    /// A volume of a pod.
    ///
    /// # Errors
    /// When the UID or the name is no file name.
    pub(crate) fn volume(&self, uid: &str, plugin: &str, name: &str) -> Result<PathBuf, NameError> {
        Ok(self.pod(uid)?.join(VOLUMES).join(plugin).join(element(name)?))
    }

    /// The directory whose file `ready` says that a volume is set up.
    pub(super) fn marker(&self, uid: &str, name: &str) -> Result<PathBuf, NameError> {
        Ok(self
            .pod(uid)?
            .join("plugins")
            .join(EMPTY_DIR)
            .join(element(name)?))
    }

    /// Where a sub path of a volume is bound for one mount of one container.
    ///
    /// # Errors
    /// When a name is no file name.
    pub(crate) fn sub_path(
        &self,
        uid: &str,
        volume: &str,
        container: &str,
        index: usize,
    ) -> Result<PathBuf, NameError> {
        let pod = self.pod(uid)?.join("volume-subpaths");
        Ok(pod
            .join(element(volume)?)
            .join(element(container)?)
            .join(index.to_string()))
    }
}

/// A name that is exactly one element of a path.
fn element(name: &str) -> Result<&str, NameError> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(name),
        (Some(_), _) | (None, _) => Err(NameError(name.to_owned())),
    }
}
