//! Where the cgroups of pods are, for those who only look.

use gantry_agent_core::qos::QosClass;

use super::{Cgroups, Layout};

impl Cgroups {
    /// The cgroup file systems.
    pub(crate) fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// The cgroup of all pods, from the root of the cgroup file system.
    pub(crate) fn pods_root(&self) -> String {
        self.path(&self.shared.pods)
    }

    /// The cgroups between that and the pods; none when pods have no cgroup of their own.
    pub(crate) fn tiers(&self) -> Vec<String> {
        if !self.shared.config.per_qos {
            return Vec::new();
        }
        [QosClass::BestEffort, QosClass::Burstable]
            .map(|class| self.path(&self.tier(class)))
            .into()
    }

    /// The pod's cgroup, wherever it is; `None` when there is none.
    pub(crate) fn find_pod(&self, uid: &str) -> Option<String> {
        if !self.shared.config.per_qos {
            return None;
        }
        let names = [QosClass::Burstable, QosClass::BestEffort, QosClass::Guaranteed]
            .map(|class| self.path(&self.tier(class).child(&format!("pod{uid}"))));
        names.into_iter().find(|path| self.shared.layout.exists(path))
    }

    /// The names of the cgroups right below one, in the tree where memory is accounted.
    pub(crate) fn below(&self, path: &str) -> Vec<String> {
        let folder = self.shared.layout.folder("memory", path);
        let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
        let folders = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}
