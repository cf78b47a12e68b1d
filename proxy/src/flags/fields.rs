//! The flags that mirror fields of the configuration file.

use serde_json::{Value, json};

/// A flag and the fields that it sets.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) flag: &'static str,
    pub(super) kind: Kind,
    /// Several where the reference's flag means whatever mode runs.
    pub(super) paths: &'static [&'static str],
}

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text; also durations and addresses, which are judged with the rest of the configuration.
    Text,
    Bool,
    Int,
    Float,
    /// Separated by commas.
    List,
    /// `name=true`, separated by commas.
    Gates,
    /// The port of a field that holds this address by default; 0 turns it off.
    Port(&'static str),
}

const fn field(flag: &'static str, kind: Kind, paths: &'static [&'static str]) -> Field {
    Field { flag, kind, paths }
}

/// All of them.
pub(super) const FIELDS: &[Field] = &[
    field("feature-gates", Kind::Gates, &["featureGates"]),
    field("kubeconfig", Kind::Text, &["clientConnection.kubeconfig"]),
    field(
        "kube-api-content-type",
        Kind::Text,
        &["clientConnection.contentType"],
    ),
    field("kube-api-burst", Kind::Int, &["clientConnection.burst"]),
    field("kube-api-qps", Kind::Float, &["clientConnection.qps"]),
    field("bind-address", Kind::Text, &["bindAddress"]),
    field("healthz-bind-address", Kind::Text, &["healthzBindAddress"]),
    field("metrics-bind-address", Kind::Text, &["metricsBindAddress"]),
    field("bind-address-hard-fail", Kind::Bool, &["bindAddressHardFail"]),
    field("profiling", Kind::Bool, &["enableProfiling"]),
    field(
        "show-hidden-metrics-for-version",
        Kind::Text,
        &["showHiddenMetricsForVersion"],
    ),
    field("proxy-mode", Kind::Text, &["mode"]),
    field("iptables-masquerade-bit", Kind::Int, &["iptables.masqueradeBit"]),
    field(
        "masquerade-all",
        Kind::Bool,
        &["nftables.masqueradeAll", "iptables.masqueradeAll"],
    ),
    field(
        "iptables-localhost-nodeports",
        Kind::Bool,
        &["iptables.localhostNodePorts"],
    ),
    field(
        "iptables-sync-period",
        Kind::Text,
        &["nftables.syncPeriod", "iptables.syncPeriod"],
    ),
    field(
        "iptables-min-sync-period",
        Kind::Text,
        &["nftables.minSyncPeriod", "iptables.minSyncPeriod"],
    ),
    field("ipvs-sync-period", Kind::Text, &["ipvs.syncPeriod"]),
    field("ipvs-min-sync-period", Kind::Text, &["ipvs.minSyncPeriod"]),
    field("ipvs-scheduler", Kind::Text, &["ipvs.scheduler"]),
    field("ipvs-exclude-cidrs", Kind::List, &["ipvs.excludeCIDRs"]),
    field("ipvs-strict-arp", Kind::Bool, &["ipvs.strictARP"]),
    field("ipvs-tcp-timeout", Kind::Text, &["ipvs.tcpTimeout"]),
    field("ipvs-tcpfin-timeout", Kind::Text, &["ipvs.tcpFinTimeout"]),
    field("ipvs-udp-timeout", Kind::Text, &["ipvs.udpTimeout"]),
    field("detect-local-mode", Kind::Text, &["detectLocalMode"]),
    field(
        "pod-bridge-interface",
        Kind::Text,
        &["detectLocal.bridgeInterface"],
    ),
    field(
        "pod-interface-name-prefix",
        Kind::Text,
        &["detectLocal.interfaceNamePrefix"],
    ),
    field("cluster-cidr", Kind::Text, &["clusterCIDR"]),
    field("nodeport-addresses", Kind::List, &["nodePortAddresses"]),
    field("oom-score-adj", Kind::Int, &["oomScoreAdj"]),
    field("conntrack-max-per-core", Kind::Int, &["conntrack.maxPerCore"]),
    field("conntrack-min", Kind::Int, &["conntrack.min"]),
    field(
        "conntrack-tcp-timeout-established",
        Kind::Text,
        &["conntrack.tcpEstablishedTimeout"],
    ),
    field(
        "conntrack-tcp-timeout-close-wait",
        Kind::Text,
        &["conntrack.tcpCloseWaitTimeout"],
    ),
    field(
        "conntrack-tcp-be-liberal",
        Kind::Bool,
        &["conntrack.tcpBeLiberal"],
    ),
    field("conntrack-udp-timeout", Kind::Text, &["conntrack.udpTimeout"]),
    field(
        "conntrack-udp-timeout-stream",
        Kind::Text,
        &["conntrack.udpStreamTimeout"],
    ),
    field("config-sync-period", Kind::Text, &["configSyncPeriod"]),
    field(
        "healthz-port",
        Kind::Port("0.0.0.0:10256"),
        &["healthzBindAddress"],
    ),
    field(
        "metrics-port",
        Kind::Port("127.0.0.1:10249"),
        &["metricsBindAddress"],
    ),
    field("v", Kind::Int, &["logging.verbosity"]),
    field("vmodule", Kind::Text, &["logging.vmodule"]),
    field("logging-format", Kind::Text, &["logging.format"]),
    field("log-flush-frequency", Kind::Text, &["logging.flushFrequency"]),
];

/// kube-proxy's flags that change nothing here: accepted, named in the log when given.
pub(super) const NO_EFFECT: &[(&str, Kind)] = &[
    ("log-json-info-buffer-size", Kind::Text),
    ("log-json-split-stream", Kind::Bool),
    ("log-text-info-buffer-size", Kind::Text),
    ("log-text-split-stream", Kind::Bool),
    ("boot-id-file", Kind::Text),
    ("machine-id-file", Kind::Text),
];

impl Field {
    /// Flags of logging count also beside a configuration file.
    pub(super) fn is_logging(&self) -> bool {
        self.paths.iter().any(|path| path.starts_with("logging."))
    }
}

impl Kind {
    /// The value that stands in the configuration.
    pub(super) fn read(self, text: &str) -> Result<Value, String> {
        let list = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        match self {
            Self::Text => Ok(text.into()),
            Self::Bool => read_bool(text).map(Value::from),
            Self::Int => {
                let number = text.trim().parse::<i32>();
                number
                    .map(Value::from)
                    .map_err(|_| "not a whole number of 32 bits".to_owned())
            }
            Self::Float => match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number.into()),
                Ok(_) | Err(_) => Err("not a number".to_owned()),
            },
            Self::List => Ok(list().collect::<Vec<_>>().into()),
            Self::Gates => {
                let mut gates = json!({});
                for part in list() {
                    let (name, value) = part
                        .split_once('=')
                        .ok_or_else(|| format!("missing bool value for {part}"))?;
                    gates[name.trim()] = read_bool(value.trim())?.into();
                }
                Ok(gates)
            }
            Self::Port(default) => {
                let port: u16 = text.trim().parse().map_err(|_| "not a port".to_owned())?;
                let address = default.rsplit_once(':').map_or(default, |(address, _)| address);
                Ok(format!("{address}:{port}").into())
            }
        }
    }
}

/// As Go reads it.
fn read_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}
