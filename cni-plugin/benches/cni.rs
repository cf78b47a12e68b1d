//! How long ADD and DEL take, as a runtime sees it (one process for each call, in a network namespace of its own), and how
//! fast packets then pass.
//!
//! ```text
//! cargo bench -p gantry-cni --bench cni -- [--plugin FILE] [--stock DIR] [--calls N] [--at-once N] [--existing N]
//!     [--only calls|packets]
//! ```
//!
//! Prints tables: the plugin built with it (or that file) and, with `--stock`, the `bridge` and `host-local` plugins of that
//! directory, one after the other and at once, then again beside `--existing` pods; the floor is a process of ours that only
//! says its versions. Packets between two pods are compared with a bridge and veth pairs that `ip` made. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench may fail this way and prints"
)]

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use harness::{Host, Namespace, on_host, ours};
use serde_json::{Value, json};

#[path = "../tests/harness/mod.rs"]
mod harness;
mod packets;

const SUBNET: &str = "10.99.0.0/20";
/// Pods that are there in the first measurement, so that the bridge is.
const FEW: usize = 10;

#[derive(Debug, Clone)]
struct Options {
    plugin: PathBuf,
    stock: Option<PathBuf>,
    calls: usize,
    at_once: usize,
    existing: usize,
    only: Option<String>,
}

fn main() {
    let options = options();
    let wanted = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    println!(
        "load {}",
        std::fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
    if wanted("calls") {
        calls(&options);
    }
    if wanted("packets") {
        packets::compare();
    }
}

fn calls(options: &Options) {
    println!(
        "{} calls one after the other, {} at once",
        options.calls, options.at_once
    );
    println!(
        "| plugin | pods before | ADD p50 | p99 | DEL p50 | p99 | ADD at once p50 | p99 | CPU | DEL at once p50 | p99 | CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    on_host(|host| {
        let config = host.config(SUBNET);
        let bench = Bench {
            host,
            plugin: &options.plugin,
            config,
        };
        bench.row("floor: a process", 0, ["VERSION"; 2], options);
    });
    for masquerade in [true, false] {
        let with = if masquerade { "with" } else { "without" };
        let name = format!("gantry-cni {with} ipMasq");
        measure(&name, &options.plugin, masquerade, options);
        if let Some(stock) = &options.stock {
            let name = format!("bridge + host-local {with} ipMasq");
            measure(&name, &stock.join("bridge"), masquerade, options);
        }
    }
}

fn options() -> Options {
    let mut options = Options {
        plugin: ours(),
        stock: None,
        calls: 100,
        at_once: 100,
        existing: 900,
        only: None,
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
            "--plugin" => options.plugin = words.next().map(PathBuf::from).expect("a file follows"),
            "--stock" => options.stock = words.next().map(PathBuf::from),
            "--only" => options.only = words.next(),
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
        let mut before = Vec::new();
        for existing in [FEW, options.existing] {
            for number in before.len()..existing {
                before.push(Namespace::new());
                bench.timed("ADD", &format!("before{number}"), &before[number]);
            }
            bench.row(name, existing, ["ADD", "DEL"], options);
        }
    });
}

struct Bench<'a> {
    host: &'a Host,
    plugin: &'a Path,
    config: Value,
}

impl Bench<'_> {
    fn row(&self, name: &str, existing: usize, commands: [&str; 2], options: &Options) {
        let pods: Vec<_> = (0..options.calls).map(|_| Namespace::new()).collect();
        let each = |command| -> Vec<_> {
            let one = |(number, pod)| self.timed(command, &format!("c{number}"), pod);
            pods.iter().enumerate().map(one).collect()
        };
        let [adds, dels] = commands.map(each);
        let crowd: Vec<_> = (0..options.at_once).map(|_| Namespace::new()).collect();
        let [adds_at_once, dels_at_once] = commands.map(|command| self.at_once(command, &crowd));
        // Not before: the kernel takes namespaces apart under the lock that ADD and DEL need.
        drop((pods, crowd));
        let columns = [adds, dels].map(|times| quantiles(&times)).join(" | ");
        let bursts = [adds_at_once, dels_at_once].map(|(times, each)| {
            let times = quantiles(&times);
            format!("{times} | {}", millis(each))
        });
        println!("| {name} | {existing} | {columns} | {} |", bursts.join(" | "));
    }

    fn timed(&self, command: &str, container: &str, pod: &Namespace) -> Duration {
        let variables = [
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", pod.path().to_str().unwrap()),
            ("CNI_PATH", self.plugin.parent().unwrap().to_str().unwrap()),
        ];
        let stdin = self.config.to_string();
        let process = self.host.prepare(self.plugin, command, &variables);
        let started = Instant::now();
        let answer = self.host.call_process(process, &stdin);
        let elapsed = started.elapsed();
        assert!(answer.ok, "{}", answer.stdout);
        elapsed
    }

    /// All from the same moment on, each by a thread of its own, as a runtime does. Also the processor time of one call,
    /// which says more than the clock when something else runs.
    fn at_once(&self, command: &str, pods: &[Namespace]) -> (Vec<Duration>, Duration) {
        let start = Barrier::new(pods.len());
        let before = processor_time_of_children();
        let times: Vec<_> = std::thread::scope(|scope| {
            let one = |(number, pod)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    self.timed(command, &format!("p{number}"), pod)
                })
            };
            let calls: Vec<_> = pods.iter().enumerate().map(one).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let used = processor_time_of_children() - before;
        let each = used / u32::try_from(times.len().max(1)).unwrap();
        (times, each)
    }
}

/// Of all that have ended, in steps of 10 ms (`cutime` and `cstime` of proc_pid_stat(5)).
fn processor_time_of_children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    let fields = after_name.split_whitespace().skip(13).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The median and the 99th percentile.
fn quantiles(times: &[Duration]) -> String {
    let [half, most] = [50, 99].map(|percent| quantile(times, percent));
    format!("{} | {}", millis(half), millis(most))
}

fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    let at = (times.len().max(1) - 1) * percent / 100;
    times.get(at).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
