//! Faults: programs killed, restarted or gone for a while. Pods and connections must not notice, and everything is as
//! before when the cause is gone.
//!
//! Each test holds the machines that it disturbs; those that need different ones run side by side.

mod addresses;
mod bystanders;
mod node_api;
mod policies;

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use gantry_tests::cluster::{Machine, NodeProxy, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use bystanders::Bystanders;

pub(crate) static NODE_1: Mutex<()> = Mutex::new(());
pub(crate) static NODE_2: Mutex<()> = Mutex::new(());

/// The machine is this test's alone, also after another test failed with it.
pub(crate) fn alone(machine: &'static Mutex<()>) -> MutexGuard<'static, ()> {
    machine.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn node_is(node: &Node, ready: &str) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == ready)
}

#[test]
fn a_killed_agent_comes_back_and_no_pod_notices() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-agent");
    let mut bystanders = Bystanders::watch(&test, "node-1");
    Machine::named("node-1").kill_unit("kubelet");
    bystanders.stay_connected(secs(3));
    bystanders.assert_unharmed();
}

#[test]
fn a_killed_proxy_comes_back_and_no_connection_breaks() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-proxy");
    let mut bystanders = Bystanders::of_the_proxy(&test, "node-2");
    NodeProxy::on(test.cluster, "node-2").kill();
    bystanders.stay_connected(secs(5));
    bystanders.assert_unharmed();
}

#[test]
fn agent_and_proxy_killed_together_come_back() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-both");
    let mut bystanders = Bystanders::of_the_proxy(&test, "node-1");
    let machine = Machine::named("node-1");
    let pids = [
        machine.main_process("kubelet"),
        NodeProxy::on(test.cluster, "node-1").process(),
    ]
    .map(|pid| pid.to_string());
    machine.run(&["kill", "-KILL", &pids[0], &pids[1]]);
    bystanders.stay_connected(secs(14));
    bystanders.assert_unharmed();
}

#[test]
fn what_changed_while_the_agent_was_away_is_done_when_it_returns() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-away");
    let machine = Machine::named("node-2");
    let mut bystanders = Bystanders::watch(&test, "node-2");
    test.idle_pod("deleted", "node-2");
    let crashed = test.idle_pod("crashed", "node-2");
    let stopped = machine.stop("kubelet");
    test.delete::<Pod>("deleted", None);
    let process = test.process_of(&crashed, "c").to_string();
    machine.run(&["kill", "-KILL", &process]);
    test.pod(
        "created",
        "{nodeName: node-2, containers: [{name: c, image: 'registry.k8s.io/pause:3.10'}]}",
    );
    bystanders.stay_connected(secs(2));
    drop(stopped);
    test.wait_ready("created");
    test.wait_gone::<Pod>("deleted", secs(60));
    let crashed = test.wait_pod("crashed", "restarted", secs(60), |pod| {
        pods::restarts(pod, "c") == 1
    });
    assert_eq!(
        pods::last_terminated(&crashed, "c").map(|last| last.exit_code),
        Some(137)
    );
    bystanders.assert_unharmed();
}

#[test]
fn a_cgroup_that_a_pod_left_behind_is_removed() {
    let _machine = alone(&NODE_2);
    let machine = Machine::named("node-2");
    let left = "pod0b5c1c0e-5d5f-4b5c-9a53-8f3f5b0f6c1d";
    let found = || machine.run(&["find", "/sys/fs/cgroup", "-type", "d", "-name", left]);
    let tiers = "find /sys/fs/cgroup -type d -path '*/kubepods/besteffort' -printf '%p/POD\\n'";
    let make = format!("{tiers} | sed s/POD$/{left}/ | xargs mkdir");
    machine.run(&["sh", "-c", &make]);
    assert!(!found().is_empty(), "nothing was made");
    machine.kill_unit("kubelet");
    poll(secs(90), "the cgroup is gone", || {
        found().is_empty().then_some(())
    });
}

