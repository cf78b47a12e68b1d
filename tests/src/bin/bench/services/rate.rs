//! A hundred changes of endpoints a second: how soon each is in force, and what it costs.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use gantry_tests::cluster::secs;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{ATTEMPT, Bench, DEADLINE, nobody};
use crate::figures::{Figures, percentile};

const BETWEEN: Duration = Duration::from_millis(10);
/// Requests in flight.
const AT_ONCE: usize = 16;

impl Bench {
    /// Changes of services that nobody asks, at a steady rate, and beside them one service whose changes are watched.
    pub(super) fn many_changes(&self, figures: &mut Figures) {
        let address = self.create("watched");
        self.answers(address, Instant::now(), DEADLINE);
        let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let slices = self.test.api::<EndpointSlice>();
        let size = (self.services, self.endpoints);
        let background = change_steadily(slices, size, Arc::clone(&over), Arc::clone(&made));
        let proxy = self.proxy();
        let (cpu, start) = (proxy.cpu(), Instant::now());
        self.test.cluster.spawn(background);
        let (mut times, time) = (Vec::new(), self.extent.of(secs(60), secs(2)));
        while start.elapsed() < time {
            times.push(self.time_a_change(address));
        }
        let (spent, took) = (proxy.cpu() - cpu, start.elapsed());
        over.store(true, Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss, reason = "some thousands")]
        let changes = (made.load(Ordering::Relaxed) + 2 * times.len()) as f64;
        figures.add("changes: rate", changes / took.as_secs_f64(), "/s", "");
        figures.add_millis("changes: in force, p50", percentile(&mut times, 0.5), "");
        figures.add_millis("changes: in force, p99", percentile(&mut times, 0.99), "< 100 ms");
        figures.add(
            "changes: proxy CPU for each",
            spent.as_secs_f64() * 1000.0 / changes,
            "ms",
            "< 1 ms",
        );
    }

    /// The watched service loses its endpoint and gets it back: the time from the API server's word to the first answer.
    fn time_a_change(&self, service: SocketAddr) -> Duration {
        // Nobody listens there.
        self.point("watched", self.server.ip().to_string(), 1);
        self.refuses(service);
        self.point("watched", self.server.ip().to_string(), self.server.port());
        self.answers(service, Instant::now(), DEADLINE)
    }

    fn point(&self, slice: &str, address: String, port: u16) {
        let patch = json!({
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "p", "port": port, "protocol": "TCP"}],
        });
        let slices = self.test.api::<EndpointSlice>();
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.test
            .cluster
            .request(slices.patch(slice, &params, &patch))
            .expect("an EndpointSlice is changed");
    }

    fn refuses(&self, service: SocketAddr) {
        let start = Instant::now();
        self.node.run(|| {
            // A busy machine may let an attempt time out.
            let refused = |e: std::io::Error| e.kind() == ErrorKind::ConnectionRefused;
            while !TcpStream::connect_timeout(&service, ATTEMPT).is_err_and(refused) {
                assert!(start.elapsed() < DEADLINE, "{service} still answers");
                std::thread::sleep(Duration::from_micros(500));
            }
        });
    }
}

/// Gives one of the services after the other another first endpoint.
async fn change_steadily(
    slices: Api<EndpointSlice>,
    (services, count): (usize, usize),
    over: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
) {
    let mut clock = tokio::time::interval(BETWEEN);
    let ticks = stream::poll_fn(move |context| clock.poll_tick(context).map(Some));
    let alive = ticks.take_while(|_| std::future::ready(!over.load(Ordering::Relaxed)));
    let changed = alive.enumerate().map(|(turn, _)| {
        let (slices, made) = (slices.clone(), Arc::clone(&made));
        async move {
            let service = turn % services;
            let new = nobody(service + 1 + turn / services, 0);
            let addresses = std::iter::once(new).chain((1..count).map(|e| nobody(service, e)));
            let endpoints: Vec<_> = addresses.map(|a| json!({"addresses": [a]})).collect();
            let patch = Patch::Merge(json!({"endpoints": endpoints}));
            slices
                .patch(&format!("fill-{service}"), &PatchParams::default(), &patch)
                .await
                .expect("an EndpointSlice is changed");
            made.fetch_add(1, Ordering::Relaxed);
        }
    });
    changed
        .buffer_unordered(AT_ONCE)
        .for_each(|()| std::future::ready(()))
        .await;
}
