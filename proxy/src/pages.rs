//! The two ports: `/healthz` and `/livez` for load balancers, and the pages for operators.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gantry_chassis::http::{self, Answer, ListenError, Routes};
use gantry_chassis::metrics::scrape;
use gantry_chassis::zpages::Program;
use hyper::StatusCode;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::REFERENCE_VERSION;
use crate::metrics::Metrics;
use crate::programmer::with_cause;

/// A port in use is tried again after this.
const PAUSE: Duration = Duration::from_secs(5);

const PROGRAM: Program = Program {
    name: "kube-proxy",
    version: REFERENCE_VERSION,
    paths: &["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode"],
};

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The configuration that is in effect, as an object of the API.
    pub configuration: Value,
    /// Every flag with its value.
    pub flags: BTreeMap<String, String>,
    /// Serve what there is for profilers.
    pub profiling: bool,
}

/// The pages of the metrics' port.
#[must_use]
pub fn routes(shown: Shown, metrics: &Metrics) -> Routes {
    let (registry, slis) = (metrics.registry.clone(), metrics.slis.clone());
    let ping = move |slis: &crate::metrics::Slis| {
        slis.pinged();
        nosniff(http::text(StatusCode::OK, "ok"))
    };
    let (all, one, level) = (slis.clone(), slis.clone(), slis.registry.clone());
    let configuration = json!({ "kubeproxy.config.k8s.io": shown.configuration }).to_string();
    let flags = shown.flags;
    let pages = Routes::new()
        .get("/healthz", move |_| ping(&all))
        .get("/healthz/ping", move |_| ping(&one))
        .get("/proxyMode", |_| nosniff(http::text(StatusCode::OK, "nftables")))
        .get("/metrics", move |_| scrape(&registry))
        .get("/metrics/slis", move |_| scrape(&level))
        .get("/configz", move |_| {
            nosniff(http::json(StatusCode::OK, configuration.clone()))
        })
        .get("/flagz", move |request| PROGRAM.flags(&flags, request.headers()))
        .get("/statusz", |request| PROGRAM.status(request.headers()));
    if shown.profiling { profiling(pages) } else { pages }
}

/// What of Go's profiles means something here: this program is profiled with perf(1).
fn profiling(pages: Routes) -> Routes {
    let command_line = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join("\0");
    pages
        .get("/debug/pprof/cmdline", move |_| {
            nosniff(http::text(StatusCode::OK, command_line.clone()))
        })
        .get("/debug/pprof/symbol", |_| {
            nosniff(http::text(StatusCode::OK, "num_symbols: 0\n"))
        })
}

fn nosniff(mut answer: Answer) -> Answer {
    let nosniff = HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

/// Serves `routes` until `shutdown`. A port in use is an error if `hard_fail`; otherwise it is tried again until it is free.
///
/// # Errors
/// When nothing can be served there.
pub async fn serve(
    address: SocketAddr,
    routes: Routes,
    hard_fail: bool,
    shutdown: CancellationToken,
) -> Result<(), ListenError> {
    match http::serve(address, routes.clone(), shutdown.clone()).await {
        Err(error) if hard_fail => return Err(error),
        Err(error) => {
            warn!(error = with_cause(&error), "not served; trying again");
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(PAUSE).await;
                    match http::serve(address, routes.clone(), shutdown.clone()).await {
                        Ok(_) => {
                            info!(%address, "served");
                            return;
                        }
                        Err(_) if shutdown.is_cancelled() => return,
                        // Said once.
                        Err(_) => {}
                    }
                }
            });
        }
        Ok(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    fn shown(profiling: bool) -> Shown {
        Shown {
            configuration: crate::config::File::default().object().expect("an object"),
            flags: BTreeMap::from([("v".to_owned(), "2".to_owned())]),
            profiling,
        }
    }

    #[tokio::test]
    async fn the_references_pages_are_there() {
        let shutdown = CancellationToken::new();
        let any = "127.0.0.1:0".parse().expect("an address");
        let metrics = Metrics::new();
        let address = http::serve(any, routes(shown(true), &metrics), shutdown.clone());
        let address = address.await.expect("a server");
        for (path, part) in [
            ("/healthz", "\r\n\r\nok"),
            ("/healthz/ping", "\r\n\r\nok"),
            ("/proxyMode", "\r\n\r\nnftables"),
            (
                "/metrics",
                "\nkubeproxy_sync_proxy_rules_endpoint_changes_total 0\n",
            ),
            (
                "/metrics/slis",
                "\nkubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 2\n",
            ),
            (
                "/configz",
                "{\"kubeproxy.config.k8s.io\":{\"apiVersion\":\"kubeproxy.config.k8s.io/v1alpha1\"",
            ),
            ("/flagz", "\nkube-proxy flagz\n"),
            ("/statusz", "\nkube-proxy statusz\n"),
            ("/debug/pprof/symbol", "num_symbols: 0"),
        ] {
            let answer = get(address, path).await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains(part),
                "{path}: {answer}"
            );
        }
        let plain = http::serve(any, routes(shown(false), &metrics), shutdown.clone());
        let off = get(plain.await.expect("a server"), "/debug/pprof/symbol").await;
        assert!(off.starts_with("HTTP/1.1 404"), "{off}");
        shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_in_use_is_an_error_or_waited_for() {
        let shutdown = CancellationToken::new();
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = taken.local_addr().expect("an address");
        let pages = || Routes::new().get("/x", |_| http::text(StatusCode::OK, "x"));
        assert!(serve(address, pages(), true, shutdown.clone()).await.is_err());
        assert!(serve(address, pages(), false, shutdown.clone()).await.is_ok());
        drop(taken);
        tokio::time::sleep(PAUSE * 2).await;
        assert!(get(address, "/x").await.ends_with('x'));
        shutdown.cancel();
    }
}
