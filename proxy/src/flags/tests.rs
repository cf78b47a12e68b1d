use proptest::prelude::*;

use super::*;

fn run(args: &[&str]) -> Flags {
    match read(args) {
        Ok(Invocation::Run(flags)) => *flags,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn read(args: &[&str]) -> Result<Invocation, FlagError> {
    let all = ["kube-proxy"].iter().chain(args);
    parse(all.map(OsString::from))
}

fn refused(args: &[&str]) -> String {
    read(args).expect_err("refused").to_string()
}

#[test]
fn kubeadms_command_line() {
    let flags = run(&[
        "--config=/var/lib/kube-proxy/config.conf",
        "--hostname-override=n1",
    ]);
    assert_eq!(
        flags.config,
        Some(PathBuf::from("/var/lib/kube-proxy/config.conf"))
    );
    assert_eq!(flags.hostname_override.as_deref(), Some("n1"));
    assert!(!flags.cleanup && !flags.init_only && flags.without_effect.is_empty());
}

#[test]
fn flags_make_a_configuration() {
    let flags = run(&[
        "--proxy-mode=nftables",
        "--cluster-cidr",
        "10.244.0.0/16,fd00::/64",
        "--nodeport_addresses=10.0.0.0/8",
        "--nodeport-addresses",
        "192.168.0.0/16",
        "--masquerade-all",
        "--conntrack-max-per-core=0",
        "--conntrack-udp-timeout=10s",
        "--iptables-sync-period=10s",
        "--kubeconfig=/k",
        "--feature-gates=A=true,B=false",
        "--oom-score-adj=-5",
        "--healthz-port=0",
        "-v=4",
        "--log-json-split-stream",
    ]);
    let (loaded, text) = configuration(&flags).expect("valid");
    let file = loaded.file;
    assert_eq!((text, loaded.unknown), (None, Vec::new()));
    assert_eq!(file.cluster_cidr, "10.244.0.0/16,fd00::/64");
    assert_eq!(file.node_port_addresses, ["10.0.0.0/8", "192.168.0.0/16"]);
    assert!(file.nftables.masquerade_all);
    assert_eq!(file.nftables.sync_period.0.as_secs(), 10);
    assert_eq!(file.conntrack.max_per_core, 0);
    assert_eq!(file.conntrack.udp_timeout.0.as_secs(), 10);
    assert_eq!(file.client_connection.kubeconfig, "/k");
    assert_eq!(file.feature_gates.get("B"), Some(&false));
    assert_eq!((file.oom_score_adj, file.logging.verbosity), (-5, 4));
    assert_eq!(flags.without_effect, ["log-json-split-stream"]);
    assert_eq!(flags.shown["proxy-mode"], "nftables");
    assert_eq!(flags.shown["conntrack-min"], "131072", "the default");
    assert_eq!(flags.shown["metrics-port"], "10249");
    let settings = crate::config::Settings::new(file, None, "host").expect("valid");
    assert_eq!(settings.healthz, None, "port 0 turns it off");
}

#[test]
fn beside_a_file_only_logging_counts() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let content = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nlogging: {verbosity: 2}\n";
    std::fs::write(file.path(), content).expect("written");
    let path = file.path().to_str().expect("text");
    let flags = run(&[
        "--config",
        path,
        "-v",
        "7",
        "--cluster-cidr=10.0.0.0/8",
        "--master=http://m",
    ]);
    let (loaded, text) = configuration(&flags).expect("valid");
    assert_eq!(text.as_deref(), Some(content));
    assert_eq!(loaded.file.logging.verbosity, 7);
    assert_eq!(loaded.file.cluster_cidr, "");
    assert_eq!(flags.without_effect, ["cluster-cidr"]);
    assert_eq!(flags.master.as_deref(), Some("http://m"), "no field: it counts");
}

#[test]
fn refusals_name_the_flag() {
    assert_eq!(refused(&["--nonsense"]), "unknown flag: --nonsense");
    assert!(refused(&["--cleanup=perhaps"]).contains("\"perhaps\" for --cleanup"));
    assert!(refused(&["--conntrack-min=many"]).contains("--conntrack-min"));
    assert!(refused(&["--feature-gates=A"]).contains("missing bool value for A"));
    assert!(refused(&["stray"]).contains("does not take any arguments"));
    assert!(refused(&["--config"]).contains("--config"));
    assert!(
        matches!(read(&["--version"]), Ok(Invocation::Print(text)) if text.starts_with("Kubernetes v1.36"))
    );
    assert!(matches!(read(&["--help"]), Ok(Invocation::Print(_))));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(args in prop::collection::vec(".{0,20}", 0..4)) {
        let all = ["kube-proxy".to_owned()].into_iter().chain(args);
        let _ = parse(all.map(OsString::from));
    }

    #[test]
    fn no_value_makes_it_panic(index in 0..FIELDS.len(), value in ".{0,20}") {
        let args = ["kube-proxy".to_owned(), format!("--{}={value}", FIELDS[index].flag)];
        if let Ok(Invocation::Run(flags)) = parse(args.map(OsString::from)) {
            let _ = configuration(&flags);
        }
    }
}
