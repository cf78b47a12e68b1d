//! The text of `/metrics/resource`: what metrics-server reads for `kubectl top` and for autoscaling.
//!
//! Each figure carries the time when it was read: metrics-server divides differences by differences.

use jiff::Timestamp;

use super::figures::{Figures, Limits, Memory};
use super::text::{Kind, Stamp, Text, Value, label};

/// What one cgroup uses and may use.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// What it uses.
    pub figures: &'a Figures,
    /// What it may use.
    pub limits: &'a Limits,
}

/// A pod.
#[derive(Debug, Clone)]
pub struct Pod<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its own cgroup, when it has one.
    pub own: Option<Reading<'a>>,
    /// Its running containers.
    pub containers: Vec<Container<'a>>,
}

/// A running container.
#[derive(Debug, Clone)]
pub struct Container<'a> {
    /// Its name in the pod.
    pub name: &'a str,
    /// When it was started.
    pub started: Timestamp,
    /// Its cgroup.
    pub reading: Reading<'a>,
}

/// Everything that one scrape tells.
#[derive(Debug)]
pub struct Resources<'a> {
    /// The root cgroup; `None` when it could not be read.
    pub node: Option<Reading<'a>>,
    /// The pods that run.
    pub pods: &'a [Pod<'a>],
}

type Figure = fn(&Reading<'_>) -> Option<Value>;

/// A family: its name and its help, and what a reading says in it.
struct Family(&'static str, &'static str, Kind, Figure);

const NODE: [Family; 3] = [
    Family(
        "node_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        Kind::Counter,
        cpu,
    ),
    Family(
        "node_memory_working_set_bytes",
        "[STABLE] Current working set of the node in bytes",
        Kind::Gauge,
        working_set,
    ),
    Family(
        "node_swap_usage_bytes",
        "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
        Kind::Gauge,
        swap,
    ),
];

const POD: [Family; 3] = [
    Family(
        "pod_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        Kind::Counter,
        cpu,
    ),
    Family(
        "pod_memory_working_set_bytes",
        "[STABLE] Current working set of the pod in bytes",
        Kind::Gauge,
        working_set,
    ),
    Family(
        "pod_swap_usage_bytes",
        "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        Kind::Gauge,
        swap,
    ),
];

const CONTAINER: [Family; 4] = [
    Family(
        "container_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        Kind::Counter,
        cpu,
    ),
    Family(
        "container_memory_working_set_bytes",
        "[STABLE] Current working set of the container in bytes",
        Kind::Gauge,
        working_set,
    ),
    Family(
        "container_swap_usage_bytes",
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        Kind::Gauge,
        swap,
    ),
    Family(
        "container_swap_limit_bytes",
        "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems",
        Kind::Gauge,
        swap_limit,
    ),
];

const START: (&str, &str) = (
    "container_start_time_seconds",
    "[STABLE] Start time of the container since unix epoch in seconds",
);
const ERROR: (&str, &str) = (
    "resource_scrape_error",
    "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
);

impl Resources<'_> {
    /// The answer.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut text = Text::default();
        let containers: Vec<(String, &Container<'_>)> = self
            .pods
            .iter()
            .flat_map(|pod| {
                let labels = |of: &Container<'_>| labels(Some(of.name), pod);
                pod.containers.iter().map(move |of| (labels(of), of))
            })
            .collect();
        let readings: Vec<(&str, Reading<'_>)> =
            containers.iter().map(|(l, c)| (l.as_str(), c.reading)).collect();
        families(&mut text, &CONTAINER, &readings);
        let mut empty = true;
        for (labels, container) in &containers {
            let started = u64::try_from(container.started.as_nanosecond()).unwrap_or(0);
            if started > 0 {
                if std::mem::take(&mut empty) {
                    text.family(START.0, START.1, Kind::Gauge);
                }
                text.plain(START.0, labels).value(Value::Nanos(started));
            }
        }
        let node: Vec<(&str, Reading<'_>)> = self.node.map(|node| ("", node)).into_iter().collect();
        families(&mut text, &NODE, &node);
        let pods: Vec<(String, Reading<'_>)> = self
            .pods
            .iter()
            .filter_map(|pod| Some((labels(None, pod), pod.own?)))
            .collect();
        let pods: Vec<(&str, Reading<'_>)> = pods.iter().map(|(l, own)| (l.as_str(), *own)).collect();
        families(&mut text, &POD, &pods);
        text.family(ERROR.0, ERROR.1, Kind::Gauge);
        let failed = Value::Number(u64::from(self.node.is_none()));
        text.plain(ERROR.0, "").value(failed);
        text.finish()
    }
}

fn families(text: &mut Text, families: &[Family], readings: &[(&str, Reading<'_>)]) {
    for Family(name, help, kind, of) in families {
        let before = text.len();
        text.family(name, help, *kind);
        let head = text.len();
        for (labels, reading) in readings {
            if let Some(value) = of(reading) {
                let at = Stamp::new(reading.figures.at);
                text.plain(name, labels).value_at(value, &at);
            }
        }
        if text.len() == head {
            text.truncate(before);
        }
    }
}

fn labels(container: Option<&str>, pod: &Pod<'_>) -> String {
    let mut text = String::new();
    if let Some(name) = container {
        label(&mut text, "container", name);
    }
    label(&mut text, "namespace", pod.namespace);
    label(&mut text, "pod", pod.name);
    text
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "one of several figures, some of which may be missing"
)]
fn cpu(of: &Reading<'_>) -> Option<Value> {
    Some(Value::Nanos(of.figures.cpu.usage_ns))
}

fn working_set(of: &Reading<'_>) -> Option<Value> {
    Some(Value::Number(
        of.figures.memory.as_ref().map(Memory::working_set)?,
    ))
}

fn swap(of: &Reading<'_>) -> Option<Value> {
    Some(Value::Number(of.figures.memory?.swap))
}

fn swap_limit(of: &Reading<'_>) -> Option<Value> {
    let swap = of.figures.memory?.swap;
    let limit = super::figures::limited(of.limits.swap)?;
    Some(Value::Number(limit.max(swap)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::figures::Cpu;

    #[test]
    fn every_figure_has_its_time() {
        let figures = Figures {
            cpu: Cpu {
                usage_ns: 1_500_000_000,
                ..Cpu::default()
            },
            memory: Some(Memory {
                usage: 100,
                inactive_file: 40,
                ..Memory::default()
            }),
            ..Figures::new(Timestamp::from_millisecond(7000).unwrap())
        };
        let limits = Limits {
            swap: u64::MAX,
            ..Limits::default()
        };
        let reading = Reading {
            figures: &figures,
            limits: &limits,
        };
        let pod = Pod {
            name: "p",
            namespace: "n",
            own: Some(reading),
            containers: vec![Container {
                name: "c",
                started: Timestamp::from_millisecond(1250).unwrap(),
                reading,
            }],
        };
        let resources = Resources {
            node: Some(reading),
            pods: &[pod],
        };
        let text = String::from_utf8(resources.write()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 7000",
                "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 60 7000",
                "container_swap_usage_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 0 7000",
                "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1.25",
                "node_cpu_usage_seconds_total 1.5 7000",
                "node_memory_working_set_bytes 60 7000",
                "node_swap_usage_bytes 0 7000",
                "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 1.5 7000",
                "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 60 7000",
                "pod_swap_usage_bytes{namespace=\"n\",pod=\"p\"} 0 7000",
                "resource_scrape_error 0",
            ]
        );
        assert!(
            !text.contains("container_swap_limit_bytes"),
            "no limit, no family"
        );
    }
}
