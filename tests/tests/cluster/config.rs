//! Bad input: an agent or proxy that cannot start says what is wrong, and ends.

use gantry_tests::cluster::{Machine, NodeProxy, Output, Test};

/// Runs a program of `node-1` with a config file of that content. It ends by itself, with an error.
fn refuses(program: &str, content: &str, more: &str) -> String {
    let machine = Machine::named("node-1");
    let name = format!("/tmp/bad-{:08x}", rand::random::<u32>());
    let script = format!(
        "printf '%s\\n' '{content}' >{name}.yaml; timeout 20 {program} --config={name}.yaml {more}; code=$?; rm -rf {name}*; exit $code"
    );
    ended_badly(&machine.try_run(&["sh", "-c", &script]))
}

fn ended_badly(output: &Output) -> String {
    // 124 is timeout's own: it did not end.
    assert!(
        matches!(output.code, Some(code) if code != 0 && code != 124),
        "it does not refuse: {output:?}"
    );
    format!("{}{}", output.err, output.out)
}

#[track_caller]
fn names(said: &str, what: &[&str]) {
    for word in what {
        // The reference spells fields as its own source does: Mode for mode.
        assert!(
            said.to_lowercase().contains(&word.to_lowercase()),
            "no {word:?} in {said:?}"
        );
    }
}

/// A second agent needs a place of its own, should it start after all.
const AGENT: &str = "kubelet";
const APART: &str = "--root-dir=/tmp/apart";

fn agent_config(field: &str) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailCgroupV1: false\n{field}"
    )
}

#[test]
fn the_agent_names_the_field_the_value_and_what_is_allowed() {
    let test = Test::start("cfg-agent");
    for (field, expected) in [
        (
            "imageGCHighThresholdPercent: 120",
            ["imageGCHighThresholdPercent", "120", "100"].as_slice(),
        ),
        (
            "enforceNodeAllocatable: [pods, foo]",
            &["enforceNodeAllocatable", "foo", "kube-reserved"],
        ),
        ("featureGates: {NoSuchGate: true}", &["NoSuchGate"]),
    ] {
        names(&refuses(AGENT, &agent_config(field), APART), expected);
    }
    let said = refuses(AGENT, &agent_config("maxPods: many"), APART);
    names(&said, &["maxPods"]);
    if !test.cluster.is_reference("agent") {
        // The reference says only which type it has, and nothing of the other.
        names(&said, &["many"]);
        names(
            &refuses(
                AGENT,
                &agent_config("evictionHard: {memory.available: lots}"),
                APART,
            ),
            &["memory.available", "lots"],
        );
    }
}

#[test]
fn the_agent_refuses_a_file_that_is_no_configuration() {
    let _test = Test::start("cfg-file");
    names(&refuses(AGENT, "nonsense: [", APART), &["/tmp/bad-", ".yaml"]);
    names(
        &refuses(
            AGENT,
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: Wrong",
            APART,
        ),
        &["Wrong"],
    );
    let missing =
        Machine::named("node-1").try_run(&["timeout", "20", AGENT, "--config=/nonexistent.yaml", APART]);
    names(&ended_badly(&missing), &["/nonexistent.yaml", "no such file"]);
}

#[test]
fn the_programs_refuse_an_unknown_flag() {
    let test = Test::start("cfg-flag");
    let proxy = NodeProxy::on(test.cluster, "node-1").program();
    for program in [AGENT, &proxy] {
        let output = Machine::named("node-1").try_run(&["timeout", "20", program, "--no-such-flag"]);
        names(&ended_badly(&output), &["--no-such-flag"]);
    }
}

#[test]
fn the_agent_refuses_labels_that_a_node_may_not_give_itself() {
    let _test = Test::start("cfg-labels");
    let labels = format!("{APART} --node-labels=kubernetes.io/role=boss");
    names(
        &refuses(AGENT, &agent_config(""), &labels),
        &["node-labels", "kubernetes.io/role"],
    );
}

#[test]
fn the_agent_says_which_version_of_kubernetes_it_is() {
    let _test = Test::start("cfg-version");
    let said = Machine::named("node-1").run(&[AGENT, "--version"]);
    assert!(said.starts_with("Kubernetes v1.36."), "{said}");
}

#[test]
fn the_proxy_names_what_is_wrong() {
    let test = Test::start("cfg-proxy");
    let config = |field: &str| {
        format!("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{field}")
    };
    let proxy = NodeProxy::on(test.cluster, "node-1").program();
    names(
        &refuses(&proxy, &config("mode: quantum"), ""),
        &["mode", "quantum", "nftables"],
    );
    names(
        &refuses(&proxy, &config("clusterCIDR: nowhere\nmode: nftables"), ""),
        &["clusterCIDR", "nowhere"],
    );
    let missing = Machine::named("node-1").try_run(&["timeout", "20", &proxy, "--config=/nonexistent.yaml"]);
    names(&ended_badly(&missing), &["/nonexistent.yaml", "no such file"]);
}
