//! A kube-proxy: reads flags and configuration, opens what the main loop needs, and runs it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gantry_chassis::http::ListenError;
use gantry_chassis::{logging, shutdown};
use gantry_kubeapi::Server;
use gantry_proxy::REFERENCE_VERSION;
use gantry_proxy::cleanup::{self, Also};
use gantry_proxy::config::{ConfigWatch, DetectLocal, File, NodePortRule, Settings};
use gantry_proxy::flags::{self, Flags, Invocation};
use gantry_proxy::health::Health;
use gantry_proxy::metrics::Metrics;
use gantry_proxy::pages::{self, Shown};
use gantry_proxy::policy::{self, Policies};
use gantry_proxy::programmer::with_cause;
use gantry_proxy::routes::Routes;
use gantry_proxy::run::{Network, Proxy};
use gantry_proxy::stack::{Shared, Stack};
use gantry_proxy::table::{Layout, Masquerading, NodePorts, Pods, kernels};
use gantry_proxy::{events, leftovers, outward, sysctl, watch};
use gantry_proxy_core::{Families, Family};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long an event may take that is written before the program ends.
const LAST_WORD: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let done = match flags::parse(std::env::args_os()) {
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            Ok(())
        }
        Ok(Invocation::Run(flags)) => start(&flags),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: &Flags) -> anyhow::Result<()> {
    let (loaded, content) = flags::configuration(flags)?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let settings = Settings::new(loaded.file.clone(), flags.hostname_override.as_deref(), &hostname)?;
    start_logging(&loaded.file);
    for field in &loaded.unknown {
        warn!(field, "unknown configuration field, ignored");
    }
    if !flags.without_effect.is_empty() {
        warn!(flags = flags.without_effect.join(", "), "flags without effect");
    }
    if let Some(path) = &flags.write_config_to {
        let text = loaded.file.yaml()?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        info!(file = %path.display(), "configuration written");
        return Ok(());
    }
    if flags.cleanup {
        return clean(flags);
    }
    let families = Families::on(sysctl::has_ipv6());
    if flags.init_only {
        sysctl::apply(&settings.conntrack, families, settings_dir(flags));
        return Ok(());
    }
    // One thread: everything waits for the API server or for the kernel.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(flags, settings, families, &loaded.file, content))
}

fn settings_dir(flags: &Flags) -> &Path {
    flags
        .sysctl_net_dir
        .as_deref()
        .unwrap_or_else(|| Path::new(sysctl::NET))
}

fn start_logging(file: &File) {
    let format = match file.logging.format.as_str() {
        "json" => logging::Format::Json,
        _ => logging::Format::Text,
    };
    logging::init(u8::try_from(file.logging.verbosity).unwrap_or(u8::MAX), format);
}

