use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What kubeadm writes.
const KUBEADM: &str = r#"
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  strictARP: false
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  networkName: ""
"#;

fn settings(text: &str) -> Result<Settings, ConfigError> {
    Settings::new(parse(Source::Text(text)).expect("a file").file, None, "Node-1\n")
}

/// A small valid file with these lines.
fn with(lines: &str) -> String {
    format!("apiVersion: {API_VERSION}\nkind: {KIND}\nclientConnection:\n  kubeconfig: /k\n{lines}\n")
}

#[test]
fn kubeadms_file_is_taken_with_the_references_defaults() {
    let loaded = parse(Source::Text(KUBEADM)).expect("valid");
    assert_eq!(loaded.unknown, Vec::<String>::new());
    let settings = settings(KUBEADM).expect("valid");
    assert_eq!(settings.node_name, "node-1");
    assert_eq!(
        settings.healthz.map(|a| a.to_string()).as_deref(),
        Some("0.0.0.0:10256")
    );
    assert_eq!(
        settings.metrics.map(|a| a.to_string()).as_deref(),
        Some("127.0.0.1:10249")
    );
    assert_eq!(settings.node_ports.ipv4, NodePortRule::Primary);
    assert_eq!(settings.node_ports.ipv6, NodePortRule::Primary);
    assert_eq!(
        settings.detect_local,
        DetectLocal::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap()])
    );
    assert_eq!(settings.sync_period.as_secs(), 30, "zero means the default");
    assert_eq!(
        settings.conntrack.max_per_core,
        32 * 1024,
        "null means the default"
    );
    assert_eq!(settings.oom_score_adj, -999);
}

#[test]
fn unknown_fields_are_named_and_ignored() {
    let loaded = parse(Source::Text(&with("nftables:\n  masqueradeAl: true\nfoo: 1"))).expect("lenient");
    assert_eq!(loaded.unknown, ["foo", "nftables.masqueradeAl"]);
}

#[test]
fn wrong_values_name_field_value_and_what_is_allowed() {
    let cases = [
        ("mode: kernelspace", "mode", "kernelspace"),
        ("bindAddress: nowhere", "bindAddress", "nowhere"),
        (
            "metricsBindAddress: '127.0.0.1:x'",
            "metricsBindAddress",
            "127.0.0.1:x",
        ),
        ("clusterCIDR: 10.244.0.0", "clusterCIDR", "10.244.0.0"),
        (
            "clusterCIDR: '10.244.0.0/16,10.245.0.0/16'",
            "clusterCIDR",
            "10.244.0.0/16,10.245.0.0/16",
        ),
        ("detectLocalMode: Magic", "detectLocalMode", "Magic"),
        (
            "nodePortAddresses: [primary, 10.0.0.0/8]",
            "nodePortAddresses",
            "primary,10.0.0.0/8",
        ),
        ("oomScoreAdj: 5000", "oomScoreAdj", "5000"),
    ];
    for (line, field, value) in cases {
        let error = settings(&with(line)).expect_err(line).to_string();
        assert!(
            error.contains(field) && error.contains(&format!("`{value}`")),
            "{error}"
        );
    }
    let error = parse(Source::Text(&with("nftables:\n  syncPeriod: soon"))).unwrap_err();
    assert!(
        error.contains("nftables.syncPeriod") && error.contains("soon"),
        "{error}"
    );
    let error = parse(Source::Text("apiVersion: v1\nkind: Pod")).unwrap_err();
    assert!(
        error.contains("apiVersion") && error.contains(API_VERSION),
        "{error}"
    );
    assert!(parse(Source::Text("[")).is_err());
    assert!(parse(Source::Text("just text")).is_err());
}

#[test]
fn listen_addresses_come_in_three_forms() {
    let text = with("healthzBindAddress: ':11'\nmetricsBindAddress: 127.0.0.5");
    let settings = settings(&text).expect("valid");
    assert_eq!(
        settings.healthz.map(|a| a.to_string()).as_deref(),
        Some("0.0.0.0:11")
    );
    assert_eq!(
        settings.metrics.map(|a| a.to_string()).as_deref(),
        Some("127.0.0.5:10249")
    );
}

#[test]
fn another_modes_source_translation_and_resync_are_taken_over() {
    let other = settings(&with(
        "mode: iptables\niptables: {masqueradeAll: true, syncPeriod: 10s}",
    ))
    .expect("valid");
    assert!(other.masquerade_all);
    assert_eq!(other.sync_period.as_secs(), 10);
    let own = settings(&with(
        "mode: nftables\niptables: {masqueradeAll: true, syncPeriod: 10s}",
    ))
    .expect("valid");
    assert!(!own.masquerade_all);
    assert_eq!(own.sync_period.as_secs(), 30);
}

#[test]
fn each_family_has_its_ranges() {
    let dual = settings(&with(
        "clusterCIDR: '10.244.0.0/16,fd00:244::/56'\nnodePortAddresses: [192.0.2.0/24, 198.51.100.7/32]",
    ))
    .expect("valid");
    let range = |text: &str| text.parse().expect("a range");
    assert_eq!(
        dual.cluster_ranges(),
        [range("10.244.0.0/16"), range("fd00:244::/56")]
    );
    assert_eq!(
        dual.node_ports.ipv4,
        NodePortRule::Ranges(vec![range("192.0.2.0/24"), range("198.51.100.7/32")])
    );
    assert_eq!(dual.node_ports.ipv6, NodePortRule::Any, "nothing is said of it");
    let all = settings(&with("nodePortAddresses: ['::/0', 'fd00::/64', 192.0.2.0/24]")).expect("valid");
    assert_eq!(all.node_ports.ipv6, NodePortRule::Any);
    assert_eq!(
        all.node_ports.ipv4,
        NodePortRule::Ranges(vec![range("192.0.2.0/24")])
    );
}

proptest! {
    #[test]
    fn any_file_is_a_configuration_or_refused(text in "\\PC{0,120}|([a-zA-Z]{1,9}: ?[\\[{]?[a-z0-9\"':,/-]{0,9}[\\]}]?\n){0,5}") {
        for text in [with(&text), text] {
            if let Ok(loaded) = parse(Source::Text(&text)) {
                let _ = Settings::new(loaded.file, None, "node-1");
            }
        }
    }

    #[test]
    fn no_value_of_any_field_makes_it_panic(index in any::<prop::sample::Index>(), text in "\\PC{0,30}", number: i64, flag: bool) {
        let Ok(Value::Object(known)) = serde_json::to_value(File::default().completed()) else { unreachable!() };
        let mut paths = Vec::new();
        for (name, value) in &known {
            match value.as_object() {
                Some(fields) => paths.extend(fields.keys().map(|field| vec![name, field])),
                None => paths.push(vec![name]),
            }
        }
        let path = &paths[index.index(paths.len())];
        for value in [json!(text), json!(number), json!(flag), json!([text]), json!({&text: text}), Value::Null] {
            let fields = path.iter().rev().fold(value, |inner, name| json!({name.as_str(): inner}));
            if let Ok(loaded) = of_fields(fields) {
                let _ = Settings::new(loaded.file, None, "node-1");
            }
        }
    }
}
