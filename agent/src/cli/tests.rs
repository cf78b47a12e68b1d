use std::{fs, time::Duration};

use proptest::prelude::*;

use super::*;

fn run(args: &[&str]) -> Result<Invocation, ConfigError> {
    parse(
        std::iter::once("kubelet")
            .chain(args.iter().copied())
            .map(OsString::from),
        "Host-1",
    )
}

fn config(args: &[&str]) -> Config {
    match run(args).unwrap() {
        Invocation::Run(config) => *config,
        Invocation::Print(text) => panic!("printed {text}"),
    }
}

fn refusal(args: &[&str]) -> String {
    run(args).unwrap_err().to_string()
}

#[test]
fn kubeadms_command_line_is_understood() {
    let config = config(&[
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        "--hostname-override=Node-7",
        "--register-with-taints=a=b:NoSchedule,c:NoExecute",
        "--node-ip",
        "10.0.0.7",
        "--v=4",
    ]);
    assert_eq!(config.node_name, "node-7");
    assert_eq!(
        config.kubeconfig.unwrap().to_str().unwrap(),
        "/etc/kubernetes/kubelet.conf"
    );
    assert_eq!(config.node_ips, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    let taints = &config.kubelet.register_with_taints;
    assert_eq!(
        (taints[0].key.as_str(), taints[0].value.as_deref()),
        ("a", Some("b"))
    );
    assert_eq!(
        (taints[1].key.as_str(), taints[1].effect.as_str()),
        ("c", "NoExecute")
    );
    assert_eq!(config.kubelet.logging.verbosity, 4);
    assert_eq!(config.root_dir.to_str(), Some("/var/lib/kubelet"));
}

#[test]
fn the_host_name_is_the_default_node_name() {
    assert_eq!(config(&[]).node_name, "host-1");
    assert_eq!(config(&["--hostname-override="]).node_name, "host-1");
}

#[test]
fn flags_are_read_as_pflag_reads_them() {
    for args in [
        &["-v", "3"][..],
        &["-v=3"],
        &["-v3"],
        &["--v", "3"],
        &["--v=2", "--v=3"],
    ] {
        assert_eq!(config(args).kubelet.logging.verbosity, 3, "{args:?}");
    }
    for args in [&["--max-pods=7"][..], &["--max_pods=7"], &["--max_pods", "7"]] {
        assert_eq!(config(args).kubelet.max_pods, 7, "{args:?}");
    }
    assert!(config(&["--rotate-certificates"]).kubelet.rotate_certificates);
    assert!(!config(&["--fail-swap-on=false"]).kubelet.fail_swap_on);
    assert!(refusal(&["--fail-swap-on", "false"]).contains("unknown command false"));
    assert_eq!(config(&["--oom-score-adj", "-5"]).kubelet.oom_score_adj, -5);
    assert_eq!(
        config(&["--sync-frequency=1m30s"]).kubelet.sync_frequency,
        Duration::from_secs(90)
    );
    let dns = config(&["--cluster-dns=10.0.0.1,10.0.0.2", "--cluster-dns=10.0.0.3"])
        .kubelet
        .cluster_dns;
    assert_eq!(dns.len(), 3);
    let hard = config(&["--eviction-hard=memory.available<1Gi,nodefs.available<5%"])
        .kubelet
        .eviction_hard;
    assert_eq!(
        (
            hard["memory.available"].as_str(),
            hard["nodefs.available"].as_str()
        ),
        ("1Gi", "5%")
    );
    let reserved = config(&["--system-reserved=cpu=200m,memory=1Gi"])
        .kubelet
        .system_reserved;
    assert_eq!(reserved["cpu"], "200m");
    let gates = config(&["--feature-gates=EventedPLEG=true,MemoryQoS=false"])
        .kubelet
        .feature_gates;
    assert_eq!((gates["EventedPLEG"], gates["MemoryQoS"]), (true, false));
}

#[test]
fn refusals_name_the_flag() {
    assert_eq!(
        refusal(&["--no-such-flag=1"]),
        "unknown flag: --no-such-flag (see --help)"
    );
    assert!(refusal(&["--docker"]).contains("--docker"));
    assert!(refusal(&["--max-pods=many"]).contains("--max-pods: value \"many\""));
    assert!(refusal(&["--node-ip=banana"]).contains("--node-ip: value \"banana\""));
    assert!(refusal(&["--node-ip=10.0.0.1,10.0.0.2"]).contains("one IPv4 and one IPv6"));
    assert!(refusal(&["--cloud-provider=aws"]).contains("external"));
    assert!(refusal(&["--config"]).contains("--config"));
    assert!(refusal(&["run"]).contains("unknown command run"));
    assert!(refusal(&["--config=/nonexistent.yaml"]).contains("/nonexistent.yaml"));
    assert!(refusal(&["--feature-gates=NoSuchGate=true"]).contains("NoSuchGate"));
}

#[test]
fn node_labels_of_the_reserved_domains_are_limited() {
    let labels = config(&[
        "--node-labels=pool=blue,node.kubernetes.io/x=y",
        "--node-labels=empty=",
    ])
    .node_labels;
    assert_eq!(
        (
            labels["pool"].as_str(),
            labels["node.kubernetes.io/x"].as_str(),
            labels["empty"].as_str()
        ),
        ("blue", "y", "")
    );
    for bad in [
        "node-role.kubernetes.io/worker=",
        "k8s.io/a=b",
        "-a=b",
        "a=b c",
        "/a=b",
        "A.b/c=d",
    ] {
        assert!(
            refusal(&[&format!("--node-labels={bad}")]).contains("--node-labels"),
            "{bad}"
        );
    }
}

#[test]
fn the_version_is_what_kubeadm_parses() {
    assert!(
        matches!(run(&["--version"]).unwrap(), Invocation::Print(text) if text == "Kubernetes v1.36.3\n")
    );
    assert!(
        matches!(run(&["--help"]).unwrap(), Invocation::Print(text) if text.contains("--bootstrap-kubeconfig"))
    );
}

#[test]
fn flags_override_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 5\nclusterDomain: x\n";
    fs::write(&file, text).unwrap();
    let config = config(&["--config", file.to_str().unwrap(), "--max-pods=6"]);
    assert_eq!(
        (config.kubelet.max_pods, config.kubelet.cluster_domain.as_str()),
        (6, "x")
    );
}

#[test]
fn flags_without_effect_are_named() {
    let notices = config(&["--lock-file=/x", "--exit-on-lock-contention"])
        .notices
        .join("\n");
    assert!(
        notices.contains("--lock-file") && notices.contains("--exit-on-lock-contention"),
        "{notices}"
    );
}

proptest! {
    #[test]
    fn no_command_line_makes_it_panic(args in prop::collection::vec(".{0,20}", 0..4)) {
        let _ = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn no_value_of_any_flag_makes_it_panic(index in any::<prop::sample::Index>(), value in ".{0,20}|[a-z0-9=:,.%<-]{0,20}") {
        let flags: Vec<_> = FIELDS.iter().map(|field| field.flag).filter(|flag| !flag.is_empty()).chain(PLAIN.iter().copied()).collect();
        let flag = flags[index.index(flags.len())];
        let _ = run(&[&format!("--{flag}={value}")]);
    }
}
