//! The pod's /etc/hosts and host name.

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodSpec};
use thiserror::Error;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_HOST_NETWORK: &str = "# Kubernetes-managed hosts file (host network).\n";
const FIXED: &str = "127.0.0.1\tlocalhost\n\
                     ::1\tlocalhost ip6-localhost ip6-loopback\n\
                     fe00::0\tip6-localnet\n\
                     fe00::0\tip6-mcastprefix\n\
                     fe00::1\tip6-allnodes\n\
                     fe00::2\tip6-allrouters\n";
/// The kernel's limits without the closing zero.
const MAX_HOSTNAME: usize = 63;
const MAX_NODENAME: usize = 64;

/// What a pod is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodHostname {
    /// The short name.
    pub hostname: String,
    /// `subdomain.namespace.svc.clusterDomain`, empty without `spec.subdomain`.
    pub domain: String,
}

/// The spec's names cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostnameError {
    /// A name that is no DNS label or subdomain.
    #[error("pod {field} {name:?} is not a valid DNS {kind}")]
    Invalid {
        /// The field of the spec, as the reference writes it.
        field: &'static str,
        /// What it says.
        name: String,
        /// label or subdomain.
        kind: &'static str,
    },
    /// With `setHostnameAsFQDN`.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_NODENAME} characters is the max, {} characters requested)",
        fqdn.len()
    )]
    TooLong {
        /// The name.
        fqdn: String,
    },
}

/// The pod's names from its spec.
///
/// # Errors
/// When a name is invalid.
pub fn pod_hostname(pod: &Pod, cluster_domain: &str) -> Result<PodHostname, HostnameError> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let set = |field: &Option<String>| field.clone().filter(|name| !name.is_empty());
    let invalid = |field, name: &str, kind| HostnameError::Invalid {
        field,
        name: name.to_owned(),
        kind,
    };
    if let Some(name) = set(&spec.hostname_override) {
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(invalid("HostnameOverride", &name, "subdomain"));
        }
        return Ok(PodHostname {
            hostname: truncate(&name),
            domain: String::new(),
        });
    }
    let hostname = match set(&spec.hostname) {
        Some(name) if is_label(&name) => name,
        Some(name) => return Err(invalid("Hostname", &name, "label")),
        None => pod.metadata.name.clone().unwrap_or_default(),
    };
    let domain = match set(&spec.subdomain) {
        Some(name) if is_label(&name) => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            format!("{name}.{namespace}.svc.{cluster_domain}")
        }
        Some(name) => return Err(invalid("Subdomain", &name, "label")),
        None => String::new(),
    };
    Ok(PodHostname {
        hostname: truncate(&hostname),
        domain,
    })
}

impl PodHostname {
    /// The name that the pod's kernel knows: the FQDN with `setHostnameAsFQDN`.
    ///
    /// # Errors
    /// When the FQDN is too long for the kernel.
    pub fn kernel_name(&self, as_fqdn: bool) -> Result<String, HostnameError> {
        if !as_fqdn || self.domain.is_empty() {
            return Ok(self.hostname.clone());
        }
        let fqdn = format!("{}.{}", self.hostname, self.domain);
        if fqdn.len() > MAX_NODENAME {
            Err(HostnameError::TooLong { fqdn })
        } else {
            Ok(fqdn)
        }
    }
}

fn truncate(name: &str) -> String {
    match name.get(..MAX_HOSTNAME) {
        Some(cut) if name.len() > MAX_HOSTNAME => cut.trim_end_matches(['-', '.']).to_owned(),
        _ => name.to_owned(),
    }
}

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The file of a pod with a network of its own.
#[must_use]
pub fn managed_hosts(ips: &[IpAddr], name: &PodHostname, aliases: &[HostAlias]) -> String {
    let mut file = format!("{HEADER}{FIXED}");
    for ip in ips {
        let PodHostname { hostname, domain } = name;
        // Writing to a String cannot fail.
        let _ = if domain.is_empty() {
            writeln!(file, "{ip}\t{hostname}")
        } else {
            writeln!(file, "{ip}\t{hostname}.{domain}\t{hostname}")
        };
    }
    file + &alias_lines(aliases)
}

/// The file of a pod on the node's network: the node's own, and the pod's aliases.
#[must_use]
pub fn host_network_hosts(node_file: &str, aliases: &[HostAlias]) -> String {
    format!("{HEADER_HOST_NETWORK}{node_file}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut lines = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{}\t{names}", alias.ip);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        let json = format!(
            r#"{{"metadata":{{"name":"web-0","namespace":"ns"}},"spec":{{"containers":[],{spec}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn alias() -> HostAlias {
        HostAlias {
            ip: "10.0.0.9".into(),
            hostnames: Some(vec!["a".into(), "b".into()]),
        }
    }

    #[test]
    fn names() {
        let name = |spec: &str| pod_hostname(&pod(spec), "cluster.local");
        let plain = name(r#""nodeName":"n""#).unwrap();
        assert_eq!((plain.hostname.as_str(), plain.domain.as_str()), ("web-0", ""));
        let full = name(r#""hostname":"h","subdomain":"s""#).unwrap();
        assert_eq!(
            (full.hostname.as_str(), full.domain.as_str()),
            ("h", "s.ns.svc.cluster.local")
        );
        assert_eq!(full.kernel_name(true).unwrap(), "h.s.ns.svc.cluster.local");
        assert_eq!(full.kernel_name(false).unwrap(), "h");
        assert_eq!(
            name(r#""hostnameOverride":"x.y","subdomain":"s""#)
                .unwrap()
                .hostname,
            "x.y"
        );
        assert!(name(r#""hostname":"H""#).is_err());
        let mut long = pod(r#""subdomain":"s""#);
        long.metadata.name = Some(format!("{}-tail", "a".repeat(62)));
        let long = pod_hostname(&long, "cluster.local").unwrap();
        assert_eq!(long.hostname, "a".repeat(62));
        assert!(
            long.kernel_name(true)
                .unwrap_err()
                .to_string()
                .contains("is too long (64 characters is the max")
        );
    }

    #[test]
    fn managed_file() {
        let name = PodHostname {
            hostname: "web-0".into(),
            domain: "s.ns.svc.cluster.local".into(),
        };
        let ips = ["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(
            managed_hosts(&ips, &name, &[alias()]),
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
             10.0.0.5\tweb-0.s.ns.svc.cluster.local\tweb-0\nfd00::5\tweb-0.s.ns.svc.cluster.local\tweb-0\n\
             \n# Entries added by HostAliases.\n10.0.0.9\ta\tb\n"
        );
    }

    #[test]
    fn host_network_file() {
        assert_eq!(
            host_network_hosts("127.0.0.1 localhost\n", &[alias()]),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\n\
             # Entries added by HostAliases.\n10.0.0.9\ta\tb\n"
        );
    }
}
