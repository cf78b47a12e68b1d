//! The end of a pod: gracefully, in time, and without traces.

use std::time::Instant;

use gantry_tests::cluster::{Machine, Test, pods, secs, wait::poll, wait::poll_ok};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;

/// Holds a deleted pod in the API, so that its last status can be read.
const FINALIZER: &str = "gantry.test/hold";

fn hold(test: &Test, name: &str) {
    test.patch::<Pod>(name, &format!("{{metadata: {{finalizers: [{FINALIZER}]}}}}"));
}

fn release(test: &Test, name: &str) {
    test.patch::<Pod>(name, "{metadata: {finalizers: null}}");
    test.wait_gone::<Pod>(name, secs(30));
}

/// What the container left as its termination message. Its log goes with the container.
fn message(pod: &Pod) -> String {
    pods::terminated(pod, "c")
        .and_then(|ended| ended.message.clone())
        .unwrap_or_default()
}

#[test]
fn a_container_is_asked_to_end_and_its_status_says_how_it_did() {
    let test = Test::start("trm-graceful");
    test.pod(
        "polite",
        "{nodeName: node-2, terminationGracePeriodSeconds: 20, containers: [{name: c, image: 'busybox:1.36', \
         command: [sh, -c, 'trap \"echo asked > /dev/termination-log; exit 3\" TERM; echo up; while :; do sleep 0.1; done']}]}",
    );
    let pod = test.wait_ready("polite");
    poll(secs(10), "the trap is set", || {
        (test.log(&pod, "c") == "up").then_some(())
    });
    hold(&test, "polite");
    let start = Instant::now();
    test.delete::<Pod>("polite", None);
    let pod = test.wait_pod("polite", "ended", secs(30), |pod| {
        pods::terminated(pod, "c").is_some()
    });
    assert!(start.elapsed() < secs(15), "it took {:?}", start.elapsed());
    assert_eq!(pods::terminated(&pod, "c").map(|ended| ended.exit_code), Some(3));
    let pod = test.wait_pod("polite", "Failed", secs(20), |pod| pods::phase(pod) == "Failed");
    assert_eq!(message(&pod), "asked\n");
    test.wait_event("polite", "Killing", "Stopping container c", secs(10));
    release(&test, "polite");
}

#[test]
fn a_container_that_does_not_end_is_killed_when_its_time_is_over() {
    let test = Test::start("trm-kill");
    test.pod(
        "deaf",
        "{nodeName: node-2, terminationGracePeriodSeconds: 4, containers: [{name: c, image: 'busybox:1.36', \
         command: [sh, -c, 'echo up; exec sleep 1000']}]}",
    );
    let pod = test.wait_ready("deaf");
    // Before it is there, runc is in its place, which does end when it is asked to.
    poll(secs(10), "the process is there", || {
        (test.log(&pod, "c") == "up").then_some(())
    });
    hold(&test, "deaf");
    let start = Instant::now();
    test.delete::<Pod>("deaf", None);
    let pod = test.wait_pod("deaf", "ended", secs(30), |pod| {
        pods::terminated(pod, "c").is_some()
    });
    let took = start.elapsed();
    assert!(took > secs(3) && took < secs(14), "it took {took:?}");
    assert_eq!(
        pods::terminated(&pod, "c").map(|ended| ended.exit_code),
        Some(137)
    );
    release(&test, "deaf");
}

#[test]
fn the_pre_stop_hook_runs_before_the_container_is_asked_to_end() {
    let test = Test::start("trm-prestop");
    test.pod(
        "hooked",
        "{nodeName: node-2, terminationGracePeriodSeconds: 20, containers: [{name: c, image: 'busybox:1.36', \
         command: [sh, -c, 'trap \"echo asked >> /dev/termination-log; exit 0\" TERM; while :; do sleep 0.1; done'], \
         lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 1; echo hook > /dev/termination-log']}}}}]}",
    );
    test.wait_ready("hooked");
    hold(&test, "hooked");
    test.delete::<Pod>("hooked", None);
    let pod = test.wait_pod("hooked", "ended", secs(30), |pod| {
        pods::terminated(pod, "c").is_some()
    });
    assert_eq!(message(&pod), "hook\nasked\n");
    release(&test, "hooked");
}