#[test]
fn logs_that_a_pod_left_behind_are_removed() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-logs");
    let pod = test.idle_pod("stays", "node-2");
    let uid = pod.uid().expect("a UID");
    let machine = Machine::named("node-2");
    machine.sh(
        "mkdir -p /var/log/pods/default_gone_7d1f6a52-1c39-4c4e-8c5c-2f0a6a1f9d11/c && cd /var/log/pods/default_gone_* && \
         echo x >c/0.log && echo x >c/0.log.20260101-000000 && \
         ln -s $PWD/c/0.log /var/log/containers/gone_default_c-5e1a.log && \
         ln -s /nowhere/0.log /var/log/containers/dead_default_c-5e1b.log",
    );
    let left = || {
        machine.sh("ls -d /var/log/pods/default_gone_* /var/log/containers/*-5e1?.log 2>/dev/null || true")
    };
    assert_eq!(left().lines().count(), 3);
    machine.kill_unit("kubelet");
    poll(secs(150), "directory and links are gone", || {
        left().is_empty().then_some(())
    });
    let kept = machine.sh(&format!(
        "ls -d /var/log/pods/*_{uid} /var/log/containers/stays_*"
    ));
    assert_eq!(kept.lines().count(), 2, "{kept}");
}

#[test]
fn a_restarted_containerd_restarts_nothing() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-containerd");
    let mut bystanders = Bystanders::watch(&test, "node-1");
    Machine::named("node-1").systemctl("restart", "containerd");
    bystanders.stay_connected(secs(3));
    test.wait_node("node-1", "Ready", secs(90), |node| node_is(node, "True"));
    bystanders.assert_unharmed();
}

#[test]
fn a_node_without_its_runtime_says_so_and_recovers() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-runtime");
    let mut bystanders = Bystanders::watch(&test, "node-2");
    let machine = Machine::named("node-2");
    let since = Instant::now();
    let stopped = machine.stop("containerd");
    let node = test.wait_node("node-2", "not Ready", secs(120), |node| node_is(node, "False"));
    println!("NotReady after {:?}", since.elapsed());
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .expect("a condition");
    assert_eq!(ready.reason.as_deref(), Some("KubeletNotReady"));
    let message = ready.message.unwrap_or_default();
    assert!(message.contains("container runtime"), "{message}");
    bystanders.stay_connected(secs(3));
    drop(stopped);
    test.wait_node("node-2", "Ready", secs(90), |node| node_is(node, "True"));
    bystanders.assert_unharmed();
}

#[test]
fn a_node_outlives_its_api_server() {
    let (_one, _two) = (alone(&NODE_1), alone(&NODE_2));
    let test = Test::start("flt-api");
    let mut bystanders = Bystanders::watch(&test, "node-1");
    let crashed = test.idle_pod("crashed", "node-2");
    let (one, two) = (Machine::named("node-1"), Machine::named("node-2"));
    let control_plane = Machine::named("control-plane");
    let stopped = control_plane.stop("kube-apiserver");
    // One node's agent starts without an API server; on the other, a container ends meanwhile.
    one.kill_unit("kubelet");
    let process = test.process_of(&crashed, "c").to_string();
    two.run(&["kill", "-KILL", &process]);
    poll(
        secs(30),
        "the container is restarted without an API server",
        || {
            let uid = crashed.uid().unwrap_or_default();
            let filter =
                format!("labels.\"io.kubernetes.pod.uid\"=={uid},labels.\"io.kubernetes.container.name\"==c");
            let containers = two.run(&["ctr", "-n", "k8s.io", "containers", "ls", "-q", &filter]);
            let tasks = two.run(&["ctr", "-n", "k8s.io", "tasks", "ls"]);
            let runs = |id: &str| {
                tasks
                    .lines()
                    .any(|line| line.starts_with(id) && line.contains("RUNNING"))
            };
            containers.lines().any(runs).then_some(())
        },
    );
    bystanders.stay_connected(secs(15));
    drop(stopped);
    let after = test.wait_pod("crashed", "its restart is known", secs(60), |pod| {
        pods::restarts(pod, "c") == 1
    });
    assert_eq!(
        pods::last_terminated(&after, "c").map(|last| last.exit_code),
        Some(137)
    );
    for name in test.cluster.node_names() {
        test.wait_node(&name, "Ready", secs(60), |node| node_is(node, "True"));
    }
    bystanders.assert_unharmed();
}
