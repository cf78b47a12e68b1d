//! Pods: how fast one and a full node's worth start and end, what the agent needs for it, and how fast containerd alone is.

mod floor;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use gantry_tests::cluster::{Machine, Test, pods, secs};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, ResourceExt};

use crate::Extent;
use crate::figures::{Figures, percentile};
use crate::process::Process;

/// A node's default maximum.
const FULL: usize = 110;
const DEADLINE: Duration = secs(180);
const IMAGE: &str = "registry.k8s.io/pause:3.10";

/// A change that the API server told of.
enum Seen {
    Ready(String),
    Gone(String),
}

struct Bench {
    extent: Extent,
    test: Test,
    seen: mpsc::Receiver<(Seen, Instant)>,
}

pub(crate) fn measure(extent: Extent) -> Figures {
    let test = Test::start("bench-pods");
    if extent == Extent::Full {
        clear_node(&test);
    }
    let seen = watch(&test);
    let bench = Bench { extent, test, seen };
    let mut figures = Figures::default();
    bench.one_at_a_time(&mut figures);
    bench.full_node(&mut figures);
    let machine = Machine::named("node-1");
    let _stopped = machine.stop("kubelet");
    floor::measure(&machine, bench.full(), &mut figures);
    figures
}

/// Takes the cluster's own pods away: the node has room for 110.
pub(crate) fn clear_node(test: &Test) {
    for (namespace, name) in [("default", "hello"), ("kube-system", "coredns")] {
        let deployments: Api<Deployment> = Api::namespaced(test.cluster.client(), namespace);
        let patch = serde_json::json!({"spec": {"replicas": 0}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        if let Err(error) = test.cluster.request(deployments.patch(name, &params, &patch)) {
            eprintln!("  {name} stays: {error}");
        }
    }
    let all: Api<Pod> = Api::all(test.cluster.client());
    gantry_tests::cluster::poll(secs(90), "the node is empty", || {
        test.cluster
            .request(all.list(&kube::api::ListParams::default()))
            .ok()?
            .items
            .is_empty()
            .then_some(())
    });
}

fn watch(test: &Test) -> mpsc::Receiver<(Seen, Instant)> {
    let (send, receive) = mpsc::channel();
    let api = test.api::<Pod>();
    test.cluster.spawn(async move {
        let mut events = std::pin::pin!(watcher(api, kube::runtime::watcher::Config::default()));
        while let Some(event) = events.next().await {
            let seen = match event {
                Ok(Event::Apply(pod)) if pods::is(&pod, "Ready") => Seen::Ready(pod.name_any()),
                Ok(Event::Delete(pod)) => Seen::Gone(pod.name_any()),
                _ => continue,
            };
            if send.send((seen, Instant::now())).is_err() {
                return;
            }
        }
    });
    receive
}

fn pause(name: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": "node-1",
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": IMAGE}],
        },
    }))
    .expect("a pod")
}

impl Bench {
    /// Creates pods of these names, all at once.
    fn create(&self, names: &[String]) {
        let api = self.test.api::<Pod>();
        let made = stream::iter(names).map(|name| {
            let (api, pod) = (api.clone(), pause(name));
            async move {
                api.create(&PostParams::default(), &pod)
                    .await
                    .expect("a pod is created")
            }
        });
        self.test
            .cluster
            .within(DEADLINE, made.buffer_unordered(FULL).count())
            .expect("pods are created");
    }

    fn delete(&self, names: &[String]) {
        let api = self.test.api::<Pod>();
        let deleted = stream::iter(names).map(|name| {
            let api = api.clone();
            async move {
                api.delete(name, &DeleteParams::default())
                    .await
                    .expect("a pod is deleted")
            }
        });
        self.test
            .cluster
            .within(DEADLINE, deleted.buffer_unordered(FULL).count())
            .expect("pods are deleted");
    }

    /// When each of these was first seen so, after `start`.
    fn times(&self, names: &[String], start: Instant, name_of: fn(Seen) -> Option<String>) -> Vec<Duration> {
        let mut wanted: BTreeSet<_> = names.iter().cloned().collect();
        let mut times = BTreeMap::new();
        while !wanted.is_empty() {
            let left = DEADLINE.saturating_sub(start.elapsed());
            let (seen, at) = self.seen.recv_timeout(left).unwrap_or_else(|_| {
                let (missing, first) = (wanted.len(), wanted.first());
                eprintln!("{missing} pods are late, such as {first:?}");
                std::process::exit(1)
            });
            if let Some(name) = name_of(seen).filter(|name| wanted.remove(name)) {
                times.insert(name, at - start);
            }
        }
        times.into_values().collect()
    }

    fn ready(&self, names: &[String]) -> Vec<Duration> {
        let start = Instant::now();
        self.create(names);
        self.times(names, start, |seen| match seen {
            Seen::Ready(name) => Some(name),
            Seen::Gone(_) => None,
        })
    }

    fn gone(&self, names: &[String]) -> Vec<Duration> {
        let start = Instant::now();
        self.delete(names);
        self.times(names, start, |seen| match seen {
            Seen::Gone(name) => Some(name),
            Seen::Ready(_) => None,
        })
    }

    fn one_at_a_time(&self, figures: &mut Figures) {
        let (mut ready, mut gone) = (Vec::new(), Vec::new());
        for run in 0..self.extent.of(20, 1) {
            let name = [format!("one-{run}")];
            ready.extend(self.ready(&name));
            gone.extend(self.gone(&name));
        }
        figures.add_time(
            "one pod: create to Ready, p50",
            percentile(&mut ready, 0.5),
            "0.7 x",
        );
        figures.add_time(
            "one pod: delete to gone, p50",
            percentile(&mut gone, 0.5),
            "0.33 x",
        );
    }

    /// How many pods fill the node.
    fn full(&self) -> usize {
        self.extent.of(FULL, 3)
    }

    fn full_node(&self, figures: &mut Figures) {
        let agent = Process::of("kubelet", "node-1");
        let names: Vec<_> = (0..self.full()).map(|n| format!("full-{n}")).collect();
        let before = agent.cpu();
        let mut ready = self.ready(&names);
        let start_cpu = agent.cpu() - before;
        figures.add_time(
            "110 pods at once: all Ready",
            percentile(&mut ready, 1.0),
            "0.5 x",
        );
        figures.add_time(
            "110 pods at once: median Ready",
            percentile(&mut ready, 0.5),
            "0.3 x",
        );
        figures.add_time("110 pods at once: agent CPU", start_cpu, "");
        // What the start left behind is done: caches are warm, statuses are sent.
        std::thread::sleep(self.extent.of(secs(10), secs(1)));
        figures.add(
            "agent at 110 idle pods: CPU",
            agent.millicores(self.extent.of(secs(30), secs(1))),
            "millicores",
            "0.1 x",
        );
        figures.add("agent at 110 idle pods: RSS", agent.rss_mib(), "MiB", "< 30 MiB");
        let mut gone = self.gone(&names);
        figures.add_time("110 pods deleted: all gone", percentile(&mut gone, 1.0), "0.5 x");
        figures.add_time("110 pods deleted: median gone", percentile(&mut gone, 0.5), "");
        figures.add("agent after 110 pods: RSS", agent.rss_mib(), "MiB", "");
    }
}
