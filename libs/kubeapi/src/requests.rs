//! Counts the requests to the API server: `rest_client_*`, under the names that client-go gives them.
//!
//! A request is observed when its answer's body has been read or dropped; of a watch, which lasts for minutes, the time
//! until its answer begins. client-go leaves watches out, but a program that only watches would then show no latency.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use gantry_chassis::metrics::Registrar;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Method, Request, Response, Uri};
use kube::client::Body;
use prometheus::{HistogramVec, IntCounterVec, Registry};
use tower::Service;

use crate::lanes::{LaneBody, Lanes};

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const BYTES: &[f64] = &[
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// The series. Clones share them.
#[derive(Debug, Clone)]
pub struct Requests {
    results: IntCounterVec,
    seconds: HistogramVec,
    sent_bytes: HistogramVec,
    received_bytes: HistogramVec,
}

impl Requests {
    /// Makes and registers them.
    #[must_use]
    pub fn new(series: Registrar<'_>) -> Self {
        let verb = ["verb", "host"];
        Self {
            results: series.counters(
                "rest_client_requests_total",
                "Number of HTTP requests, partitioned by status code, method, and host.",
                &["code", "method", "host"],
            ),
            seconds: series.histograms(
                "rest_client_request_duration_seconds",
                "Request latency in seconds. Broken down by verb, and host.",
                &verb,
                SECONDS,
            ),
            sent_bytes: series.histograms(
                "rest_client_request_size_bytes",
                "Request size in bytes. Broken down by verb and host.",
                &verb,
                BYTES,
            ),
            received_bytes: series.histograms(
                "rest_client_response_size_bytes",
                "Response size in bytes. Broken down by verb and host.",
                &verb,
                BYTES,
            ),
        }
    }

    fn observe(&self, about: &About, begun: Instant) {
        self.seconds
            .with_label_values(&[about.method.as_str(), &about.host])
            .observe(begun.elapsed().as_secs_f64());
    }

    fn result(&self, code: &str, about: &About) {
        self.results
            .with_label_values(&[code, about.method.as_str(), &about.host])
            .inc();
    }
}

impl Default for Requests {
    /// Counted, but shown nowhere.
    fn default() -> Self {
        Self::new(Registrar::new(&Registry::new()))
    }
}

/// The transport, with its requests counted.
#[derive(Clone)]
pub(crate) struct Counted {
    lanes: Lanes,
    requests: Requests,
}

/// What a request's series are labelled with.
struct About {
    method: Method,
    host: String,
    watch: bool,
}

impl About {
    fn of(method: &Method, uri: &Uri) -> Self {
        Self {
            method: method.clone(),
            host: uri.authority().map(ToString::to_string).unwrap_or_default(),
            watch: uri.query().is_some_and(is_watch),
        }
    }
}

fn is_watch(query: &str) -> bool {
    query
        .split('&')
        .any(|part| matches!(part, "watch=true" | "watch=1"))
}

impl Counted {
    pub(crate) fn new(lanes: Lanes, requests: Requests) -> Self {
        Self { lanes, requests }
    }
}

impl Service<Request<Body>> for Counted {
    type Response = Response<CountedBody>;
    type Error = <Lanes as Service<Request<Body>>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.lanes.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let about = About::of(request.method(), request.uri());
        let requests = self.requests.clone();
        let sent = request.body().size_hint().exact();
        let begun = Instant::now();
        let answer = self.lanes.call(request);
        Box::pin(async move {
            let answer = answer.await;
            match &answer {
                Ok(answer) => requests.result(answer.status().as_str(), &about),
                Err(_) => requests.result("<error>", &about),
            }
            let answer = answer?;
            if about.watch {
                requests.observe(&about, begun);
            }
            let open = Open {
                requests,
                about,
                begun,
                sent,
                received: 0,
            };
            Ok(answer.map(|body| CountedBody { body, open }))
        })
    }
}

/// A request whose answer is being read; observed when it is dropped.
struct Open {
    requests: Requests,
    about: About,
    begun: Instant,
    /// Bytes of the request's body, when it was no stream.
    sent: Option<u64>,
    /// Bytes of the answer's body so far.
    received: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.about.watch {
            return;
        }
        let labels = [self.about.method.as_str(), &self.about.host];
        let Requests {
            sent_bytes,
            received_bytes,
            ..
        } = &self.requests;
        self.requests.observe(&self.about, self.begun);
        #[expect(clippy::cast_precision_loss, reason = "a count of bytes in memory")]
        if let Some(sent) = self.sent {
            sent_bytes.with_label_values(&labels).observe(sent as f64);
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of bytes in memory")]
        received_bytes
            .with_label_values(&labels)
            .observe(self.received as f64);
    }
}

/// An answer's body, whose end is observed.
pub(crate) struct CountedBody {
    body: LaneBody,
    open: Open,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.open.received += frame.data_ref().map_or(0, Bytes::len);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_and_a_host_are_recognised() {
        let about = |uri: &str| About::of(&Method::GET, &uri.parse().expect("a URI"));
        let watch = about("https://10.0.0.1:6443/api/v1/pods?allowWatchBookmarks=true&watch=true");
        assert!(watch.watch);
        assert_eq!(watch.host, "10.0.0.1:6443");
        assert!(!about("https://x/api/v1/pods?watch=false").watch);
        assert!(!about("https://x/api/v1/pods/watch=true").watch);
    }

    #[test]
    fn what_is_read_is_observed_once_and_a_watch_is_not_read() {
        let registry = Registry::new();
        let requests = Requests::new(Registrar::new(&registry));
        for query in ["", "?watch=1"] {
            let about = About::of(
                &Method::GET,
                &format!("http://h:1/{query}").parse().expect("a URI"),
            );
            requests.result("200", &about);
            drop(Open {
                requests: requests.clone(),
                about,
                begun: Instant::now(),
                sent: Some(0),
                received: 100,
            });
        }
        let text = gantry_chassis::metrics::encode(&registry).expect("valid");
        let text = String::from_utf8(text).expect("text");
        for line in [
            "rest_client_requests_total{code=\"200\",host=\"h:1\",method=\"GET\"} 2",
            "rest_client_request_duration_seconds_count{host=\"h:1\",verb=\"GET\"} 1",
            "rest_client_response_size_bytes_bucket{host=\"h:1\",verb=\"GET\",le=\"64\"} 0",
            "rest_client_response_size_bytes_bucket{host=\"h:1\",verb=\"GET\",le=\"256\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in {text}");
        }
    }
}
