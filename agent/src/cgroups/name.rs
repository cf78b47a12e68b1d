//! Names of cgroups, and how the two drivers write them.

/// A cgroup, by the elements of its name: `kubepods`, `burstable`, `pod<uid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CgroupName(Vec<String>);

impl CgroupName {
    /// From `cgroupRoot`: elements separated by slashes.
    pub(super) fn parse(path: &str) -> Self {
        Self(
            path.split('/')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    pub(super) fn child(&self, element: &str) -> Self {
        Self(self.0.iter().cloned().chain([element.to_owned()]).collect())
    }

    /// `/kubepods/burstable/pod<uid>`.
    pub(super) fn cgroupfs_path(&self) -> String {
        format!("/{}", self.0.join("/"))
    }

    /// `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid with underscores>.slice`.
    pub(super) fn systemd_path(&self) -> String {
        let slices: Vec<String> = (1..=self.0.len()).map(|end| slice(&self.0[..end])).collect();
        format!("/{}", slices.join("/"))
    }

    /// The slice's unit name; `None` for the root.
    pub(super) fn slice(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| slice(&self.0))
    }

    /// The unit of the slice above; `-.slice` is systemd's root.
    pub(super) fn parent_slice(&self) -> String {
        match self.0.split_last() {
            Some((_, parents)) if !parents.is_empty() => slice(parents),
            _ => "-.slice".to_owned(),
        }
    }
}

/// A dash separates levels in a slice's name, so those of an element become underscores.
fn slice(elements: &[String]) -> String {
    let escaped: Vec<String> = elements.iter().map(|element| element.replace('-', "_")).collect();
    format!("{}.slice", escaped.join("-"))
}

/// The pod's UID from the name of its cgroup's folder, in either driver's form.
pub(super) fn pod_uid(folder: &str) -> Option<String> {
    match folder.strip_suffix(".slice") {
        None => folder
            .strip_prefix("pod")
            .filter(|uid| !uid.is_empty())
            .map(str::to_owned),
        Some(unit) => {
            let element = unit.rsplit('-').next()?;
            element
                .strip_prefix("pod")
                .filter(|uid| !uid.is_empty())
                .map(|uid| uid.replace('_', "-"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let pod = CgroupName::parse("")
            .child("kubepods")
            .child("burstable")
            .child("pod12-34");
        assert_eq!(pod.cgroupfs_path(), "/kubepods/burstable/pod12-34");
        assert_eq!(
            pod.systemd_path(),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_34.slice"
        );
        assert_eq!(pod.slice().unwrap(), "kubepods-burstable-pod12_34.slice");
        assert_eq!(pod.parent_slice(), "kubepods-burstable.slice");
        assert_eq!(CgroupName::parse("/").cgroupfs_path(), "/");
        assert_eq!(CgroupName::parse("/").systemd_path(), "/");
        assert_eq!(CgroupName::parse("/").slice(), None);
        assert_eq!(CgroupName::parse("").child("kubepods").parent_slice(), "-.slice");
        let below = CgroupName::parse("/node-1").child("kubepods");
        assert_eq!(below.cgroupfs_path(), "/node-1/kubepods");
        assert_eq!(below.systemd_path(), "/node_1.slice/node_1-kubepods.slice");
    }

    #[test]
    fn uids_from_folders() {
        assert_eq!(pod_uid("pod12-34").as_deref(), Some("12-34"));
        assert_eq!(pod_uid("kubepods-pod12_34.slice").as_deref(), Some("12-34"));
        assert_eq!(
            pod_uid("kubepods-burstable-pod12_34.slice").as_deref(),
            Some("12-34")
        );
        for other in [
            "burstable",
            "kubepods-burstable.slice",
            "cri-containerd-x.scope",
            "pod",
            "system.slice",
        ] {
            assert_eq!(pod_uid(other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_folder_is_a_pods_or_not(folder in "(kubepods(-burstable)?-)?pod[0-9a-f_-]{0,8}(\\.slice)?|.{0,20}") {
            if let Some(uid) = pod_uid(&folder) {
                proptest::prop_assert!(!uid.is_empty());
            }
        }

        #[test]
        fn the_uid_of_a_pod_is_read_back(uid in "[0-9a-f]{1,8}(-[0-9a-f]{1,4}){0,3}") {
            let name = CgroupName::parse("/").child("kubepods").child("burstable").child(&format!("pod{uid}"));
            let last = |path: String| path.rsplit_once('/').map(|(_, last)| last.to_owned());
            for path in [name.cgroupfs_path(), name.systemd_path()] {
                let folder = last(path).expect("a path");
                proptest::prop_assert_eq!(pod_uid(&folder), Some(uid.clone()));
            }
        }
    }
}