async fn serve(
    flags: &Flags,
    settings: Settings,
    families: Families,
    file: &File,
    content: Option<String>,
) -> anyhow::Result<()> {
    let shutdown = shutdown::token()?;
    // Before anything else, so that no change is missed.
    let config = watched(flags, content).context("cannot watch --config")?;
    info!(version = REFERENCE_VERSION, node = %settings.node_name, "gantry-proxy starts");
    remark(&settings, families);
    let metrics = Metrics::new();
    let server = server(flags, &settings);
    let client = gantry_kubeapi::connect_to(&server, "gantry-proxy", &metrics.requests).await?;
    sysctl::set_oom_score(settings.oom_score_adj);
    sysctl::apply(&settings.conntrack, families, settings_dir(flags));
    let health = Health::new(settings.sync_period);
    let shown = Shown {
        configuration: file.object()?,
        flags: flags.shown.clone(),
        profiling: settings.profiling,
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (events, writer) = events::start(client.clone(), &settings.node_name, host);
    let shared = Shared {
        health: &health,
        metrics: &metrics,
        events: &events,
    };
    if let Err(error) = serve_pages(&settings, shown, &shared, &shutdown).await {
        drop(events);
        // The program ends with it; whether users are told must not hold it up.
        let _ = tokio::time::timeout(LAST_WORD, writer).await;
        return Err(error.into());
    }
    leftovers::warn_of(&mut gantry_nft::Nft::open().context("nf_tables cannot be used")?);
    let inputs = watch::start(&client, &settings.node_name, families);
    let open = |family: &Family| Stack::open(*family, layout(&settings, *family), &shared);
    let touched = Arc::new(Notify::new());
    if flags.network_policy {
        let policies = open_policies(flags, families, &metrics, &touched)?;
        tokio::spawn(policies.run(client, settings.node_name.clone(), shutdown.clone()));
    }
    let proxy = Proxy {
        families,
        stacks: families.all().iter().map(open).collect::<Result<_, _>>()?,
        touched,
        routes: Routes::open().context("routes cannot be used")?,
        network: network(flags, families)?,
        settings,
        health,
        metrics,
    };
    events.starting();
    // Cancel safe: the table and the routes stay as they are.
    tokio::select! {
        ended = proxy.run(inputs, shutdown.clone()) => Ok(ended?),
        changed = until_changed(config) => {
            changed.context("cannot watch --config")?;
            shutdown.cancel();
            anyhow::bail!("content of the proxy server's configuration file was updated")
        }
    }
}

fn open_policies(
    flags: &Flags,
    families: Families,
    metrics: &Metrics,
    touched: &Arc<Notify>,
) -> anyhow::Result<Policies> {
    let mut policies =
        Policies::open(families, &metrics.registry, touched).context("nf_tables cannot be used")?;
    if is_told_of_pods(flags) {
        policies.listen(Path::new(policy::DIR))?;
    }
    Ok(policies)
}

/// True if policies are enforced and this program makes the pods' network, whose plugin then tells of them.
fn is_told_of_pods(flags: &Flags) -> bool {
    flags.network_policy && flags.cni_conf_dir.is_some()
}

fn server(flags: &Flags, settings: &Settings) -> Server {
    Server {
        kubeconfig: settings.kubeconfig.clone(),
        address: flags.master.clone(),
        server_from: flags.server_from_kubeconfig.clone(),
    }
}

/// The pods' network, if it is this program's.
fn network(flags: &Flags, families: Families) -> anyhow::Result<Option<Network>> {
    let Some(conf_dir) = flags.cni_conf_dir.clone() else {
        return Ok(None);
    };
    let outward = outward::Tables::open(families).context("nf_tables cannot be used")?;
    let socket = is_told_of_pods(flags).then(|| Path::new(policy::DIR).join(policy::SOCKET));
    Ok(Some(Network::new(
        conf_dir,
        flags.cni_bin_dir.clone(),
        socket,
        outward,
    )))
}

/// The file with the configuration, if there is one.
fn watched(flags: &Flags, content: Option<String>) -> std::io::Result<Option<ConfigWatch>> {
    let file = flags.config.as_ref().zip(content);
    file.map(|(path, content)| ConfigWatch::new(path, content))
        .transpose()
}

/// The two ports.
async fn serve_pages(
    settings: &Settings,
    shown: Shown,
    shared: &Shared<'_>,
    shutdown: &CancellationToken,
) -> Result<(), ListenError> {
    let health = shared.health.routes(shared.metrics);
    let pages = pages::routes(shown, shared.metrics);
    for (reason, address, routes) in [
        ("FailedToStartProxierHealthcheck", settings.healthz, health),
        ("FailedToStartMetricServer", settings.metrics, pages),
    ] {
        let Some(address) = address else { continue };
        pages::serve(address, routes, settings.bind_hard_fail, shutdown.clone())
            .await
            .inspect_err(|error| shared.events.port_not_served(reason, &with_cause(error)))?;
    }
    Ok(())
}

/// Without a file for ever.
async fn until_changed(config: Option<ConfigWatch>) -> std::io::Result<()> {
    match config {
        Some(config) => config.changed().await,
        None => std::future::pending().await,
    }
}

/// Says once what runs, and what is configured but done otherwise.
fn remark(settings: &Settings, families: Families) {
    if settings.mode != "nftables" {
        info!(
            mode = settings.mode,
            "this proxy knows one mode, nftables, and runs it"
        );
    }
    match families {
        Families::Both => info!("both address families are served"),
        Families::Ipv4Only => info!("IPv4 alone is served: this kernel has no IPv6, or it is switched off"),
    }
    let told = |family: &Family| tells_pods(settings, *family);
    if !families.all().iter().any(told) {
        info!("no clusterCIDR: pods are not told from other sources");
    }
}

/// False if there is no way to tell pods of a family from others: then nobody is masqueraded for not being one.
fn tells_pods(settings: &Settings, family: Family) -> bool {
    match &settings.detect_local {
        DetectLocal::ClusterCidr(ranges) => ranges.iter().any(|range| range.is_ipv6() == family.is_ipv6()),
        DetectLocal::NodeCidr | DetectLocal::Bridge(_) | DetectLocal::InterfacePrefix(_) => true,
    }
}

fn layout(settings: &Settings, family: Family) -> Layout {
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
        family: kernels(family),
        node_ports: match settings.node_ports.of(family) {
            NodePortRule::Any => NodePorts::AnyLocal,
            NodePortRule::Primary | NodePortRule::Ranges(_) => NodePorts::Listed,
        },
        masquerading: match (settings.masquerade_all, tells_pods(settings, family)) {
            (true, _) => Masquerading::Everybody,
            (false, true) => Masquerading::NotPods,
            (false, false) => Masquerading::Nobody,
        },
    }
}

/// Removes what this program or the reference made.
fn clean(flags: &Flags) -> anyhow::Result<()> {
    let also = Also {
        conf_dir: flags.cni_conf_dir.clone(),
        bin_dir: flags.cni_bin_dir.clone(),
    };
    cleanup::run(&also)?;
    if !flags.stay {
        return Ok(());
    }
    info!("everything is removed; waiting to be ended");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        shutdown::token()?.cancelled().await;
        Ok(())
    })
}
