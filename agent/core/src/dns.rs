//! The pod's resolver configuration, from its DNS policy, its `dnsConfig`, the cluster's DNS and the node's
//! resolv.conf.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
/// A longer search path makes some resolvers abort.
const MAX_SEARCH_PATH: usize = 253;

/// What resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// The node's part.
#[derive(Debug, Clone, Default)]
pub struct NodeDns {
    /// `clusterDNS`.
    pub cluster_dns: Vec<IpAddr>,
    /// `clusterDomain`.
    pub cluster_domain: String,
    /// The parsed `resolvConf` file; `None` when it is configured as empty.
    pub host: Option<DnsConfig>,
    /// The node's addresses.
    pub node_ips: Vec<IpAddr>,
}

/// A warning event on the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsWarning {
    /// The event's reason: `DNSConfigForming` or `MissingClusterDNS`.
    pub reason: &'static str,
    /// Its message.
    pub message: String,
}

/// Parses a resolv.conf; what is no nameserver, search or options line is skipped.
#[must_use]
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => config.servers.extend(fields.next().map(str::to_owned)),
            // The last search line wins; `x.` and `x` are the same path.
            Some("search") => {
                config.searches = fields
                    .filter(|path| *path != ".")
                    .map(|path| path.strip_suffix('.').unwrap_or(path).to_owned())
                    .collect();
            }
            Some("options") => fields.for_each(|option| set_option(&mut config.options, option)),
            _ => {}
        }
    }
    config
}

/// Where a pod's configuration starts from.
enum Base {
    Cluster,
    Host,
    Nothing,
}

fn base(pod: &Pod) -> Base {
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|s| s.host_network).unwrap_or(false);
    match spec.and_then(|s| s.dns_policy.as_deref()) {
        Some("None") => Base::Nothing,
        Some("Default") => Base::Host,
        Some("ClusterFirst") if host_network => Base::Host,
        // ClusterFirst, ClusterFirstWithHostNet, and what the API server would have refused.
        _ => Base::Cluster,
    }
}

/// The pod's configuration, and warnings for events.
#[must_use]
pub fn pod_dns(pod: &Pod, node: &NodeDns) -> (DnsConfig, Vec<DnsWarning>) {
    let mut warnings = Vec::new();
    let mut config = match base(pod) {
        Base::Nothing => DnsConfig::default(),
        Base::Host => host_dns(node),
        Base::Cluster if node.cluster_dns.is_empty() => {
            let message = format!(
                "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" \
                 policy. Falling back to \"Default\" policy.",
                pod_label(pod)
            );
            warnings.push(DnsWarning {
                reason: "MissingClusterDNS",
                message,
            });
            host_dns(node)
        }
        Base::Cluster => cluster_dns(pod, node),
    };
    if let Some(own) = pod.spec.as_ref().and_then(|s| s.dns_config.as_ref()) {
        append(&mut config, own);
    }
    warnings.extend(fit_limits(&mut config));
    (config, warnings)
}

/// `name_namespace(uid)`, as the reference names a pod in messages.
#[must_use]
pub fn pod_label(pod: &Pod) -> String {
    let m = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}_{}({})", text(&m.name), text(&m.namespace), text(&m.uid))
}

fn cluster_dns(pod: &Pod, node: &NodeDns) -> DnsConfig {
    let mut searches = Vec::new();
    if !node.cluster_domain.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = &node.cluster_domain;
        searches = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
    }
    add_new(&mut searches, node.host.iter().flat_map(|host| &host.searches));
    DnsConfig {
        servers: node.cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

/// The node's own; with an empty `resolvConf` a configuration that finds nothing.
fn host_dns(node: &NodeDns) -> DnsConfig {
    if let Some(host) = &node.host {
        return host.clone();
    }
    let mut servers: Vec<String> = node
        .node_ips
        .iter()
        .map(|ip| if ip.is_ipv6() { "::1" } else { "127.0.0.1" }.to_owned())
        .collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    DnsConfig {
        servers,
        searches: vec![".".to_owned()],
        options: Vec::new(),
    }
}

fn append(config: &mut DnsConfig, own: &PodDNSConfig) {
    add_new(&mut config.servers, own.nameservers.iter().flatten());
    add_new(&mut config.searches, own.searches.iter().flatten());
    for option in own.options.iter().flatten() {
        let name = option.name.as_deref().unwrap_or_default();
        match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => set_option(&mut config.options, &format!("{name}:{value}")),
            None => set_option(&mut config.options, name),
        }
    }
}

fn add_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// A later option replaces an earlier one of the same name in its place.
fn set_option(options: &mut Vec<String>, option: &str) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|old| name(old) == name(option)) {
        Some(old) => option.clone_into(old),
        None => options.push(option.to_owned()),
    }
}

fn fit_limits(config: &mut DnsConfig) -> Vec<DnsWarning> {
    let mut warnings = Vec::new();
    let mut warn = |message| {
        warnings.push(DnsWarning {
            reason: "DNSConfigForming",
            message,
        })
    };
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        warn(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            config.servers.join(" ")
        ));
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    config.searches.retain(|path| path.len() <= MAX_SEARCH_PATH);
    while config.searches.join(" ").len() > MAX_SEARCH_CHARS {
        config.searches.pop();
    }
    if config.searches.len() < before {
        warn(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            config.searches.join(" ")
        ));
    }
    warnings
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
