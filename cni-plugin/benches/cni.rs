//! How long ADD and DEL take, as a runtime sees it: one process for each call, in a network namespace of its own.
//!
//! ```text
//! cargo bench -p gantry-cni --bench cni -- [--stock DIR] [--calls N] [--at-once N] [--existing N]
//! ```
//!
//! Prints a table: the plugin built with it and, with `--stock`, the `bridge` and `host-local` plugins of that directory,
//! each with and without ipMasq. `--existing` pods are added before. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench may fail this way and prints"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::{Answer, Host, Namespace, on_host, ours};
use serde_json::{Value, json};

#[path = "../tests/harness/mod.rs"]
mod harness;

const SUBNET: &str = "10.99.0.0/20";

#[derive(Debug, Clone)]
struct Options {
    stock: Option<PathBuf>,
    calls: usize,
    at_once: usize,
    existing: usize,
}

fn main() {
    let options = options();
    println!(
        "{} calls one after the other, {} at once, {} pods before",
        options.calls, options.at_once, options.existing
    );
    println!(
        "| plugin | ADD p50 | p99 | DEL p50 | p99 | ADD at once p50 | p99 | DEL at once p50 | p99 | all |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for masquerade in [true, false] {
        let with = if masquerade { "with" } else { "without" };
        measure(
            &format!("gantry-cni {with} ipMasq"),
            &ours(),
            masquerade,
            &options,
        );
        if let Some(stock) = &options.stock {
            let plugin = stock.join("bridge");
            measure(
                &format!("bridge + host-local {with} ipMasq"),
                &plugin,
                masquerade,
                &options,
            );
        }
    }
}

fn options() -> Options {
    let mut options = Options {
        stock: None,
        calls: 100,
        at_once: 100,
        existing: 0,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            words
                .next()
                .and_then(|text| text.parse().ok())
                .expect("a number follows")
        };
        match word.as_str() {
            "--calls" => options.calls = number(),
            "--at-once" => options.at_once = number(),
            "--existing" => options.existing = number(),
            "--stock" => options.stock = words.next().map(PathBuf::from),
            // cargo adds it.
            "--bench" => {}
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn measure(name: &str, plugin: &Path, masquerade: bool, options: &Options) {
    on_host(|host| {
        let mut config = host.config(SUBNET);
        config["ipMasq"] = json!(masquerade);
        let bench = Bench { host, plugin, config };
        let before: Vec<_> = (0..options.existing).map(|_| Namespace::new()).collect();
        for (number, pod) in before.iter().enumerate() {
            bench.timed("ADD", &format!("before{number}"), pod);
        }
        let pods: Vec<_> = (0..options.calls).map(|_| Namespace::new()).collect();
        let each = |command| -> Vec<_> {
            let one = |(number, pod)| bench.timed(command, &format!("c{number}"), pod);
            pods.iter().enumerate().map(one).collect()
        };
        let (add, del) = (each("ADD"), each("DEL"));
        drop(pods);
        let pods: Vec<_> = (0..options.at_once).map(|_| Namespace::new()).collect();
        let started = Instant::now();
        let (add_at_once, del_at_once) = (bench.at_once("ADD", &pods), bench.at_once("DEL", &pods));
        let all = started.elapsed();
        let columns = [add, del, add_at_once, del_at_once].map(quantiles).join(" | ");
        println!("| {name} | {columns} | {} |", millis(all));
    });
}

struct Bench<'a> {
    host: &'a Host,
    plugin: &'a Path,
    config: Value,
}

impl Bench<'_> {
    fn timed(&self, command: &str, container: &str, pod: &Namespace) -> Duration {
        let variables = [
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", pod.path().to_str().unwrap()),
            ("CNI_PATH", self.plugin.parent().unwrap().to_str().unwrap()),
        ];
        let stdin = self.config.to_string();
        let started = Instant::now();
        let Answer { ok, stdout } = self.host.call_plugin(self.plugin, command, &stdin, &variables);
        let elapsed = started.elapsed();
        assert!(ok, "{stdout}");
        elapsed
    }

    fn at_once(&self, command: &str, pods: &[Namespace]) -> Vec<Duration> {
        std::thread::scope(|scope| {
            let one = |(number, pod)| scope.spawn(move || self.timed(command, &format!("p{number}"), pod));
            let calls: Vec<_> = pods.iter().enumerate().map(one).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    }
}

/// The median and the 99th percentile.
fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| {
        times
            .get((times.len().max(1) - 1) * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    format!("{} | {}", millis(at(50)), millis(at(99)))
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
