//! What users apply: the manifests say what this program understands, and name the image of this version.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::ffi::OsString;

use gantry_proxy::config::{DetectLocal, Settings};
use gantry_proxy::flags::{Flags, Invocation, configuration, parse};

const INSTALL: &str = include_str!("../../manifests/install.yaml");
const UNINSTALL: &str = include_str!("../../manifests/uninstall.yaml");

/// Lines of the manifest without comments.
fn lines(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#') && *line != "---")
}

/// The flags of a container whose arguments are these words.
fn flags<'a>(words: impl Iterator<Item = &'a str>) -> Flags {
    let trimmed = words.map(|word| word.trim_matches(['[', ']', ',']));
    let flags = trimmed.filter(|word| word.starts_with("--")).map(OsString::from);
    match parse(std::iter::once("gantry-proxy".into()).chain(flags)) {
        Ok(Invocation::Run(flags)) => *flags,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_daemon_starts_with_what_the_manifest_says() {
    let flags = flags(lines(INSTALL).flat_map(str::split_whitespace));
    assert_eq!(flags.without_effect, [""; 0]);
    assert!(flags.network_policy && !flags.cleanup);
    for path in [
        &flags.cni_conf_dir,
        &flags.cni_bin_dir,
        &flags.server_from_kubeconfig,
        &flags.sysctl_net_dir,
    ] {
        let path = path.as_ref().and_then(|path| path.to_str()).unwrap();
        assert!(INSTALL.contains(&format!("mountPath: {path}")), "{path}");
    }
    assert!(INSTALL.contains(&format!("mountPath: {}", gantry_proxy::policy::DIR)));
    let (loaded, _) = configuration(&flags).unwrap();
    let settings = Settings::new(loaded.file, None, "node").unwrap();
    assert_eq!(settings.detect_local, DetectLocal::NodeCidr);
    assert_eq!(settings.oom_score_adj, -997);
}

#[test]
fn uninstalling_takes_away_what_installing_made() {
    let install = flags(lines(INSTALL).flat_map(str::split_whitespace));
    let containers: Vec<Flags> = lines(UNINSTALL)
        .filter(|line| line.starts_with("args:"))
        .map(|line| flags(line.split_whitespace()))
        .collect();
    let [first, then] = containers.as_slice() else {
        panic!("{containers:?}")
    };
    assert!(first.cleanup && !first.stay && then.cleanup && then.stay);
    assert_eq!(first.cni_conf_dir, install.cni_conf_dir);
    assert_eq!(first.cni_bin_dir, install.cni_bin_dir);
    let state = gantry_proxy::cni::STATE;
    assert!(UNINSTALL.contains(&format!("mountPath: {state}")), "{state}");
}

#[test]
fn the_image_is_of_this_version() {
    let image = format!("image: gantry/node:{}", env!("CARGO_PKG_VERSION"));
    for manifest in [INSTALL, UNINSTALL] {
        let images: Vec<&str> = lines(manifest)
            .filter(|line| line.starts_with("image:"))
            .collect();
        assert!(
            !images.is_empty() && images.iter().all(|line| *line == image),
            "{images:?}"
        );
    }
}
