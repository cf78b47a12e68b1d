use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::pods::spec::tests::{node, pod};
use crate::pods::spec::{ImageRef, NodeFacts};

fn node_in(dir: &Path) -> NodeFacts {
    NodeFacts {
        root_dir: dir.join("kubelet"),
        pod_logs_dir: dir.join("logs"),
        ..node()
    }
}

fn input<'a>(
    pod: &'a Pod,
    node: &'a NodeFacts,
    image: &'a ImageRef,
    ips: &'a [std::net::IpAddr],
) -> ContainerInput<'a> {
    ContainerInput {
        pod,
        container: &pod.spec.as_ref().unwrap().containers[0],
        node,
        attempt: 1,
        image,
        pod_ips: ips,
        target: None,
        recursive_read_only: false,
    }
}

#[test]
fn the_files_of_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let (node, image) = (node_in(dir.path()), ImageRef::default());
    let pod = pod("", r#","terminationMessagePath":"/dev/termination-log""#);
    let ips = ["10.0.0.7".parse().unwrap()];
    let input = input(&pod, &node, &image, &ips);
    let files = prepare(&input).unwrap();
    let hosts = files.etc_hosts.clone().unwrap();
    assert_eq!(hosts, dir.path().join("kubelet/pods/u-1/etc-hosts"));
    assert!(fs::read_to_string(&hosts).unwrap().ends_with("10.0.0.7\tweb-0\n"));
    assert_eq!(fs::metadata(&hosts).unwrap().mode() & 0o777, 0o644);
    let log = files.termination_log.clone().unwrap();
    assert_eq!(
        log.parent().unwrap(),
        dir.path().join("kubelet/pods/u-1/containers/c")
    );
    assert_eq!(log.file_name().unwrap().len(), 8);
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o666);
    assert!(dir.path().join("logs/ns_web-0_u-1/c").is_dir());
    let again = prepare(&input).unwrap();
    assert_eq!(again.etc_hosts, files.etc_hosts);
    assert_ne!(
        again.termination_log, files.termination_log,
        "each instance has its own"
    );
}

#[test]
fn a_pod_without_an_address_has_no_hosts_file_and_one_on_the_node_has_the_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let (node, image) = (node_in(dir.path()), ImageRef::default());
    let plain = pod("", "");
    assert_eq!(
        prepare(&input(&plain, &node, &image, &[])).unwrap(),
        HostFiles::default()
    );
    let host = pod(r#","hostNetwork":true"#, "");
    let files = prepare(&input(&host, &node, &image, &[])).unwrap();
    let content = fs::read_to_string(files.etc_hosts.unwrap()).unwrap();
    assert!(content.starts_with("# Kubernetes-managed hosts file (host network).\n"));
}

#[test]
fn links_to_logs_and_the_attempt_that_they_prove() {
    let dir = tempfile::tempdir().unwrap();
    let (node, image) = (node_in(dir.path()), ImageRef::default());
    let pod = pod("", "");
    let input = input(&pod, &node, &image, &[]);
    let links = dir.path().join("links");
    link_log_in(&links, &input, "abc").unwrap();
    assert!(!links.exists(), "no link to nothing");
    prepare(&input).unwrap();
    assert_eq!(attempt_from_logs(&node.pod_logs_dir, &pod, "c"), 0);
    let log = dir.path().join("logs/ns_web-0_u-1/c/1.log");
    fs::write(&log, "").unwrap();
    fs::write(log.with_file_name("4.log.20260101-000000.gz"), "").unwrap();
    fs::write(log.with_file_name("notes.txt"), "").unwrap();
    assert_eq!(attempt_from_logs(&node.pod_logs_dir, &pod, "c"), 5);
    link_log_in(&links, &input, "abc").unwrap();
    link_log_in(&links, &input, "abc").unwrap();
    assert_eq!(fs::read_link(links.join("web-0_ns_c-abc.log")).unwrap(), log);
}

#[test]
fn a_long_link_name_is_cut() {
    let name = link_name(&pod("", ""), &"c".repeat(300), "abc");
    assert_eq!(name.len(), 255);
    assert!(name.ends_with("c.log"));
}
