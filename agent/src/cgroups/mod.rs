//! The cgroups of pods: `kubepods`, its tiers by quality of service, and one cgroup for each pod, in which the
//! runtime makes those of the containers.
//!
//! ```text
//! <cgroupRoot>/kubepods                      all pods: what the node can allocate
//! ├── pod<uid>                               guaranteed pods
//! ├── burstable/pod<uid>                     shares: the sum of the tier's requests
//! └── besteffort/pod<uid>                    2 shares
//! ```
//!
//! * [`find`]: for those who only look. [`name`]: names, and how the two drivers write them; [`layout`]: where cgroups are, version 1 (also hybrid) or 2;
//!   [`values`]: which files say what; [`systemd`]: slices over D-Bus.
//! * No tasks. Making, changing and removing run on blocking threads, so that one slow cgroup delays nobody else.

mod find;
mod layout;
mod name;
mod systemd;
mod values;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gantry_agent_core::qos::{QosClass, pod_qos};
use gantry_agent_core::resources::{
    CgroupValues, CpuQuota, MIN_SHARES, milli_cpu_to_shares, pod_cgroup, pod_requests,
};
use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

use crate::metrics::{CgroupMetrics, CgroupOperation};
use crate::runtime::CgroupDriver;

pub(crate) use layout::Layout;
use name::CgroupName;
use systemd::{Systemd, SystemdError};

/// A pod's last processes may take this long to go before the removal gives up for now.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);
/// The first and the longest pause between attempts to remove a cgroup that still has processes.
const REMOVAL_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// How cgroups are made, from KubeletConfiguration and the runtime.
#[derive(Debug, Clone)]
pub(crate) struct CgroupsConfig {
    /// What the runtime says, else `cgroupDriver`.
    pub(crate) driver: CgroupDriver,
    /// `cgroupRoot`; empty or `/` is the root.
    pub(crate) root: String,
    /// `cgroupsPerQOS`; without, pods get no cgroup of their own.
    pub(crate) per_qos: bool,
    /// `cpuCFSQuota`, `cpuCFSQuotaPeriod`.
    pub(crate) quota: CpuQuota,
    /// `podPidsLimit`, when positive.
    pub(crate) pod_pids_limit: Option<i64>,
    /// The node's huge page sizes, in bytes.
    pub(crate) hugepage_sizes: Vec<i64>,
}

/// What all pods together may use. `None` leaves it open.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodsLimit {
    /// Thousandths of a CPU: a weight, no limit.
    pub(crate) cpu_milli: i64,
    /// Bytes; with `enforceNodeAllocatable: [pods]` capacity minus reservations.
    pub(crate) memory: Option<i64>,
    /// Processes and threads.
    pub(crate) pids: Option<i64>,
}

/// A cgroup could not be made, changed or removed. Retry.
#[derive(Debug, Error)]
pub(crate) enum CgroupError {
    /// The configured root is not there. Final until the machine or the configuration changes.
    #[error("invalid configuration: cgroup-root {root:?} doesn't exist")]
    NoRoot {
        /// `cgroupRoot`.
        root: String,
    },
    /// A file or folder of the cgroup file system.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel or a parent does not offer a controller.
    #[error("cgroup {} lacks the controllers {missing:?}", path.display())]
    Controllers {
        /// The cgroup.
        path: PathBuf,
        /// Which.
        missing: Vec<String>,
    },
    /// systemd refused or is not there.
    #[error("systemd unit {unit}")]
    Systemd {
        /// The slice.
        unit: String,
        /// Why.
        #[source]
        source: SystemdError,
    },
    /// There are still processes in it.
    #[error("cgroup {name} still has processes")]
    Busy {
        /// Which.
        name: String,
    },
    /// The agent shuts down.
    #[error("the agent is stopping")]
    Stopping,
}

/// The node's pod cgroups. Clones share everything.
#[derive(Clone)]
pub(crate) struct Cgroups {
    shared: Arc<Shared>,
    metrics: CgroupMetrics,
}

struct Shared {
    config: CgroupsConfig,
    layout: Layout,
    systemd: Option<Systemd>,
    /// `kubepods`, below the configured root.
    pods: CgroupName,
    /// What the tiers have now, so that an unchanged value is not written again.
    tiers: Mutex<HashMap<QosClass, u64>>,
}

