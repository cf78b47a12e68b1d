//! Makes series and registers them.
//!
//! Names, labels and buckets are constants of the program, so a wrong or doubled one is a bug that the first test that
//! makes the registry finds: these functions panic instead of answering an error that nobody could handle.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::reading::{Reading, Sample};

/// The buckets of Go's client library, in seconds.
pub const DEFAULT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How stable Kubernetes calls a series; its help text begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// May change at any time.
    Alpha,
    /// Changes with a notice.
    Beta,
    /// Stays.
    Stable,
    /// For the reference's own use.
    Internal,
    /// Not one of Kubernetes' series: ours.
    Own,
}

impl Level {
    fn help(self, help: &str) -> String {
        match self {
            Self::Alpha => format!("[ALPHA] {help}"),
            Self::Beta => format!("[BETA] {help}"),
            Self::Stable => format!("[STABLE] {help}"),
            Self::Internal => format!("[INTERNAL] {help}"),
            Self::Own => help.to_owned(),
        }
    }
}

/// Makes series in one registry.
#[derive(Debug, Clone, Copy)]
pub struct Registrar<'a> {
    registry: &'a Registry,
    level: Level,
}

impl<'a> Registrar<'a> {
    /// Series of `registry`, [`Level::Alpha`] like nearly all of Kubernetes'.
    #[must_use]
    pub fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            level: Level::Alpha,
        }
    }

    /// The same registry, for series of another level.
    #[must_use]
    pub fn level(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Registers a collector.
    pub fn add(self, collector: impl Collector + 'static) {
        self.registry
            .register(Box::new(collector))
            .expect("each name is registered once");
    }

    /// A counter.
    #[must_use]
    pub fn counter(self, name: &str, help: &str) -> IntCounter {
        self.made(IntCounter::with_opts(self.opts(name, help)))
    }

    /// A counter for each combination of labels.
    #[must_use]
    pub fn counters(self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.made(IntCounterVec::new(self.opts(name, help), labels))
    }

    /// A gauge.
    #[must_use]
    pub fn gauge(self, name: &str, help: &str) -> Gauge {
        self.made(Gauge::with_opts(self.opts(name, help)))
    }

    /// A gauge for each combination of labels.
    #[must_use]
    pub fn gauges(self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.made(GaugeVec::new(self.opts(name, help), labels))
    }

    /// A gauge that counts.
    #[must_use]
    pub fn count(self, name: &str, help: &str) -> IntGauge {
        self.made(IntGauge::with_opts(self.opts(name, help)))
    }

    /// A gauge that counts, for each combination of labels.
    #[must_use]
    pub fn counts(self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.made(IntGaugeVec::new(self.opts(name, help), labels))
    }

    /// A histogram.
    #[must_use]
    pub fn histogram(self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.made(Histogram::with_opts(self.buckets(name, help, buckets)))
    }

    /// A histogram for each combination of labels.
    #[must_use]
    pub fn histograms(self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        self.made(HistogramVec::new(self.buckets(name, help, buckets), labels))
    }

    /// A gauge whose values are read at each scrape; `read` must not block.
    pub fn reading(
        self,
        name: &str,
        help: &str,
        labels: &[&'static str],
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.add(Reading::new(&self.opts(name, help), labels, read));
    }

    fn opts(self, name: &str, help: &str) -> Opts {
        Opts::new(name, self.level.help(help))
    }

    fn buckets(self, name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
        HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec())
    }

    fn made<C: Collector + Clone + 'static>(self, series: Result<C, prometheus::Error>) -> C {
        let series = series.expect("names, labels and buckets are valid constants");
        self.add(series.clone());
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_leads_the_help_text() {
        let registry = Registry::new();
        let alpha = Registrar::new(&registry);
        alpha.counter("a_total", "An A.").inc();
        alpha.level(Level::Own).gauge("b", "A B.").set(1.5);
        let histogram = alpha.level(Level::Beta).histogram("c_seconds", "A C.", &[1.0]);
        histogram.observe(2.0);
        let text = String::from_utf8(super::super::encode(&registry).expect("valid")).expect("text");
        for line in [
            "# HELP a_total [ALPHA] An A.",
            "# HELP b A B.",
            "# HELP c_seconds [BETA] A C.",
            "c_seconds_bucket{le=\"1\"} 0",
            "c_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
        }
    }
}
