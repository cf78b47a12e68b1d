//! Logs to stderr, as journald and `kubectl logs` expect.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// How a line looks: `logging.format` of KubeletConfiguration and KubeProxyConfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One readable line.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// The targets (crates) that are ours.
const OURS: [&str; 7] = [
    "gantry_agent",
    "gantry_agent_core",
    "gantry_chassis",
    "gantry_kubeapi",
    "gantry_nft",
    "gantry_proxy",
    "gantry_proxy_core",
];

/// Changes what is logged, once logging was started.
static RELOAD: OnceLock<Reload> = OnceLock::new();

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Starts logging. `verbosity` is klog's `-v`: 0-3 shows state changes, 4 and 5 decisions, 6 and more everything.
///
/// `GANTRY_LOG` (the syntax of `tracing_subscriber::EnvFilter`) overrides it for a single module. A second call does
/// nothing.
pub fn init(verbosity: u8, format: Format) {
    let filter = EnvFilter::try_from_env("GANTRY_LOG").unwrap_or_else(|_| filter(verbosity));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Fails only when a subscriber is set already, which then stays.
    let _ = match format {
        Format::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            keep(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            builder.try_init()
        }
        Format::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            keep(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            builder.try_init()
        }
    };
}

/// Changes the verbosity from now on, whatever it was.
///
/// # Errors
/// When logging was not started, in words.
pub fn set_verbosity(verbosity: u8) -> Result<(), String> {
    let set = RELOAD.get().ok_or("logging has not been started")?;
    set(filter(verbosity))
}

fn keep(reload: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) {
    // Full only at a second call, whose subscriber is not used.
    let _ = RELOAD.set(Box::new(reload));
}

fn filter(verbosity: u8) -> EnvFilter {
    let level = match verbosity {
        0..=3 => "info",
        4..=5 => "debug",
        6.. => "trace",
    };
    // The libraries' own debug output drowns ours; it is shown when everything is asked for.
    let libraries = if verbosity > 7 { level } else { "warn" };
    let ours = OURS.map(|target| format!(",{target}={level}")).concat();
    EnvFilter::new(format!("{libraries}{ours}"))
}