impl Cgroups {
    pub(crate) fn new(config: CgroupsConfig, layout: Layout) -> Self {
        let systemd = match config.driver {
            CgroupDriver::Systemd => Some(Systemd::default()),
            CgroupDriver::Cgroupfs => None,
        };
        let root = CgroupName::parse(&config.root);
        let pods = if config.per_qos {
            root.child("kubepods")
        } else {
            root
        };
        Self {
            shared: Arc::new(Shared {
                config,
                layout,
                systemd,
                pods,
                tiers: Mutex::default(),
            }),
            metrics: CgroupMetrics::default(),
        }
    }

    /// The same cgroups, with operations on them counted here.
    #[must_use]
    pub(crate) fn counting(self, metrics: CgroupMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Makes `kubepods` and the tiers, and sets what all pods may use; again whenever that changes.
    ///
    /// # Errors
    /// See [`CgroupError`].
    pub(crate) async fn ensure_root(&self, limit: &PodsLimit) -> Result<(), CgroupError> {
        let Shared {
            config, layout, pods, ..
        } = &*self.shared;
        let root = self.path(&CgroupName::parse(&config.root));
        if !layout.exists(&root) {
            return Err(CgroupError::NoRoot {
                root: config.root.clone(),
            });
        }
        if !config.per_qos {
            return Ok(());
        }
        let values = CgroupValues {
            cpu_shares: Some(milli_cpu_to_shares(limit.cpu_milli)),
            memory_limit: limit.memory,
            pids_limit: limit.pids,
            ..CgroupValues::default()
        };
        self.create(pods.clone(), values).await?;
        let shares = |cpu_shares| CgroupValues {
            cpu_shares,
            ..CgroupValues::default()
        };
        self.create(self.tier(QosClass::Burstable), shares(None)).await?;
        self.create(self.tier(QosClass::BestEffort), shares(Some(MIN_SHARES)))
            .await
    }

    /// The cgroup that the pod's sandbox and containers are made in, in the driver's form for CRI.
    pub(crate) fn pod_parent(&self, pod: &Pod) -> String {
        self.path(&self.pod_name(pod))
    }

    /// Makes the pod's cgroup with its limits. One that is there already gets its values again.
    ///
    /// # Errors
    /// See [`CgroupError`].
    pub(crate) async fn create_pod(&self, pod: &Pod) -> Result<(), CgroupError> {
        let config = &self.shared.config;
        if !config.per_qos {
            return Ok(());
        }
        let mut values = pod_cgroup(pod, config.quota);
        values.pids_limit = config.pod_pids_limit.filter(|limit| *limit > 0);
        for size in &config.hugepage_sizes {
            values.hugepage_limits.entry(*size).or_insert(0);
        }
        self.create(self.pod_name(pod), values).await
    }

    /// Removes the pod's cgroup wherever it is. What still runs in it is killed; then waits until it is empty, pausing
    /// longer each time. Success when it is gone.
    ///
    /// # Errors
    /// See [`CgroupError`]; the caller tries again.
    pub(crate) async fn remove_pod(&self, uid: &str) -> Result<(), CgroupError> {
        if !self.shared.config.per_qos {
            return Ok(());
        }
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let name = self.tier(class).child(&format!("pod{uid}"));
            if self.shared.layout.exists(&self.path(&name)) {
                let begun = Instant::now();
                let removed = self.remove(name).await;
                self.metrics.operated(CgroupOperation::Destroy, begun.elapsed());
                removed?;
            }
        }
        Ok(())
    }

