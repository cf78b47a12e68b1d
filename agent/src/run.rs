//! Wiring: every part is made here, in order, and ends here.
//!
//! ```text
//! machine allowed? -> health endpoint -> runtime (lazy) -> TLS bootstrap -> clients -> events -> Node, lease, status
//!   -> objects, volumes, images -> pod manager -> READY=1 -> wait for SIGTERM
//! ```
//!
//! Nothing on this path gives up: an absent container runtime or API server is waited for, with a clear line in the
//! log. Ending the agent ends no pod.

mod facts;
mod pods;

use std::{path::Path, sync::Arc};

use anyhow::Context;
use gantry_chassis::{logging, shutdown};
use kube::Client;
use tracing::{info, warn};

use crate::{
    bootstrap,
    config::Config,
    events::{self, EventType, Events},
    health,
    logs::{Policy, Rotation, Tapes},
    metrics::Metrics,
    node::{Clients, NodeAgent},
    pods::{Directory, Turns},
    process,
    runtime::Runtime,
    server::{self, Api, logs::Logs},
    stats::Stats,
    status::{StatusWriter, WriterMetrics},
};

/// Run the agent until SIGTERM.
pub(crate) fn main(config: Config) -> anyhow::Result<()> {
    let logs = &config.kubelet.logging;
    let format = if logs.format == "json" {
        logging::Format::Json
    } else {
        logging::Format::Text
    };
    logging::init(u8::try_from(logs.verbosity).unwrap_or(u8::MAX), format);
    info!(
        version = crate::cli::VERSION,
        node = config.node_name,
        "gantry-agent starts"
    );
    for notice in &config.notices {
        warn!("{notice}");
    }
    process::check_machine(&config.kubelet)?;
    process::prepare(&config.kubelet);
    process::share_heap();
    // Two threads: one may be busy with a large message while the other starts a pod.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(run(Arc::new(config)));
    // Blocking work that is under way (a mount, an image pull) is the kernel's or the runtime's; it is not waited for.
    runtime.shutdown_background();
    result
}

async fn run(config: Arc<Config>) -> anyhow::Result<()> {
    let shutdown = shutdown::token().context("cannot listen for signals")?;
    health::start(&config.kubelet, shutdown.clone()).await;
    // Cancel safe: what was done is on disk or in the API, and the next start continues there.
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        result = serve(config) => result,
    }
}

async fn serve(config: Arc<Config>) -> anyhow::Result<()> {
    let settings = &config.kubelet;
    let metrics = Metrics::new(&config);
    let runtime = runtime(&config, &metrics)?;
    let _watcher = runtime.watch();
    let kubeconfig = bootstrap::ensure(&config).await?;
    if settings.rotate_certificates {
        metrics.read_client_certificate(bootstrap::current_certificate(&config));
    }
    let clients = connect(&kubeconfig, &metrics).await?;
    let turns = Turns::default();
    let events = start_events(clients.main.clone(), &config, turns.clone());
    let node = NodeAgent::start(&config, clients.clone(), &runtime, &events, metrics.node.clone());
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "cannot tell systemd that the agent is ready");
    }
    let main = &clients.main;
    let directory = directory(main.clone(), &metrics);
    let stats = Stats::new(&config, runtime.clone());
    metrics.read_logs(stats.clone());
    let base = pods::Base {
        client: main.clone(),
        runtime: runtime.clone(),
        events: events.clone(),
        directory: directory.clone(),
        stats: stats.clone(),
        metrics: metrics.clone(),
        turns,
    };
    let pods = async {
        let tasks = pods::start(&config, base, &node).await;
        let _tasks = tasks.context("cannot find the cgroup file systems")?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let rotation = rotate(main, &config, &metrics);
    let serving = async {
        if settings.server_tls_bootstrap {
            let failures = metrics.certificates.server_failures.clone();
            bootstrap::follow_serving(main, &config, node.node(), failures).await;
        }
        Ok(())
    };
    let tapes = Tapes::start();
    let policy = Policy::of(settings);
    let _log_rotation = policy.map(|policy| Rotation::start(policy, runtime.clone(), tapes.clone()));
    let api = Api {
        config: config.clone(),
        pods: directory,
        runtime,
        logs: Logs::new(tapes),
        stats,
        metrics: metrics.clone(),
    };
    let server = async { Ok(server::run(api, main).await?) };
    // None ends but in an error that only a new start can heal.
    tokio::try_join!(pods, rotation, serving, server).map(|_| ())
}

/// Renews the client certificate, if the configuration says so; ends in an error only.
async fn rotate(client: &Client, config: &Arc<Config>, metrics: &Metrics) -> anyhow::Result<()> {
    if config.kubelet.rotate_certificates {
        let failures = metrics.certificates.client_failures.clone();
        bootstrap::rotate(client.clone(), config, failures).await?;
    }
    std::future::pending().await
}

fn runtime(config: &Config, metrics: &Metrics) -> anyhow::Result<Runtime> {
    let settings = &config.kubelet;
    let runtime = Runtime::connect(
        &settings.container_runtime_endpoint,
        settings.runtime_request_timeout,
    )?
    .counting(metrics.runtime.clone());
    metrics.read_runtime(runtime.pods().clone());
    Ok(runtime)
}

fn directory(client: Client, metrics: &Metrics) -> Directory {
    let writer = WriterMetrics {
        status: metrics.status.clone(),
        starts: metrics.starts.clone(),
    };
    Directory::new(StatusWriter::new(client, writer))
}

/// One client for everything and one for the lease.
async fn connect(kubeconfig: &Path, metrics: &Metrics) -> anyhow::Result<Clients> {
    let agent = bootstrap::user_agent();
    info!(server = bootstrap::server(kubeconfig), "API server");
    Ok(Clients {
        main: gantry_kubeapi::connect_counted(kubeconfig, &agent, &metrics.requests).await?,
        lease: gantry_kubeapi::connect_counted(kubeconfig, &agent, &metrics.requests).await?,
    })
}

fn start_events(client: Client, config: &Config, turns: Turns) -> Events {
    let (qps, burst) = (config.kubelet.event_record_qps, config.kubelet.event_burst);
    let events = events::start(client, &config.node_name, qps, burst, turns);
    announce(&events);
    events
}

fn announce(events: &Events) {
    if !process::is_cgroup_v2() {
        let text = "Cgroup v1 support is in maintenance mode, please migrate to Cgroup v2";
        warn!("{text}");
        events.node(EventType::Warning, "CgroupV1", text);
    }
}
