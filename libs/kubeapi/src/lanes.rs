//! HTTP/2 connections, as few as the server's stream limit allows.
//!
//! A kube-apiserver takes 100 concurrent streams on a connection, and a watch holds one for minutes. A client with a
//! single connection would wait for ever once a hundred watches are open (one for each configMap that a pod mounts),
//! so requests are spread over lanes, each with a connection of its own. The first lane with room is taken: almost
//! always there is only one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use kube::client::Body;
use tower::Service;

/// Streams that a lane carries before the next one is opened; kube-apiserver's limit is 100.
const STREAMS: usize = 80;

/// As many lanes as one program ever needs: 8 x 80 streams.
const LANES: usize = 8;

type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// One connection and the number of streams on it.
#[derive(Clone)]
struct Lane {
    http: Http,
    streams: Arc<AtomicUsize>,
}

/// The transport below a `kube::Client`.
#[derive(Clone)]
pub(crate) struct Lanes {
    lanes: Arc<[Lane]>,
}

/// Counts a stream for as long as it lives.
struct Stream(Arc<AtomicUsize>);

/// A response body that holds its stream until it ends or is dropped.
pub(crate) struct LaneBody {
    body: Incoming,
    _stream: Stream,
}

impl Lanes {
    /// Lanes that each make their own client with `client`; a client opens its connection at its first request.
    pub(crate) fn new(client: impl Fn() -> Http) -> Self {
        let lane = || Lane {
            http: client(),
            streams: Arc::default(),
        };
        Self {
            lanes: (0..LANES).map(|_| lane()).collect(),
        }
    }

    /// The first lane with room; when all are full, the emptiest.
    fn pick(&self) -> &Lane {
        let load = |lane: &&Lane| lane.streams.load(Ordering::Relaxed);
        self.lanes
            .iter()
            .find(|lane| load(lane) < STREAMS)
            .or_else(|| self.lanes.iter().min_by_key(load))
            .expect("LANES is not 0")
    }
}

impl Service<Request<Body>> for Lanes {
    type Response = Response<LaneBody>;
    type Error = hyper_util::client::legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lane = self.pick();
        let stream = Stream::on(lane);
        let response = lane.http.request(request);
        Box::pin(async move {
            Ok(response.await?.map(|body| LaneBody {
                body,
                _stream: stream,
            }))
        })
    }
}

impl Stream {
    fn on(lane: &Lane) -> Self {
        lane.streams.fetch_add(1, Ordering::Relaxed);
        Self(lane.streams.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpBody for LaneBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(cx)))
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

    fn lanes() -> Lanes {
        Lanes::new(|| {
            let tls = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(
                    rustls::ClientConfig::builder_with_provider(
                        rustls::crypto::ring::default_provider().into(),
                    )
                    .with_safe_default_protocol_versions()
                    .expect("ring has the default versions")
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth(),
                )
                .https_or_http()
                .enable_http2()
                .build();
            Client::builder(hyper_util::rt::TokioExecutor::new()).build(tls)
        })
    }

    #[test]
    fn the_first_lane_is_filled_before_the_second_is_opened() {
        let lanes = lanes();
        let held: Vec<_> = (0..=STREAMS).map(|_| Stream::on(lanes.pick())).collect();
        assert_eq!(lanes.lanes[0].streams.load(Ordering::Relaxed), STREAMS);
        assert_eq!(lanes.lanes[1].streams.load(Ordering::Relaxed), 1);
        drop(held);
        assert_eq!(lanes.lanes[0].streams.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn full_lanes_share_the_rest() {
        let lanes = lanes();
        let held: Vec<_> = (0..STREAMS * LANES + LANES)
            .map(|_| Stream::on(lanes.pick()))
            .collect();
        assert!(
            lanes
                .lanes
                .iter()
                .all(|lane| lane.streams.load(Ordering::Relaxed) == STREAMS + 1)
        );
        drop(held);
    }
}
