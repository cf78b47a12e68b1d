//! Volumes in numbers: how many are wanted, how many are there, how long operations took.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_agent_core::volumes::plan::{Plugin, Source, plans};
use k8s_openapi::api::core::v1::Pod;

use super::{Shared, Volumes};

/// The plugin's name in kubelet's words.
pub(super) fn plugin(source: &Source<'_>) -> &'static str {
    match source {
        Source::EmptyDir { .. } => "kubernetes.io/empty-dir",
        Source::HostPath { .. } => "kubernetes.io/host-path",
        Source::Content(content) => match content.plugin {
            Plugin::ConfigMap => "kubernetes.io/configmap",
            Plugin::Secret => "kubernetes.io/secret",
            Plugin::DownwardApi => "kubernetes.io/downward-api",
            Plugin::Projected => "kubernetes.io/projected",
        },
        Source::Image => "kubernetes.io/image",
        Source::Refused(_) | Source::Unsupported(_) => "N/A",
    }
}

impl Volumes {
    /// A sweep of what pods that are gone had left has ended.
    pub(crate) fn swept(&self, cleaned: u32, failed: u32) {
        self.shared.metrics.swept(cleaned, failed);
    }

    /// By plugin: how many volumes are wanted, how many are there.
    #[must_use]
    pub(crate) fn counts(&self) -> Vec<(&'static str, u32, u32)> {
        let mut counts: BTreeMap<&'static str, (u32, u32)> = BTreeMap::new();
        for known in self.shared.pods().values() {
            for plan in plans(&known.pod) {
                let (wanted, there) = counts.entry(plugin(&plan.source)).or_default();
                *wanted += 1;
                // The runtime mounts images.
                let image = matches!(plan.source, Source::Image);
                *there += u32::from(image || known.mounted.contains(plan.name));
            }
        }
        let flat = counts.into_iter();
        flat.map(|(plugin, (wanted, there))| (plugin, wanted, there))
            .collect()
    }
}

impl Shared {
    /// These volumes of the pod are there.
    pub(super) fn note_mounted<'n>(&self, uid: &str, names: impl Iterator<Item = &'n String>) {
        if let Some(known) = self.pods().get_mut(uid) {
            known.mounted.extend(names.cloned());
        }
    }

    /// All volumes of a pod go in one operation: each takes as long as all.
    pub(super) fn count_unmounts(&self, pod: &Pod, took: Duration, ok: bool) {
        for plan in plans(pod) {
            self.metrics
                .operated(plugin(&plan.source), "volume_unmount", took, ok);
        }
    }
}