#[test]
fn a_shorter_grace_period_given_later_counts() {
    let test = Test::start("trm-shorter");
    if test.cluster.is_reference("agent") {
        // It waits for the grace period that it began with.
        return;
    }
    test.pod(
        "slow",
        "{nodeName: node-2, terminationGracePeriodSeconds: 120, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]}",
    );
    test.wait_ready("slow");
    test.delete::<Pod>("slow", None);
    test.wait_event("slow", "Killing", "Stopping container c", secs(20));
    test.delete::<Pod>("slow", Some(1));
    test.wait_gone::<Pod>("slow", secs(30));
}

#[test]
fn a_deleted_pod_leaves_nothing_on_the_node() {
    let test = Test::start("trm-traces");
    test.create::<ConfigMap>("{metadata: {name: map}, data: {a: one}}");
    test.create::<Secret>("{metadata: {name: secret}, stringData: {key: hush}}");
    let spec = r"
nodeName: node-2
volumes:
  - {name: m, configMap: {name: map}}
  - {name: s, secret: {secretName: secret}}
  - {name: memory, emptyDir: {medium: Memory}}
containers:
  - name: c
    image: busybox:1.36
    command: [sleep, '1000']
    volumeMounts: [{name: m, mountPath: /m}, {name: m, mountPath: /a, subPath: a}, {name: s, mountPath: /s}, {name: memory, mountPath: /memory}]
";
    for (name, grace) in [("usual", None), ("forced", Some(0))] {
        test.pod(name, spec);
        let pod = test.wait_ready(name);
        assert!(!traces(&test, &pod).is_empty(), "the search finds a running pod");
        test.delete::<Pod>(name, grace);
        test.wait_gone::<Pod>(name, secs(40));
        poll_ok(secs(60), &format!("nothing is left of pod {name}"), || {
            let left = traces(&test, &pod);
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
}

/// Whatever the node has of a pod: containers, sandboxes, directories, mounts, cgroups, its address.
fn traces(test: &Test, pod: &Pod) -> String {
    let uid = pod.uid().unwrap_or_default();
    let (slice, namespace) = (uid.replace('-', "_"), test.namespace());
    let id = pods::container_id(pod, "c").unwrap_or_default();
    Machine::named(pods::node(pod)).sh(&format!(
        "ctr -n k8s.io containers ls 'labels.\"io.kubernetes.pod.uid\"=={uid}' | tail -n +2
         ctr -n k8s.io tasks ls | grep {id}
         find /var/lib/kubelet/pods /var/log/pods -maxdepth 1 -name '*{uid}*'
         find /var/log/containers -name '*_{namespace}_*{id}*' 2>/dev/null
         grep -E '{uid}|{id}' /proc/self/mountinfo
         find /sys/fs/cgroup -type d \\( -name '*{uid}*' -o -name '*{slice}*' \\)
         true"
    ))
}

#[test]
fn a_pod_deleted_before_it_runs_goes_away() {
    let test = Test::start("trm-early");
    test.pod(
        "unborn",
        "{nodeName: node-2, containers: [{name: c, image: 'absent:2'}]}",
    );
    test.wait_pod("unborn", "waits", secs(30), |pod| {
        pods::waiting(pod, "c").is_some()
    });
    test.delete::<Pod>("unborn", None);
    test.wait_gone::<Pod>("unborn", secs(30));
    // And at once, with no time for anything.
    test.pod(
        "brief",
        "{nodeName: node-2, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]}",
    );
    test.delete::<Pod>("brief", None);
    test.wait_gone::<Pod>("brief", secs(30));
}

#[test]
fn a_node_gives_an_address_and_a_name_again() {
    let test = Test::start("trm-again");
    let first = test.idle_pod("same", "node-2");
    test.delete::<Pod>("same", None);
    test.wait_gone::<Pod>("same", secs(30));
    let second = test.idle_pod("same", "node-2");
    assert_ne!(first.uid(), second.uid());
    assert_ne!(pods::container_id(&first, "c"), pods::container_id(&second, "c"));
}
