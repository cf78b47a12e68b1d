//! A kube-proxy: reads flags and configuration, opens what the main loop needs, and runs it.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use gantry_chassis::http::{self, Routes as Paths};
use gantry_chassis::{logging, metrics::scrape, shutdown};
use gantry_proxy::REFERENCE_VERSION;
use gantry_proxy::config::{self, DetectLocal, NodePortRule, Settings};
use gantry_proxy::flags::Flags;
use gantry_proxy::health::Health;
use gantry_proxy::metrics::Metrics;
use gantry_proxy::programmer::{FAMILY, Programmer};
use gantry_proxy::routes::Routes;
use gantry_proxy::run::Proxy;
use gantry_proxy::table::{Layout, Masquerading, NodePorts, Pods, Table};
use gantry_proxy::{sysctl, watch};
use hyper::StatusCode;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match start(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: &Flags) -> anyhow::Result<()> {
    if flags.version {
        println!(
            "Kubernetes {REFERENCE_VERSION} (gantry-proxy {})",
            env!("CARGO_PKG_VERSION")
        );
        return Ok(());
    }
    if flags.cleanup {
        return cleanup();
    }
    let path = flags.config.as_deref().context("--config is required")?;
    let loaded = config::load(path)?;
    let logging_settings = &loaded.file.logging;
    let format = match logging_settings.format.as_str() {
        "json" => logging::Format::Json,
        _ => logging::Format::Text,
    };
    let verbosity = flags
        .verbosity
        .unwrap_or(u8::try_from(logging_settings.verbosity).unwrap_or(u8::MAX));
    logging::init(verbosity, format);
    for field in &loaded.unknown {
        warn!(field, file = %path.display(), "unknown configuration field, ignored");
    }
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let settings = Settings::new(loaded.file, flags.hostname_override.as_deref(), &hostname)?;
    // One thread: everything waits for the API server or for the kernel.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(flags, settings))
}

async fn serve(flags: &Flags, settings: Settings) -> anyhow::Result<()> {
    let shutdown = shutdown::token()?;
    info!(version = REFERENCE_VERSION, node = %settings.node_name, "gantry-proxy starts");
    remark(&settings);
    sysctl::set_oom_score(settings.oom_score_adj);
    sysctl::apply(&settings.conntrack);
    let metrics = Metrics::new();
    let health = Health::new(settings.sync_period);
    listen(&settings, &health, &metrics, &shutdown).await?;
    let kubeconfig = &settings.kubeconfig;
    let client = gantry_kubeapi::connect_counted(kubeconfig, "gantry-proxy", &metrics.requests).await?;
    let inputs = watch::start(&client, &settings.node_name);
    let proxy = Proxy {
        programmer: Programmer::open(layout(&settings)).context("nf_tables cannot be used")?,
        routes: Routes::open().context("routes cannot be used")?,
        cni_conf_dir: flags.cni_conf_dir.clone(),
        settings,
        health,
        metrics,
    };
    proxy.run(inputs, shutdown).await;
    Ok(())
}

/// Says once what is configured but done otherwise.
fn remark(settings: &Settings) {
    if settings.mode != "nftables" {
        info!(
            mode = settings.mode,
            "this proxy knows one mode, nftables, and runs it"
        );
    }
    if !tells_pods(settings) {
        info!("no clusterCIDR for the table's addresses: pods are not told from other sources");
    }
}

/// False if there is no way to tell pods from others: then nobody is masqueraded for not being one.
fn tells_pods(settings: &Settings) -> bool {
    match &settings.detect_local {
        DetectLocal::ClusterCidr(ranges) => ranges.iter().any(|range| range.is_ipv4()),
        DetectLocal::NodeCidr | DetectLocal::Bridge(_) | DetectLocal::InterfacePrefix(_) => true,
    }
}

fn layout(settings: &Settings) -> Layout {
    let by_interface = |name, whole| Pods::Interface {
        name,
        whole,
        mark_bit: settings.masquerade_bit,
    };
    Layout {
        pods: match settings.detect_local {
            DetectLocal::ClusterCidr(_) | DetectLocal::NodeCidr => Pods::Ranges,
            DetectLocal::Bridge(name) => by_interface(name, true),
            DetectLocal::InterfacePrefix(name) => by_interface(name, false),
        },
        family: FAMILY,
        node_ports: match settings.node_ports {
            NodePortRule::Any => NodePorts::AnyLocal,
            NodePortRule::Primary | NodePortRule::Ranges(_) => NodePorts::Listed,
        },
        masquerading: match (settings.masquerade_all, tells_pods(settings)) {
            (true, _) => Masquerading::Everybody,
            (false, true) => Masquerading::NotPods,
            (false, false) => Masquerading::Nobody,
        },
    }
}

/// Starts the two servers. A port in use is an error only if the configuration says so.
async fn listen(
    settings: &Settings,
    health: &Health,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let registry = metrics.registry.clone();
    let paths = Paths::new()
        .get("/healthz", |_| http::text(StatusCode::OK, "ok"))
        .get("/proxyMode", |_| http::text(StatusCode::OK, "nftables"))
        .get("/metrics", move |_| scrape(&registry));
    for (address, paths) in [
        (settings.healthz, health.routes(metrics)),
        (settings.metrics, paths),
    ] {
        let Some(address) = address else { continue };
        if let Err(error) = http::serve(address, paths, shutdown.clone()).await {
            if settings.bind_hard_fail {
                return Err(error.into());
            }
            warn!(error = format!("{:#}", anyhow::Error::from(error)), "not served");
        }
    }
    Ok(())
}

/// Removes the table of this program or of the reference, and our routes.
fn cleanup() -> anyhow::Result<()> {
    logging::init(0, logging::Format::Text);
    for family in [gantry_nft::Family::Ipv4, gantry_nft::Family::Ipv6] {
        let layout = Layout {
            family,
            node_ports: NodePorts::Listed,
            masquerading: Masquerading::Nobody,
            pods: Pods::Ranges,
        };
        Table::open(layout)?.remove()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        Routes::open()?
            .set(&Default::default())
            .await
            .context("pod routes")
    })
}
