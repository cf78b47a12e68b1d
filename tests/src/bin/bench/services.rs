//! Services: how soon a change is in force when there are thousands, what a change costs, and what they cost a connection.

mod latency;
mod rate;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use gantry_tests::cluster::{Machine, NetNs, NodeProxy, Test, poll, secs};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::PostParams;
use serde_json::json;

use crate::Extent;
use crate::figures::{Figures, percentile};
use crate::process::Process;

/// Requests in flight while the cluster is filled: the API server keeps all ClusterIPs in one object, and more writers
/// only make each other try again.
const AT_ONCE: usize = 16;
const DEADLINE: Duration = secs(120);
/// The API server gives out some 50 to 500 ClusterIPs a second.
const FILLING: Duration = secs(900);
/// One attempt to connect; a lost first packet would be sent again only after a second.
const ATTEMPT: Duration = Duration::from_millis(2);

struct Bench {
    extent: Extent,
    /// How many there are.
    services: usize,
    /// How many endpoints each has.
    endpoints: usize,
    test: Test,
    proxy: NodeProxy,
    node: NetNs,
    /// What really answers, outside of the cluster.
    server: SocketAddr,
}

pub(crate) fn measure(extent: Extent, services: usize, endpoints: usize) -> Figures {
    let test = Test::start("bench-services");
    let listener = NetNs::outside().listen(IpAddr::from([10, 77, 0, 1]));
    let server = listener.local_addr().expect("a listener has an address");
    std::thread::spawn(move || accept(&listener));
    let node = NetNs::of_machine(&Machine::named("node-1"));
    let bench = Bench {
        extent,
        services,
        endpoints,
        proxy: NodeProxy::on(test.cluster, "node-1"),
        test,
        node,
        server,
    };
    let mut figures = Figures::default();
    let stuck = stuck_processors();
    let few = bench.changes("10 services", &mut figures, "");
    let before = bench.first_packets("10 services", &few, &mut figures);
    bench.fill();
    let at = format!("{services} services");
    let many = bench.changes(&at, &mut figures, "< 50 ms");
    let after = bench.first_packets(&at, &many, &mut figures);
    figures.add(
        "first packet, p50, many services to few",
        after / before,
        "",
        "< 1.2",
    );
    figures.add(
        "proxy after 50 changes: RSS",
        bench.proxy().rss_mib(),
        "MiB",
        "< 40 MiB",
    );
    bench.many_changes(&mut figures);
    bench.first_load(&mut figures);
    figures.add(
        "processors that the kernel's log calls stuck",
        stuck_processors() - stuck,
        "",
        "0",
    );
    figures
}

/// Complaints in the kernel's log about a processor that did nothing else for seconds.
fn stuck_processors() -> f64 {
    let log = std::process::Command::new("dmesg").output().expect("dmesg runs");
    let log = String::from_utf8_lossy(&log.stdout);
    let told = |line: &&str| line.contains("soft lockup") || line.contains("self-detected stall");
    log.lines().filter(told).map(|_| 1.0).sum()
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming() {
        drop(stream);
    }
}

fn objects(name: &str, addresses: &[String], port: u16) -> (Service, EndpointSlice) {
    let service = json!({
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "p", "port": 80}]},
    });
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"addresses": [address]}))
        .collect();
    let slice = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "p", "port": port, "protocol": "TCP"}],
    });
    (
        serde_json::from_value(service).expect("a Service"),
        serde_json::from_value(slice).expect("an EndpointSlice"),
    )
}

/// The address of an endpoint that nobody asks.
fn nobody(service: usize, endpoint: usize) -> String {
    let low = (1 + endpoint + service / 4000 * 20) % 254;
    format!("172.{}.{}.{}", 16 + service / 250 % 16, service % 250, low)
}

impl Bench {
    fn proxy(&self) -> Process {
        Process::of_proxy(self.test.cluster, "node-1")
    }

