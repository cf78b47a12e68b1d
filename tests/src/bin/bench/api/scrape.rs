//! Scrapes, as Prometheus and metrics-server send them: one connection that stays, compressed answers welcome.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;

use super::Bench;
use crate::figures::Figures;

/// Between two scrapes: pods that work have all done something.
const PAUSE: Duration = Duration::from_millis(1100);
/// Scrapes before those that are measured: a scraper comes for days.
const WARM_UP: usize = 10;
/// How long the agent is watched while nobody asks.
const IDLE: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(30);

const PAGES: [&str; 3] = ["/metrics/cadvisor", "/metrics/resource", "/stats/summary"];

impl Bench {
    /// What scrapes take; what the agent does anyway in that time is left out.
    pub(super) fn scrapes(&self, figures: &mut Figures, at: &str, target: &str) {
        let idle = self.agent.millicores(self.extent.of(IDLE, PAUSE));
        for page in PAGES {
            let mut connection = self.connect();
            let mut bytes = 0;
            // The first one finds out what there is, the next ones what sleeps.
            for _ in 0..self.extent.of(WARM_UP, 1) {
                self.scrape(&mut connection, page);
                std::thread::sleep(PAUSE);
            }
            let mut times = Vec::new();
            let begun = Instant::now();
            let mut measured = self.repeat(self.extent.of(30, 1), || {
                std::thread::sleep(PAUSE);
                let start = Instant::now();
                bytes = self.scrape(&mut connection, page);
                times.push(start.elapsed());
            });
            let anyway = begun.elapsed().mul_f64(idle / 1000.0);
            measured.cpu = measured.cpu.saturating_sub(anyway);
            measured.times = times;
            let what = format!("{at}: {page}");
            figures.add(&format!("{what}: agent CPU"), measured.cpu_millis(), "ms", target);
            measured.add_times(figures, &what, "");
            #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
            figures.add(&format!("{what}: size as sent"), bytes as f64 / 1024.0, "KiB", "");
        }
    }

    fn connect(&self) -> SendRequest<Empty<Bytes>> {
        let stream = self.api.raw().expect("the agent answers");
        let made = self.test.cluster.within(ANSWER, handshake(TokioIo::new(stream)));
        let (sender, connection) = made.expect("in time").expect("a connection");
        self.test.cluster.spawn(async move { drop(connection.await) });
        sender
    }

    /// How many bytes came.
    fn scrape(&self, connection: &mut SendRequest<Empty<Bytes>>, page: &str) -> usize {
        let request = self.api.request("GET", page).header("Accept-Encoding", "gzip");
        let request = request.body(Empty::new()).expect("a request");
        let exchange = async {
            let answer = connection.send_request(request).await?;
            assert_eq!(answer.status(), 200, "{page}");
            let mut body = answer.into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame?.data_ref().map_or(0, Bytes::len);
            }
            Ok::<_, hyper::Error>(bytes)
        };
        let answer = self.test.cluster.within(ANSWER, exchange);
        answer.expect("in time").expect("an answer")
    }
}
