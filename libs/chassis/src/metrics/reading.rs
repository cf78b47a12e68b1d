//! A gauge that is read when it is scraped.

use prometheus::Opts;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// The values of the labels, in their order, and the value.
pub type Sample = (Vec<String>, f64);

/// See the module's documentation.
pub(super) struct Reading<F> {
    description: Desc,
    read: F,
}

impl<F: Fn() -> Vec<Sample> + Send + Sync> Reading<F> {
    pub(super) fn new(opts: &Opts, labels: &[&'static str], read: F) -> Self {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let description = Desc::new(opts.fq_name(), opts.help.clone(), labels, Default::default());
        Self {
            description: description.expect("names and labels are valid constants"),
            read,
        }
    }
}

impl<F: Fn() -> Vec<Sample> + Send + Sync> Collector for Reading<F> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metric = |(values, value): Sample| {
            let names = self.description.variable_labels.iter();
            let labels = names.zip(values).map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name(name.clone());
                pair.set_value(value);
                pair
            });
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = Metric::default();
            metric.set_label(labels.collect());
            metric.set_gauge(gauge);
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.description.fq_name.clone());
        family.set_help(self.description.help.clone());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric((self.read)().into_iter().map(metric).collect());
        vec![family]
    }
}
