//! The agent's own series: kubelet's, with its names, help texts, labels and buckets, and ours (`gantry_*`).
//!
//! ```text
//! parts of the agent ── count at the transition ──> groups of series (one file each) ─┐
//! parts of the agent <── read at the scrape ─────── `Registrar::reading` ─────────────┴─> pages: /metrics, .../probes, .../slis
//! ```
//!
//! * [`Metrics`] is made once in `run`; each part gets a clone of its group. A group's `Default` counts, but is shown
//!   nowhere: for tests and for parts that nobody scrapes.
//! * Series are bounded: labels have values from small fixed sets. Those that name a pod (`/metrics/probes`) end with
//!   its probes.
//! * Nothing here decides anything.

mod cgroups;
mod hooks;
mod http;
mod images;
mod node;
mod pods;
mod probes;
mod runtime;
mod starts;
pub(crate) mod state;
mod status;
mod volumes;

use gantry_chassis::metrics::{Registrar, Version, encode, feature_gates, standard};
use gantry_kubeapi::Requests;
use prometheus::Registry;

pub(crate) use self::{
    cgroups::{CgroupMetrics, CgroupOperation},
    hooks::HookMetrics,
    http::{Counted, HttpMetrics, Port},
    images::{EnsureImage, ImageMetrics},
    node::{Certificates, NodeMetrics},
    pods::{ContainerKind, Pass, Place, PodMetrics, Standing},
    probes::{ProbeMetrics, ProbeSeries},
    runtime::RuntimeMetrics,
    starts::{Phase, SliStart, StartMetrics},
    status::StatusMetrics,
    volumes::VolumeMetrics,
};
use crate::config::{Config, gates};

/// Buckets of pod starts, in seconds.
const START_SECONDS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

/// All series. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    main: Registry,
    prober: Registry,
    slis: Registry,
    /// Calls of the container runtime, and how its state is kept.
    pub(crate) runtime: RuntimeMetrics,
    /// Pods and their workers.
    pub(crate) pods: PodMetrics,
    /// How long pods take to start.
    pub(crate) starts: StartMetrics,
    /// Images.
    pub(crate) images: ImageMetrics,
    /// Volumes.
    pub(crate) volumes: VolumeMetrics,
    /// Lifecycle hooks.
    pub(crate) hooks: HookMetrics,
    /// Cgroups of pods.
    pub(crate) cgroups: CgroupMetrics,
    /// Status of pods.
    pub(crate) status: StatusMetrics,
    /// Probes of containers.
    pub(crate) probes: ProbeMetrics,
    /// Our Node.
    pub(crate) node: NodeMetrics,
    /// Certificates of the agent.
    pub(crate) certificates: Certificates,
    /// Requests to the agent.
    pub(crate) http: HttpMetrics,
    /// Requests of the agent to the API server.
    pub(crate) requests: Requests,
}

/// What can be scraped here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// `/metrics`
    Main,
    /// `/metrics/probes`
    Probes,
    /// `/metrics/slis`
    Slis,
}

impl Metrics {
    /// Makes and registers them all. Must be called inside a tokio runtime.
    #[must_use]
    pub(crate) fn new(config: &Config) -> Self {
        let (main, prober, slis) = (Registry::new(), Registry::new(), Registry::new());
        let series = Registrar::new(&main);
        let version = Version {
            kubernetes: crate::cli::VERSION,
            own: env!("CARGO_PKG_VERSION"),
        };
        standard(&main, version);
        feature_gates(series, gates::all(&config.kubelet.feature_gates));
        for registry in [&prober, &slis] {
            Registrar::new(registry).add(gantry_chassis::metrics::Process::start_only());
        }
        Self {
            runtime: RuntimeMetrics::new(series),
            pods: PodMetrics::new(series),
            starts: StartMetrics::new(series),
            images: ImageMetrics::new(series),
            volumes: VolumeMetrics::new(series),
            hooks: HookMetrics::new(series),
            cgroups: CgroupMetrics::new(series),
            status: StatusMetrics::new(series),
            probes: ProbeMetrics::new(Registrar::new(&prober)),
            node: NodeMetrics::new(series, config),
            certificates: Certificates::new(series),
            http: HttpMetrics::new(series, Registrar::new(&slis)),
            requests: Requests::new(series),
            main,
            prober,
            slis,
        }
    }

    /// The text of a page.
    ///
    /// # Errors
    /// When a series is malformed, which is a bug.
    pub(crate) fn page(&self, page: Page) -> Result<Vec<u8>, prometheus::Error> {
        encode(match page {
            Page::Main => &self.main,
            Page::Probes => &self.prober,
            Page::Slis => &self.slis,
        })
    }

    /// The registry of `/metrics`, for gauges that are read at the scrape.
    pub(crate) fn series(&self) -> Registrar<'_> {
        Registrar::new(&self.main)
    }
}

/// A group whose series nobody sees.
fn unseen<T>(make: impl FnOnce(Registrar<'_>) -> T) -> T {
    make(Registrar::new(&Registry::new()))
}

#[cfg(test)]
mod tests;
