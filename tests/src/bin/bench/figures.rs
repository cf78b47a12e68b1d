//! What was measured, with the target beside it, and the table of two such runs.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The figures of one run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures(Vec<Figure>);

#[derive(Debug, Serialize, Deserialize)]
struct Figure {
    what: String,
    value: f64,
    unit: String,
    /// What ours should be, in words.
    target: String,
}

impl Figures {
    pub(crate) fn add(&mut self, what: &str, value: f64, unit: &str, target: &str) {
        eprintln!("  {what}: {value:.2} {unit}");
        self.0.push(Figure {
            what: what.into(),
            value,
            unit: unit.into(),
            target: target.into(),
        });
    }

    pub(crate) fn add_time(&mut self, what: &str, value: Duration, target: &str) {
        self.add(what, value.as_secs_f64(), "s", target);
    }

    pub(crate) fn add_millis(&mut self, what: &str, value: Duration, target: &str) {
        self.add(what, value.as_secs_f64() * 1000.0, "ms", target);
    }

    pub(crate) fn write(&self, path: &str) {
        let text = serde_json::to_string(self).expect("figures are plain data");
        std::fs::write(path, text).expect("the file for the figures can be written");
    }

    /// None when that side has not been measured yet.
    pub(crate) fn read(path: &str) -> Self {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            text => serde_json::from_str(&text.expect("the file can be read")).expect("the file has figures"),
        }
    }
}

/// Both runs as a Markdown table.
pub(crate) fn table(ours: &Figures, reference: &Figures) -> String {
    let mut text = "| what | gantry | reference | ratio | target |\n|---|---:|---:|---:|---|\n".to_owned();
    for figure in &ours.0 {
        let other = reference
            .0
            .iter()
            .find(|other| other.what == figure.what)
            .map(|other| other.value);
        let Figure {
            what,
            value,
            unit,
            target,
        } = figure;
        // What only one side has, or has nothing of, is compared with nothing.
        let ratio = other.filter(|other| *other != 0.0);
        let ratio = ratio.map_or_else(|| "-".to_owned(), |other| format!("{:.2}", value / other));
        let other = other.map_or_else(|| "-".to_owned(), |other| format!("{other:.2} {unit}"));
        let _ = writeln!(
            text,
            "| {what} | {value:.2} {unit} | {other} | {ratio} | {target} |"
        );
    }
    text
}

/// The value below which that part (0 to 1) of them lies.
pub(crate) fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a few hundred measurements"
    )]
    let index = ((times.len() as f64 - 1.0) * part).round() as usize;
    times.get(index).copied().unwrap_or_default()
}
