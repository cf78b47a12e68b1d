//! The variables that tell a pod of the services around it, in the form of old Docker links.

use std::collections::BTreeMap;

/// The part of a Service that variables are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLink {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `spec.clusterIP`; a headless service (`None`, empty) makes no variables.
    pub cluster_ip: String,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty when it has none.
    pub name: String,
    /// `TCP`, `UDP`, `SCTP`; empty is TCP.
    pub protocol: String,
    /// The port of the cluster address.
    pub port: u16,
}

/// The variables of the services that a pod of `namespace` sees: `kubernetes` of `default` always, those of its own
/// namespace when `links` (`enableServiceLinks`).
#[must_use]
pub fn service_variables(services: &[ServiceLink], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut visible: BTreeMap<&str, &ServiceLink> = BTreeMap::new();
    for service in services {
        if service.cluster_ip.is_empty() || service.cluster_ip == "None" {
            continue;
        }
        if service.namespace == "default" && service.name == "kubernetes" {
            visible.entry(&service.name).or_insert(service);
        } else if service.namespace == namespace && links {
            visible.insert(&service.name, service);
        }
    }
    let mut variables = BTreeMap::new();
    for service in visible.into_values() {
        add(&mut variables, service);
    }
    variables
}

fn add(variables: &mut BTreeMap<String, String>, service: &ServiceLink) {
    let Some(first) = service.ports.first() else {
        return;
    };
    let prefix = variable_name(&service.name);
    let ip = &service.cluster_ip;
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{prefix}_SERVICE_HOST"), ip.clone());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in service.ports.iter().filter(|p| !p.name.is_empty()) {
        set(
            format!("{prefix}_SERVICE_PORT_{}", variable_name(&port.name)),
            port.port.to_string(),
        );
    }
    let address = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.clone()
    };
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = if port.protocol.is_empty() {
            "TCP"
        } else {
            &port.protocol
        };
        let lower = protocol.to_ascii_lowercase();
        let url = format!("{lower}://{address}:{}", port.port);
        if index == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let name = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        set(format!("{name}_PROTO"), lower);
        set(format!("{name}_PORT"), port.port.to_string());
        set(format!("{name}_ADDR"), ip.clone());
        set(name, url);
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, &str, u16)]) -> ServiceLink {
        let port = |&(name, protocol, port): &(&str, &str, u16)| ServicePort {
            name: name.into(),
            protocol: protocol.into(),
            port,
        };
        ServiceLink {
            namespace: namespace.into(),
            name: name.into(),
            cluster_ip: ip.into(),
            ports: ports.iter().map(port).collect(),
        }
    }

    #[test]
    fn names_and_values() {
        let services = [service(
            "ns",
            "foo-bar",
            "10.0.0.1",
            &[("http", "TCP", 80), ("dns", "UDP", 53)],
        )];
        let variables = service_variables(&services, "ns", true);
        let wanted = [
            ("FOO_BAR_PORT", "tcp://10.0.0.1:80"),
            ("FOO_BAR_PORT_53_UDP", "udp://10.0.0.1:53"),
            ("FOO_BAR_PORT_53_UDP_ADDR", "10.0.0.1"),
            ("FOO_BAR_PORT_53_UDP_PORT", "53"),
            ("FOO_BAR_PORT_53_UDP_PROTO", "udp"),
            ("FOO_BAR_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("FOO_BAR_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("FOO_BAR_PORT_80_TCP_PORT", "80"),
            ("FOO_BAR_PORT_80_TCP_PROTO", "tcp"),
            ("FOO_BAR_SERVICE_HOST", "10.0.0.1"),
            ("FOO_BAR_SERVICE_PORT", "80"),
            ("FOO_BAR_SERVICE_PORT_DNS", "53"),
            ("FOO_BAR_SERVICE_PORT_HTTP", "80"),
        ];
        let variables: Vec<_> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(variables, wanted);
    }

    #[test]
    fn which_services_a_pod_sees() {
        let services = [
            service("default", "kubernetes", "10.96.0.1", &[("https", "", 443)]),
            service("ns", "mine", "fd00::1", &[("", "TCP", 80)]),
            service("ns", "headless", "None", &[("", "TCP", 80)]),
            service("other", "theirs", "10.0.0.3", &[("", "TCP", 80)]),
        ];
        let hosts = |links: bool| -> Vec<String> {
            let names = service_variables(&services, "ns", links).into_keys();
            names.filter(|name| name.ends_with("_SERVICE_HOST")).collect()
        };
        assert_eq!(hosts(true), ["KUBERNETES_SERVICE_HOST", "MINE_SERVICE_HOST"]);
        assert_eq!(hosts(false), ["KUBERNETES_SERVICE_HOST"]);
        assert_eq!(
            service_variables(&services, "ns", true)["MINE_PORT"],
            "tcp://[fd00::1]:80"
        );
    }
}
