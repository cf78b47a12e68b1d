use std::{fs, time::Duration};

use proptest::prelude::*;
use serde_json::{Map, json};

use super::{testing::settings, *};

/// What `kubeadm init` writes to /var/lib/kubelet/config.yaml, zero values and all.
const KUBEADM: &str = "
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options: {json: {infoBufferSize: '0'}, text: {infoBufferSize: '0'}}
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";

fn load_text(text: &str) -> Result<(Settings, Vec<String>), ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    fs::write(&file, text).unwrap();
    load(&Sources {
        file: Some(file),
        ..Sources::default()
    })
}

fn with_header(text: &str) -> String {
    format!(
        "apiVersion: {}\nkind: {}\n{text}",
        document::API_VERSION,
        document::KIND
    )
}

fn refusal(fields: &str) -> String {
    load_text(&with_header(fields)).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_the_references() {
    let (settings, notices) = load(&Sources::default()).unwrap();
    assert_eq!(notices, Vec::<String>::new());
    assert_eq!(settings.max_pods, 110);
    assert_eq!(settings.sync_frequency, Duration::from_secs(60));
    assert_eq!(settings.node_status_report_frequency, Duration::from_secs(300));
    assert_eq!(
        settings.container_runtime_endpoint,
        "unix:///run/containerd/containerd.sock"
    );
    assert_eq!(settings.resolv_conf, "/etc/resolv.conf");
    assert_eq!(settings.eviction_hard["memory.available"], "100Mi");
    assert_eq!(
        settings.crash_loop_back_off.max_container_restart_period,
        Some(Duration::from_secs(300))
    );
    assert_eq!(
        (settings.serialize_image_pulls, settings.max_parallel_image_pulls),
        (true, None)
    );
    assert!(!settings.rotate_certificates && settings.fail_swap_on && settings.register_node);
    assert_eq!(settings.authorization.mode, "Webhook");
}

#[test]
fn kubeadms_zero_values_are_defaults() {
    let (settings, notices) = load_text(KUBEADM).unwrap();
    assert_eq!(settings.sync_frequency, Duration::from_secs(60));
    assert_eq!(settings.logging.format, "text");
    assert_eq!(settings.cgroup_driver, "systemd");
    assert!(settings.rotate_certificates);
    assert_eq!(settings.cluster_dns, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
    assert!(
        notices.iter().all(|notice| !notice.contains("unknown")),
        "{notices:?}"
    );
}

#[test]
fn every_default_is_allowed_by_its_own_row() {
    for field in FIELDS {
        if let Some(text) = field.default {
            let value = field
                .kind
                .read(text)
                .unwrap_or_else(|why| panic!("{}: {why}", field.path));
            assert_eq!(field.kind.check(&value), Ok(()), "{}", field.path);
        }
    }
}

#[test]
fn every_field_is_named_once_and_every_flag_too() {
    for (index, field) in FIELDS.iter().enumerate() {
        for other in &FIELDS[..index] {
            assert_ne!(field.path, other.path);
            assert!(
                field.flag.is_empty() || field.flag != other.flag,
                "{}",
                field.flag
            );
        }
    }
}

#[test]
fn unknown_and_double_fields_are_ignored_and_named() {
    let (settings, notices) =
        load_text(&with_header("maxPods: 5\nmaxPosd: 6\nlogging: {colour: red}")).unwrap();
    assert_eq!(settings.max_pods, 5);
    assert!(
        notices.iter().any(|n| n.contains("unknown field \"maxPosd\"")),
        "{notices:?}"
    );
    assert!(
        notices.iter().any(|n| n.contains("logging.colour")),
        "{notices:?}"
    );
    let (settings, notices) = load_text(&with_header("maxPods: 5\nmaxPods: 7")).unwrap();
    assert_eq!(settings.max_pods, 7);
    assert!(notices.iter().any(|n| n.contains("twice")), "{notices:?}");
}

#[test]
fn a_refusal_names_file_field_value_and_what_is_allowed() {
    let text = refusal("maxPods: many");
    for part in ["config.yaml", "maxPods", "\"many\"", "an integer between 0 and"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    for (fields, part) in [
        ("syncFrequency: 10", "a duration such as"),
        ("syncFrequency: 10d", "a duration such as"),
        (
            "authentication: {webhook: {cacheTTL: x}}",
            "authentication.webhook.cacheTTL",
        ),
        ("authentication: none", "an object"),
        ("cgroupDriver: upstart", "[\"cgroupfs\", \"systemd\"]"),
        ("healthzBindAddress: localhost", "an IP address"),
        ("healthzPort: 70000", "between 0 and 65535"),
        ("systemReserved: {cpu: lots}", "a map of quantities"),
        ("registerWithTaints: [{key: a, effect: Sometimes}]", "NoSchedule"),
        ("imageGCHighThresholdPercent: 101", "between 0 and 100"),
        ("oomScoreAdj: -1001", "between -1000 and 1000"),
    ] {
        let text = refusal(fields);
        assert!(text.contains(part), "{fields}: {text}");
    }
}

#[test]
fn rules_between_fields_are_checked_together() {
    for (fields, part) in [
        (
            "imageGCLowThresholdPercent: 90",
            "must be less than imageGCHighThresholdPercent 85",
        ),
        (
            "serializeImagePulls: true\nmaxParallelImagePulls: 3",
            "serializeImagePulls is false",
        ),
        ("enforceNodeAllocatable: [none, pods]", "beside \"none\""),
        (
            "enforceNodeAllocatable: [kube-reserved]",
            "kubeReservedCgroup must be set",
        ),
        ("enforceNodeAllocatable: [podz]", "must be one of"),
        ("evictionHard: {memory.available: 10x}", "memory.available"),
        ("evictionHard: {memory.free: 10Mi}", "must be one of"),
        (
            "featureGates: {NoSuchGate: true}",
            "unrecognized feature gate: NoSuchGate",
        ),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 10m}",
            "between 1s and 300s",
        ),
        ("podLogsDir: var/log", "absolute"),
        ("port: 10248", "must differ"),
        ("shutdownGracePeriodCriticalPods: 10s", "must not be longer"),
        ("runOnce: true", "runOnce"),
        ("reservedSystemCPUs: 3-1", "0-3,8"),
    ] {
        let text = refusal(fields);
        assert!(text.contains(part), "{fields}: {text}");
    }
    let all = refusal("runOnce: true\nport: 10248");
    assert!(all.contains("runOnce") && all.contains("must differ"), "{all}");
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    for (text, part) in [
        ("kind: KubeletConfiguration", "apiVersion must be"),
        (
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: Pod",
            "kind must be",
        ),
        ("[1, 2]", "must hold a KubeletConfiguration object"),
        ("", "must hold a KubeletConfiguration object"),
        ("a: b: c:\n\t- x", "not valid YAML"),
    ] {
        let error = load_text(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
    let error = load(&Sources {
        file: Some("/nonexistent/config.yaml".into()),
        ..Sources::default()
    });
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/config.yaml")
    );
}

#[test]
fn drop_ins_override_the_file_and_flags_override_all() {
    let dir = tempfile::tempdir().unwrap();
    let (file, drop_ins) = (dir.path().join("config.yaml"), dir.path().join("conf.d"));
    fs::create_dir_all(drop_ins.join("20-more")).unwrap();
    fs::write(
        &file,
        with_header("maxPods: 1\nclusterDomain: a\nfeatureGates: {EventedPLEG: false}\nsyncFrequency: 5s"),
    )
    .unwrap();
    fs::write(
        drop_ins.join("10-first.conf"),
        with_header("maxPods: 2\nclusterDomain: b\nsyncFrequency: null"),
    )
    .unwrap();
    fs::write(drop_ins.join("20-more/x.conf"), with_header("maxPods: 3")).unwrap();
    fs::write(drop_ins.join("30-not.yaml"), "rubbish").unwrap();
    let flags = vec![
        ("maxPods", json!(4)),
        ("featureGates", json!({"MemoryQoS": true})),
    ];
    let (settings, _) = load(&Sources {
        file: Some(file),
        dir: Some(drop_ins),
        flags,
    })
    .unwrap();
    assert_eq!((settings.max_pods, settings.cluster_domain.as_str()), (4, "b"));
    assert_eq!(
        settings.sync_frequency,
        Duration::from_secs(60),
        "a null takes back what the file set"
    );
    let gates: Vec<_> = settings
        .feature_gates
        .iter()
        .map(|(name, on)| (name.as_str(), *on))
        .collect();
    assert_eq!(gates, [("EventedPLEG", false), ("MemoryQoS", true)]);
}

#[test]
fn dependent_defaults_follow_their_fields() {
    assert_eq!(
        settings("nodeStatusUpdateFrequency: 4s").node_status_report_frequency,
        Duration::from_secs(4)
    );
    assert!(!settings("maxParallelImagePulls: 5").serialize_image_pulls);
    assert!(settings("maxParallelImagePulls: 1").serialize_image_pulls);
    assert_eq!(settings("podPidsLimit: -7").pod_pids_limit, -1);
    assert_eq!(settings("resolvConf: ''").resolv_conf, "");
    let hard = settings("evictionHard: {memory.available: 1Gi}").eviction_hard;
    assert_eq!(hard.len(), 1);
    let hard =
        settings("evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true").eviction_hard;
    assert_eq!((hard.len(), hard["memory.available"].as_str()), (5, "1Gi"));
}

#[test]
fn fields_without_effect_are_named_when_they_are_set() {
    let (_, notices) = load_text(&with_header(
        "topologyManagerScope: pod\nmaxPods: 9\nstaticPodPath: ''",
    ))
    .unwrap();
    let notice = notices.iter().find(|n| n.contains("no effect")).unwrap();
    assert!(
        notice.contains("topologyManagerScope")
            && !notice.contains("maxPods")
            && !notice.contains("staticPodPath")
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_decoder_panic(text in "\\PC{0,200}") {
        let _ = document::decode(&with_header(&text), "fuzz");
        let _ = document::decode(&text, "fuzz");
    }

    #[test]
    fn no_value_of_any_field_makes_it_panic(index in 0..FIELDS.len(), text in "\\PC{0,30}", number: i64, flag: bool) {
        let field = &FIELDS[index];
        for value in [json!(text), json!(number), json!(flag), json!([text]), json!({&text: text}), json!(null)] {
            let mut values = Map::new();
            document::set(&mut values, field.path, value.clone());
            if field.kind.check(&value).is_ok() {
                // What the table lets through, the typed form takes or refuses with a reason.
                let _ = finish(values, &mut Vec::new());
            }
            if let Ok(read) = field.kind.read(&text) {
                let _ = field.kind.check(&read);
            }
        }
    }
}