    /// Gives the burstable tier the weight of what its pods request.
    ///
    /// # Errors
    /// See [`CgroupError`].
    pub(crate) async fn update_qos<'p>(
        &self,
        pods: impl IntoIterator<Item = &'p Pod>,
    ) -> Result<(), CgroupError> {
        if !self.shared.config.per_qos {
            return Ok(());
        }
        let burstable = pods.into_iter().filter(|pod| pod_qos(pod) == QosClass::Burstable);
        let request = |pod: &Pod| {
            let requests = pod.spec.as_ref().map(pod_requests).unwrap_or_default();
            requests.get("cpu").map_or(0, |cpu| cpu.milli_value())
        };
        let shares = milli_cpu_to_shares(burstable.map(request).fold(0, i64::saturating_add));
        let known = {
            let mut tiers = self.shared.tiers.lock().unwrap_or_else(PoisonError::into_inner);
            tiers.insert(QosClass::Burstable, shares)
        };
        if known == Some(shares) {
            return Ok(());
        }
        let values = CgroupValues {
            cpu_shares: Some(shares),
            ..CgroupValues::default()
        };
        let begun = Instant::now();
        let outcome = self.set(self.tier(QosClass::Burstable), values).await;
        self.metrics.operated(CgroupOperation::Update, begun.elapsed());
        if outcome.is_err() {
            self.shared
                .tiers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&QosClass::Burstable);
        }
        outcome
    }

    /// The UIDs of pods that have a cgroup: after a restart, those whose pods are gone must be removed.
    pub(crate) async fn pods(&self) -> Vec<String> {
        if !self.shared.config.per_qos {
            return Vec::new();
        }
        let this = self.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let classes = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];
            let tiers = classes.map(|class| this.path(&this.tier(class)));
            tiers
                .iter()
                .flat_map(|tier| this.shared.layout.children(tier))
                .collect::<Vec<_>>()
        });
        let mut uids: Vec<String> = listed
            .await
            .unwrap_or_default()
            .iter()
            .filter_map(|c| name::pod_uid(c))
            .collect();
        uids.sort_unstable();
        uids.dedup();
        uids
    }

    fn tier(&self, class: QosClass) -> CgroupName {
        match class {
            QosClass::Guaranteed => self.shared.pods.clone(),
            QosClass::Burstable => self.shared.pods.child("burstable"),
            QosClass::BestEffort => self.shared.pods.child("besteffort"),
        }
    }

    fn pod_name(&self, pod: &Pod) -> CgroupName {
        if !self.shared.config.per_qos {
            return self.shared.pods.clone();
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.tier(pod_qos(pod)).child(&format!("pod{uid}"))
    }

    /// In the driver's form, from the root of the cgroup file system.
    fn path(&self, name: &CgroupName) -> String {
        match self.shared.config.driver {
            CgroupDriver::Systemd => name.systemd_path(),
            CgroupDriver::Cgroupfs => name.cgroupfs_path(),
        }
    }

    async fn create(&self, name: CgroupName, values: CgroupValues) -> Result<(), CgroupError> {
        let begun = Instant::now();
        let outcome = self.make(name, values).await;
        self.metrics.operated(CgroupOperation::Create, begun.elapsed());
        outcome
    }

    async fn make(&self, name: CgroupName, values: CgroupValues) -> Result<(), CgroupError> {
        if let (Some(systemd), Some(unit)) = (&self.shared.systemd, name.slice()) {
            let v2 = self.shared.layout.is_v2();
            let started = systemd
                .start_slice(&unit, &name.parent_slice(), v2, &values)
                .await;
            started.map_err(|source| CgroupError::Systemd { unit, source })?;
        }
        let path = self.path(&name);
        self.blocking(move |layout| layout.create(&path)).await?;
        self.set(name, values).await
    }

    async fn set(&self, name: CgroupName, values: CgroupValues) -> Result<(), CgroupError> {
        if let (Some(systemd), Some(unit)) = (&self.shared.systemd, name.slice()) {
            let set = systemd
                .set_properties(&unit, self.shared.layout.is_v2(), &values)
                .await;
            set.map_err(|source| CgroupError::Systemd { unit, source })?;
        }
        let path = self.path(&name);
        self.blocking(move |layout| layout.set(&path, &values)).await
    }

    async fn remove(&self, name: CgroupName) -> Result<(), CgroupError> {
        let path = self.path(&name);
        let deadline = tokio::time::Instant::now() + REMOVAL_LIMIT;
        let mut pause = REMOVAL_PAUSE.0;
        loop {
            let at = path.clone();
            if self.blocking(move |layout| layout.remove(&at)).await? {
                break;
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(CgroupError::Busy { name: path });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REMOVAL_PAUSE.1);
        }
        if let (Some(systemd), Some(unit)) = (&self.shared.systemd, name.slice()) {
            let stopped = systemd.stop(&unit).await;
            stopped.map_err(|source| CgroupError::Systemd { unit, source })?;
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, CgroupError> + Send + 'static,
    ) -> Result<T, CgroupError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&shared.layout));
        done.await.map_err(|_| CgroupError::Stopping)?
    }
}

#[cfg(test)]
mod tests;
