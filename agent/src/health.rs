//! `/healthz` on `healthzBindAddress:healthzPort`: kubeadm waits for its 200 before it goes on.
//!
//! It is up before anything else and says only that the process lives (the check `ping`); nothing more is served there
//! (CVE-2019-11248). A port that is taken is tried again, as in the reference.

use std::{net::SocketAddr, time::Duration};

use gantry_agent_core::api::{Query, health};
use gantry_chassis::http::{Routes, serve, text};
use hyper::StatusCode;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{config::Settings, report::Chain};

/// Time between two tries to listen.
const RETRY: Duration = Duration::from_secs(5);

/// Serve until `shutdown`. The first try to listen is over when this returns.
pub(crate) async fn start(settings: &Settings, shutdown: CancellationToken) {
    if settings.healthz_port == 0 {
        return;
    }
    let address = SocketAddr::new(settings.healthz_bind_address, settings.healthz_port);
    if !try_once(address, &shutdown).await {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                if shutdown.is_cancelled() || try_once(address, &shutdown).await {
                    return;
                }
            }
        });
    }
}

async fn try_once(address: SocketAddr, shutdown: &CancellationToken) -> bool {
    let routes = Routes::new()
        .get("/healthz", |request| {
            let query = Query::parse(request.uri().query().unwrap_or_default());
            text(
                StatusCode::OK,
                health::report("healthz", &[("ping", Ok(()))], &query).text,
            )
        })
        .get("/healthz/ping", |_| text(StatusCode::OK, "ok"));
    match serve(address, routes, shutdown.clone()).await {
        Ok(address) => {
            info!(%address, "health endpoint");
            true
        }
        Err(error) => {
            warn!(error = %Chain(&error), "no health endpoint, will retry");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::config::testing::settings;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_healthz_and_nothing_else() {
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let shutdown = CancellationToken::new();
        start(
            &settings(&format!("healthzPort: {}", free.port())),
            shutdown.clone(),
        )
        .await;
        let healthy = get(free, "/healthz").await;
        assert!(
            healthy.starts_with("HTTP/1.1 200") && healthy.ends_with("ok"),
            "{healthy}"
        );
        assert!(
            get(free, "/healthz?verbose")
                .await
                .ends_with("[+]ping ok\nhealthz check passed\n")
        );
        assert!(get(free, "/healthz/ping").await.ends_with("ok"));
        for path in ["/", "/debug/pprof/", "/healthz/syncloop", "/metrics", "/configz"] {
            assert!(get(free, path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
        shutdown.cancel();
    }
}