    /// Services whose endpoints nobody asks.
    fn fill(&self) {
        let start = Instant::now();
        let (services, slices) = (self.test.api::<Service>(), self.test.api::<EndpointSlice>());
        let made = stream::iter(0..self.services).map(|number| {
            let (services, slices) = (services.clone(), slices.clone());
            async move {
                let addresses: Vec<_> = (0..self.endpoints).map(|e| nobody(number, e)).collect();
                let (service, slice) = objects(&format!("fill-{number}"), &addresses, 8080);
                slices
                    .create(&PostParams::default(), &slice)
                    .await
                    .expect("an EndpointSlice is created");
                services
                    .create(&PostParams::default(), &service)
                    .await
                    .expect("a Service is created");
            }
        });
        self.test
            .cluster
            .within(FILLING, made.buffer_unordered(AT_ONCE).count())
            .expect("the services are created");
        eprintln!(
            "  {} services with {} endpoints each in {:?}",
            self.services,
            self.endpoints,
            start.elapsed()
        );
        // The last of them is in force: so are the others, and the proxy is at rest.
        self.time_until_it_answers("settled", DEADLINE);
        self.time_until_it_answers("settled-again", DEADLINE);
    }

    /// A new service with an endpoint that answers: the time from the API server's word that it exists.
    fn time_until_it_answers(&self, name: &str, deadline: Duration) -> Duration {
        let address = self.create(name);
        self.answers(address, Instant::now(), deadline)
    }

    fn create(&self, name: &str) -> SocketAddr {
        let (service, slice) = objects(name, &[self.server.ip().to_string()], self.server.port());
        let params = PostParams::default();
        self.test
            .cluster
            .request(self.test.api().create(&params, &slice))
            .expect("an EndpointSlice is created");
        let service = self
            .test
            .cluster
            .request(self.test.api().create(&params, &service))
            .expect("a Service is created");
        let ip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
        SocketAddr::new(ip.parse().expect("a ClusterIP"), 80)
    }

    /// How long after `start` the address first answers a process on the node.
    fn answers(&self, address: SocketAddr, start: Instant, deadline: Duration) -> Duration {
        self.node.run(|| {
            while TcpStream::connect_timeout(&address, ATTEMPT).is_err() {
                if start.elapsed() > deadline {
                    eprintln!("{address} does not answer after {deadline:?}");
                    std::process::exit(1);
                }
                // A refusal comes at once: leave the proxy some processor.
                std::thread::sleep(Duration::from_micros(500));
            }
            start.elapsed()
        })
    }

    /// New services, one after the other; their addresses.
    fn changes(&self, at: &str, figures: &mut Figures, target: &str) -> Vec<SocketAddr> {
        let prefix = at.replace([' ', ','], "");
        let (addresses, mut times): (Vec<_>, Vec<_>) = (0..self.extent.of(50, 2))
            .map(|n| {
                let address = self.create(&format!("new-{prefix}-{n}"));
                (address, self.answers(address, Instant::now(), DEADLINE))
            })
            .unzip();
        figures.add_millis(
            &format!("at {at}: a new one answers, p50"),
            percentile(&mut times, 0.5),
            target,
        );
        figures.add_millis(
            &format!("at {at}: a new one answers, p99"),
            percentile(&mut times, 0.99),
            "",
        );
        addresses
    }

    /// One of the proxy's own series, once it is there: the reference counts a pass some time after services answer.
    fn metric(&self, series: &str) -> f64 {
        let address = SocketAddr::from(([127, 0, 0, 1], 10249));
        poll(DEADLINE, "the proxy counts", || {
            let page = self.node.http_get(address, "/metrics").ok()?;
            let value = page.lines().find_map(|line| line.strip_prefix(series))?;
            value.trim().parse().ok().filter(|value| *value > 0.0)
        })
    }

    /// The proxy starts on a node without any rule of its own.
    fn first_load(&self, figures: &mut Figures) {
        let Some(unit) = self.proxy.unit() else {
            // A pod, which is replaced and not stopped: there is no bench of it.
            return self.proxy.kill();
        };
        let machine = Machine::named("node-1");
        let stopped = machine.stop(unit);
        machine.run(&[
            &self.proxy.program(),
            "--config=/var/lib/kube-proxy/config.conf",
            "--cleanup",
        ]);
        let address = self.create("last");
        let start = Instant::now();
        drop(stopped);
        let took = self.answers(address, start, DEADLINE);
        let proxy = self.proxy();
        figures.add_time(&format!("first load of {} services", self.services), took, "");
        // From the last object's arrival on: a program writes nothing before.
        figures.add(
            "first load: from the last object to the table",
            self.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"}"),
            "s",
            if self.services * self.endpoints > 100_000 {
                "< 3 s"
            } else {
                "< 0.5 s"
            },
        );
        figures.add_time("first load: proxy CPU", proxy.cpu(), "");
        figures.add(
            "proxy after the first load: RSS",
            proxy.rss_mib(),
            "MiB",
            "< 40 MiB",
        );
    }
}
