//! The configuration that is in effect, as `--write-config-to` and `/configz` show it: every field with its value, also the ones that
//! the file left open.

use serde_json::{Value, json};

use super::duration::GoDuration;
use super::{API_VERSION, ConfigError, File, KIND};

/// The reference's defaults for what is zero (`SetDefaults_KubeProxyConfiguration`).
const FULL: &str = "0.0.0.0";

impl File {
    /// The same with the reference's defaults. The mode is ours where the file leaves it open.
    #[must_use]
    pub fn completed(&self) -> Self {
        let mut file = self.clone();
        let text = |field: &mut String, default: &str| {
            if field.is_empty() {
                default.clone_into(field);
            }
        };
        text(&mut file.api_version, API_VERSION);
        text(&mut file.kind, KIND);
        text(&mut file.bind_address, FULL);
        let ipv6 = file.bind_address.contains(':');
        let (all, own) = if ipv6 {
            ("[::]", "[::1]")
        } else {
            (FULL, "127.0.0.1")
        };
        file.healthz_bind_address = with_port(&file.healthz_bind_address, all, 10256);
        file.metrics_bind_address = with_port(&file.metrics_bind_address, own, 10249);
        text(&mut file.mode, "nftables");
        if file.mode == "nftables" && file.node_port_addresses.is_empty() {
            file.node_port_addresses.push("primary".to_owned());
        }
        text(&mut file.detect_local_mode, "ClusterCIDR");
        text(
            &mut file.client_connection.content_type,
            "application/vnd.kubernetes.protobuf",
        );
        if file.client_connection.qps == 0.0 {
            file.client_connection.qps = 5.0;
        }
        if file.client_connection.burst == 0 {
            file.client_connection.burst = 10;
        }
        complete(&mut file.config_sync_period, 15 * 60);
        file.complete_periods();
        text(&mut file.logging.format, "text");
        let logging = &mut file.logging;
        if logging.flush_frequency.is_null() || logging.flush_frequency == json!(0) {
            logging.flush_frequency = json!("5s");
        }
        if logging.options.is_null() {
            logging.options = json!({"json": {"infoBufferSize": "0"}, "text": {"infoBufferSize": "0"}});
        }
        file
    }

    fn complete_periods(&mut self) {
        // Those of the modes that do not run are left out.
        let (iptables, ipvs, ours) = (&mut self.iptables, &mut self.ipvs, &mut self.nftables);
        for (mode, sync, min_sync, least) in [
            (
                "iptables",
                &mut iptables.sync_period,
                &mut iptables.min_sync_period,
                1,
            ),
            ("ipvs", &mut ipvs.sync_period, &mut ipvs.min_sync_period, 0),
            ("nftables", &mut ours.sync_period, &mut ours.min_sync_period, 1),
        ] {
            if self.mode == mode {
                complete(sync, 30);
                complete(min_sync, least);
            } else {
                (*sync, *min_sync) = Default::default();
            }
        }
    }

    /// All of it as an object of the API.
    ///
    /// # Errors
    /// Never: the file was read from such an object.
    pub fn object(&self) -> Result<Value, ConfigError> {
        serde_json::to_value(self.completed()).map_err(|error| ConfigError::Unwritable(error.to_string()))
    }

    /// All of it as YAML.
    ///
    /// # Errors
    /// Never: the file was read from such a text.
    pub fn yaml(&self) -> Result<String, ConfigError> {
        serde_saphyr::to_string(&self.object()?).map_err(|error| ConfigError::Unwritable(error.to_string()))
    }
}

/// Zero is the default.
fn complete(period: &mut GoDuration, seconds: u64) {
    if period.0.is_zero() {
        *period = GoDuration(std::time::Duration::from_secs(seconds));
    }
}

/// `address:port` from what may be one of both, or nothing (`AppendPortIfNeeded`).
fn with_port(text: &str, address: &str, port: u16) -> String {
    if text.is_empty() {
        return format!("{address}:{port}");
    }
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse};
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let written = File::default().yaml().expect("written");
        let read = parse(Source::Text(&written)).expect("valid");
        assert_eq!(read.unknown, Vec::<String>::new());
        assert_eq!(read.file.yaml().expect("written"), written, "complete");
        for line in [
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1",
            "kind: KubeProxyConfiguration",
            "clusterCIDR: \"\"",
            "configSyncPeriod: 15m0s",
            "oomScoreAdj: -999",
            "  maxPerCore: 32768",
            "  tcpCloseWaitTimeout: 1h0m0s",
        ] {
            assert!(
                written.lines().any(|l| l == line),
                "{line} is missing in {written}"
            );
        }
    }

    #[test]
    fn addresses_get_their_ports() {
        assert_eq!(with_port("", "0.0.0.0", 10256), "0.0.0.0:10256");
        assert_eq!(with_port("::1", "x", 10249), "[::1]:10249");
        assert_eq!(with_port("1.2.3.4:5", "x", 10249), "1.2.3.4:5");
    }
}
