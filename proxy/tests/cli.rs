//! The command line and the configuration file, from the outside.

#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::io::Write;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gantry-proxy"))
        .args(args)
        .output()
        .unwrap()
}

/// Runs with a configuration file; it has to fail, and this is what it says.
fn refused(config: &str) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(config.as_bytes()).unwrap();
    let out = run(&[
        "--config",
        file.path().to_str().unwrap(),
        "--hostname-override",
        "n1",
    ]);
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8(out.stderr).unwrap()
}

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

#[test]
fn the_version_is_the_references() {
    let out = run(&["--version"]);
    assert!(out.status.success());
    assert!(
        String::from_utf8(out.stdout)
            .unwrap()
            .starts_with("Kubernetes v1.36.3")
    );
}

#[test]
fn an_unknown_flag_is_an_error() {
    let out = run(&["--no-such-flag"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8(out.stderr).unwrap().contains("--no-such-flag"));
    let nowhere = run(&["--healthz-port=0", "--metrics-port=0"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let text = String::from_utf8(nowhere.stderr).unwrap();
    assert!(text.contains("neither a kubeconfig nor an address"), "{text}");
}

#[test]
fn a_bad_file_is_named_with_field_value_and_what_is_allowed() {
    let missing = run(&["--config", "/nonexistent/config"]);
    let text = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text.contains("/nonexistent/config") && text.contains("No such file"),
        "{text}"
    );

    assert!(refused("kind: Pod").contains("apiVersion"));
    assert!(refused("{").contains("not valid YAML"));
    let text = refused(&format!(
        "{HEAD}clientConnection: {{kubeconfig: /k}}\nmode: userspace"
    ));
    assert!(
        text.contains("mode") && text.contains("`userspace`") && text.contains("nftables"),
        "{text}"
    );
    let text = refused(&format!("{HEAD}oomScoreAdj: many"));
    assert!(text.contains("oomScoreAdj") && text.contains("many"), "{text}");
    let text = refused(&format!(
        "{HEAD}clientConnection: {{kubeconfig: /nonexistent/k}}\nhealthzBindAddress: 127.0.0.1:0\nmetricsBindAddress: 127.0.0.1:0"
    ));
    assert!(text.contains("/nonexistent/k"), "{text}");
}

#[test]
fn the_configuration_is_written_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("written.yaml");
    let target = path.to_str().unwrap();
    let out = run(&[
        "--write-config-to",
        target,
        "--cluster-cidr=10.244.0.0/16",
        "--masquerade-all",
    ]);
    assert!(out.status.success(), "{out:?}");
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written.contains("\nclusterCIDR: 10.244.0.0/16\n") && written.contains("\nnodePortAddresses:\n"),
        "{written}"
    );
    let again = dir.path().join("again.yaml");
    let out = run(&["--config", target, "--write-config-to", again.to_str().unwrap()]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(std::fs::read_to_string(&again).unwrap(), written);
}
