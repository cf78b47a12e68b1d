//! Lifecycle hooks: what they did that nobody asked for.

use gantry_chassis::metrics::Registrar;
use prometheus::IntCounter;

use super::unseen;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct HookMetrics {
    /// An HTTPS hook was answered in the clear.
    pub(crate) fallbacks: IntCounter,
    /// A `sleep` did not last as long as it should.
    pub(crate) short_sleeps: IntCounter,
}

impl HookMetrics {
    pub(super) fn new(series: Registrar<'_>) -> Self {
        Self {
            fallbacks: series.counter(
                "kubelet_lifecycle_handler_http_fallbacks_total",
                "The number of times lifecycle handlers successfully fell back to http from https.",
            ),
            short_sleeps: series.counter(
                "kubelet_sleep_action_terminated_early_total",
                "The number of times lifecycle sleep handler got terminated before it finishes",
            ),
        }
    }
}

impl Default for HookMetrics {
    fn default() -> Self {
        unseen(Self::new)
    }
}
