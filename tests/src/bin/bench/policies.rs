//! Network policies: how soon a change is enforced when there are many pods and policies, and what it costs.
//!
//! Two pods are real: a client, and a server that policies select. The others are objects of a node that does not exist.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use gantry_tests::cluster::{NetNs, Test, pods, secs};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::Extent;
use crate::figures::{Figures, percentile};
use crate::process::Process;

/// Requests in flight while the cluster is filled.
const AT_ONCE: usize = 16;
const FILLING: Duration = secs(300);
const DEADLINE: Duration = secs(60);
/// One attempt to connect; a lost first packet would be sent again only after a second.
const ATTEMPT: Duration = Duration::from_millis(3);
/// Attempts in a row that have to fail: a busy machine may let one time out.
const FAILURES: usize = 3;
const NOWHERE: &str = "nowhere";

/// Opens or shuts the server to the client.
type Change = fn(&Bench, bool);

struct Bench {
    extent: Extent,
    test: Test,
    client: NetNs,
    server: SocketAddr,
}

pub(crate) fn measure(extent: Extent) -> Figures {
    let test = Test::start("bench-policies");
    for (name, labels) in [("server", "app: app-0"), ("client", "gate: open")] {
        test.create::<Pod>(&format!(
            "{{metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{nodeName: node-1, \
             containers: [{{name: c, image: 'registry.k8s.io/pause:3.10'}}]}}}}"
        ));
    }
    let [server, client] = ["server", "client"].map(|name| test.wait_ready(name));
    let listener = test.net_of(&server).listen(pods::ip(&server));
    let bench = Bench {
        extent,
        client: test.net_of(&client),
        server: listener.local_addr().expect("a listener has an address"),
        test,
    };
    std::thread::spawn(move || listener.incoming().for_each(drop));
    bench.create_policy("gate", &gate(true));
    let mut figures = Figures::default();
    bench.changes("2 pods, 1 policy", &mut figures, "");
    bench.fill();
    bench.changes("1,000 pods, 100 policies", &mut figures, "< 100 ms");
    let proxy = Process::of_proxy(bench.test.cluster, "node-1");
    figures.add("proxy: RSS", proxy.rss_mib(), "MiB", "< 40 MiB");
    bench.remove_node();
    figures
}

/// What the server's own policy says: pods whose gate is open may come, or nobody.
fn gate(open: bool) -> Value {
    let rules = json!([{"from": [{"podSelector": {"matchLabels": {"gate": "open"}}}]}]);
    let rules = if open { rules } else { json!([]) };
    json!({"podSelector": {"matchLabels": {"app": "app-0"}}, "ingress": rules})
}

/// One of many: each has a selector of its own and shares another one with some.
fn policy(number: usize) -> Value {
    let app = |number: usize| json!({"matchLabels": {"app": format!("app-{}", number % 10)}});
    let peers = json!([
        {"podSelector": {"matchLabels": {"group": format!("g-{number}")}}},
        {"namespaceSelector": {}, "podSelector": app(number + 1)},
        {"ipBlock": {"cidr": format!("192.0.{number}.0/24"), "except": [format!("192.0.{number}.128/25")]}},
    ]);
    let ports = json!([{"port": 8080}, {"port": 9000, "endPort": 9100}, {"port": "web"}]);
    json!({
        "podSelector": app(number),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": ports}],
        "egress": [{"to": peers}],
    })
}

fn pod(number: usize) -> (String, Pod, Value) {
    let name = format!("far-{number}");
    let labels = json!({"app": format!("app-{}", number % 10), "group": format!("g-{}", number % 100)});
    let pod = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": NOWHERE, "containers": [{"name": "c", "image": "none", "ports": [{"name": "web", "containerPort": 80}]}]},
    });
    let address = IpAddr::from([172, 16, low_byte(number / 250), low_byte(number % 250 + 1)]);
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    (name, serde_json::from_value(pod).expect("a Pod"), status)
}

fn low_byte(number: usize) -> u8 {
    u8::try_from(number % 256).unwrap_or_default()
}

impl Bench {
    fn create_policy(&self, name: &str, spec: &Value) {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let object: NetworkPolicy = serde_json::from_value(object).expect("a NetworkPolicy");
        let (policies, params) = (self.test.api::<NetworkPolicy>(), PostParams::default());
        let created = policies.create(&params, &object);
        self.test
            .cluster
            .request(created)
            .expect("a NetworkPolicy is created");
    }

