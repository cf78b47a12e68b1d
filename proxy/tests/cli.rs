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
    assert_eq!(run(&[]).status.code(), Some(1), "--config is required");
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
    let text = refused(HEAD);
    assert!(text.contains("clientConnection.kubeconfig"), "{text}");
}
