//! The node's own API: what a scrape, a log and an exec cost the agent, and how fast they are.

mod exec;
mod logs;
mod scrape;

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use gantry_tests::cluster::{Machine, NodeApi, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::Extent;
use crate::figures::{Figures, percentile};
use crate::process::Process;

const NODE: &str = "node-1";
/// As many as there are pods beside those of the system on a full node.
const PODS: usize = 100;
const DEADLINE: Duration = secs(180);
/// What they run. They sleep until somebody ends this sleep; then each runs something once a second.
const SLEEP: &str = "sleep 100000";

struct Bench {
    extent: Extent,
    test: Test,
    agent: Process,
    api: NodeApi,
}

/// What was done, how long each took, and what the agent used for all of it.
struct Measured {
    times: Vec<Duration>,
    cpu: Duration,
}

pub(crate) fn measure(extent: Extent) -> Figures {
    let test = Test::start("bench-api");
    if extent == Extent::Full {
        crate::pods::clear_node(&test);
    }
    let bench = Bench {
        extent,
        agent: Process::of("kubelet", NODE),
        api: NodeApi::of_api_server(&test, NODE),
        test,
    };
    let mut figures = Figures::default();
    bench.exec(&mut figures);
    bench.logs(&mut figures);
    bench.create_pods();
    bench.settle();
    bench.scrapes(&mut figures, "100 pods that sleep", "< 10 ms");
    Machine::named(NODE).run(&["pkill", "-x", "-f", SLEEP]);
    bench.settle();
    bench.scrapes(&mut figures, "100 pods that work", "");
    figures.add("agent at the end: RSS", bench.agent.rss_mib(), "MiB", "< 30 MiB");
    figures
}

impl Bench {
    /// Does something several times.
    fn repeat(&self, times: usize, mut work: impl FnMut()) -> Measured {
        let before = self.agent.cpu();
        let times = (0..times).map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        });
        Measured {
            times: times.collect(),
            cpu: self.agent.cpu().saturating_sub(before),
        }
    }

    /// What came before is over: caches are warm, statuses are sent.
    fn settle(&self) {
        std::thread::sleep(self.extent.of(secs(15), secs(1)));
    }

    fn create_pods(&self) {
        let api = self.test.api::<Pod>();
        let count = self.extent.of(PODS, 3);
        let made = stream::iter(0..count).map(|number| {
            let api = api.clone();
            let pod = json!({
                "metadata": {"name": format!("pod-{number}")},
                "spec": {
                    "nodeName": NODE,
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "c",
                        "image": "busybox:1.36",
                        "command": ["sh", "-c", format!("{SLEEP}; while sleep 1; do :; done")],
                    }],
                },
            });
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            async move {
                api.create(&PostParams::default(), &pod)
                    .await
                    .expect("a pod is created")
            }
        });
        let made = made.buffer_unordered(PODS).count();
        self.test
            .cluster
            .within(DEADLINE, made)
            .expect("pods are created");
        poll(DEADLINE, "all pods are ready", || {
            let all = self.test.cluster.request(api.list(&ListParams::default())).ok()?;
            let ready = all.items.iter().filter(|pod| pods::ready(pod)).count();
            (ready >= count).then_some(())
        });
    }
}

impl Measured {
    /// Of one of them, on average.
    fn cpu_millis(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred measurements")]
        let count = self.times.len() as f64;
        self.cpu.as_secs_f64() * 1000.0 / count
    }

    fn add_times(&mut self, figures: &mut Figures, what: &str, target: &str) {
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            figures.add_millis(
                &format!("{what}: {name}"),
                percentile(&mut self.times, part),
                if part < 0.9 { target } else { "" },
            );
        }
    }
}