    /// Pods and policies that have nothing to do with the two pods but to be looked through.
    fn fill(&self) {
        let (count, policies) = self.extent.of((1000, 100), (10, 4));
        let start = Instant::now();
        let node: Node = serde_json::from_value(json!({"metadata": {"name": NOWHERE}})).expect("a Node");
        let nodes = Api::<Node>::all(self.test.cluster.client());
        let params = PostParams::default();
        let made = nodes.create(&params, &node);
        self.test.cluster.request(made).expect("a Node is created");
        let pods = self.test.api::<Pod>();
        let made = stream::iter(0..count).map(|number| {
            let pods = pods.clone();
            async move {
                let (name, object, status) = pod(number);
                let created = pods.create(&PostParams::default(), &object).await;
                created.expect("a Pod is created");
                let status = Patch::Merge(status);
                let patched = pods.patch_status(&name, &PatchParams::default(), &status).await;
                patched.expect("a Pod's status is patched");
            }
        });
        self.test
            .cluster
            .within(FILLING, made.buffer_unordered(AT_ONCE).count())
            .expect("the pods are created");
        // The gate is one of them.
        for number in 1..policies {
            self.create_policy(&format!("policy-{number}"), &policy(number));
        }
        eprintln!("  {count} pods and {policies} policies in {:?}", start.elapsed());
        // What comes after everything is in force: so is everything.
        self.set_gate(false);
        self.lets_through(false, Instant::now());
        self.set_gate(true);
        self.lets_through(true, Instant::now());
    }

    fn remove_node(&self) {
        let nodes = Api::<Node>::all(self.test.cluster.client());
        let params = DeleteParams::default();
        let deleted = self.test.cluster.request(nodes.delete(NOWHERE, &params));
        deleted.expect("a Node is deleted");
    }

    fn set_gate(&self, open: bool) {
        let patch = Patch::Merge(json!({"spec": {"ingress": gate(open)["ingress"]}}));
        let (policies, params) = (self.test.api::<NetworkPolicy>(), PatchParams::default());
        let patched = policies.patch("gate", &params, &patch);
        self.test
            .cluster
            .request(patched)
            .expect("a NetworkPolicy is changed");
    }

    fn set_label(&self, open: bool) {
        let value = if open { "open" } else { "closed" };
        let patch = Patch::Merge(json!({"metadata": {"labels": {"gate": value}}}));
        let (pods, params) = (self.test.api::<Pod>(), PatchParams::default());
        let patched = pods.patch("client", &params, &patch);
        self.test.cluster.request(patched).expect("a Pod is changed");
    }

    /// How long after `start` the client is answered, or not any more.
    fn lets_through(&self, through: bool, start: Instant) -> Duration {
        let needed = if through { 1 } else { FAILURES };
        self.client.run(|| {
            let mut since = None;
            let mut seen = 0;
            loop {
                let begun = start.elapsed();
                if TcpStream::connect_timeout(&self.server, ATTEMPT).is_ok() == through {
                    let at = if through { start.elapsed() } else { begun };
                    let since = *since.get_or_insert(at);
                    seen += 1;
                    if seen == needed {
                        return since;
                    }
                } else {
                    (since, seen) = (None, 0);
                }
                if begun > DEADLINE {
                    eprintln!("a change is not in force after {DEADLINE:?}");
                    std::process::exit(1);
                }
                // An answer comes at once: leave the proxy some processor.
                std::thread::sleep(Duration::from_micros(500));
            }
        })
    }

    /// The gate, and then the client's label, is changed there and back; the time from the API server's word to the packets' fate.
    fn changes(&self, at: &str, figures: &mut Figures, target: &str) {
        let proxy = Process::of_proxy(self.test.cluster, "node-1");
        let (cpu, turns) = (proxy.cpu(), self.extent.of(50, 1));
        let changes: [(&str, Change); 2] = [("policy", Self::set_gate), ("label", Self::set_label)];
        for (what, change) in changes {
            let times = |open: bool| {
                change(self, open);
                self.lets_through(open, Instant::now())
            };
            let (mut denied, mut allowed): (Vec<_>, Vec<_>) =
                (0..turns).map(|_| (times(false), times(true))).unzip();
            for (how, times) in [("denies", &mut denied), ("allows", &mut allowed)] {
                for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
                    let what = format!("at {at}: a {what} {how}, {name}");
                    figures.add_millis(&what, percentile(times, part), target);
                }
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
        let count = (4 * turns) as f64;
        let spent = (proxy.cpu() - cpu).as_secs_f64() * 1000.0 / count;
        figures.add(&format!("at {at}: proxy CPU for a change"), spent, "ms", "");
    }
}
