//! Faults while somebody uses a node through kubectl: pods never notice, users are told, and nothing is left behind.

use gantry_tests::cluster::{Machine, NodeApi, Reading, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::Pod;

use super::{NODE_1, NODE_2, alone};

/// A pod that counts in its log until there is a file.
fn counter(test: &Test, name: &str, node: &str) -> Pod {
    test.pod(
        name,
        &format!(
            "{{nodeName: {node}, restartPolicy: Never, containers: [{{name: c, image: 'busybox:1.36', \
             command: [sh, -c, 'n=0; until test -e /end; do echo $n; n=$((n + 1)); usleep 20000; done']}}]}}"
        ),
    );
    test.wait_ready(name)
}

/// All lines are numbers from 0 on; a last one may be cut.
#[track_caller]
fn counted(said: &str) -> usize {
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers: Vec<_> = whole.lines().map(str::parse).collect();
    let expected: Vec<_> = (0..numbers.len()).map(Ok).collect();
    assert_eq!(numbers, expected);
    numbers.len()
}

#[test]
fn who_follows_or_runs_something_when_the_agent_is_killed_is_told() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-follow");
    let pod = counter(&test, "counts", "node-1");
    let before = pods::identities(&pod);
    let follower = test.start_kubectl(&["logs", "-f", "counts"]);
    let command = test.start_kubectl(&["exec", "counts", "--", "sh", "-c", "echo begun; sleep 600"]);
    follower.wait_said("some lines", secs(30), |said| said.lines().count() > 20);
    command.wait_said("that it runs", secs(30), |said| said == "begun\n");
    Machine::named("node-1").kill_unit("kubelet");
    // Neither hangs.
    let follower = follower.wait(secs(30));
    assert!(counted(&follower.out) > 20);
    let command = command.wait(secs(30));
    // Where the node takes WebSockets itself (ExtendWebSocketsToKubelet), kubectl sees the break; otherwise the API server
    // translates, and takes the end of its connection for the end of the command.
    if test.cluster.is_reference("agent") {
        assert_ne!(command.code, Some(0), "{command:?}");
    }
    // The pod counts on, and everything is there for the next who asks.
    let seen = follower.out.lines().count();
    poll(secs(60), "logs are readable again", || {
        let said = test.try_kubectl(&["logs", "counts"]);
        (said.code == Some(0) && counted(&said.out) > seen + 50).then_some(())
    });
    poll(secs(60), "commands run again", || {
        (test.try_kubectl(&["exec", "counts", "--", "echo", "again"]).out == "again\n").then_some(())
    });
    assert_eq!(pods::identities(&test.get("counts")), before);
    test.try_exec(&pod, "c", "touch /end");
    test.wait_pod("counts", "Succeeded", secs(60), |pod| {
        pods::phase(pod) == "Succeeded"
    });
}

#[test]
fn a_follower_outlives_a_restart_of_containerd() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-folrt");
    let pod = counter(&test, "counts", "node-2");
    let before = pods::identities(&pod);
    let follower = test.start_kubectl(&["logs", "-f", "counts"]);
    follower.wait_said("some lines", secs(30), |said| said.lines().count() > 20);
    let machine = Machine::named("node-2");
    for _ in 0..2 {
        let seen = follower.said().lines().count();
        machine.systemctl("restart", "containerd");
        follower.wait_said("more lines", secs(60), |said| said.lines().count() > seen + 100);
    }
    assert_eq!(pods::identities(&test.get("counts")), before);
    test.try_exec(&pod, "c", "touch /end");
    let follower = follower.wait(secs(60));
    assert_eq!(follower.code, Some(0), "{follower:?}");
    let count = counted(&follower.out);
    assert_eq!(counted(&test.kubectl(&["logs", "counts"])), count);
    test.wait_pod("counts", "Succeeded", secs(60), |pod| {
        pods::phase(pod) == "Succeeded"
    });
}

/// What the agent holds: open files but those of cgroups, which come with pods and stay, and connections from where the
/// tests run.
fn held(machine: &Machine) -> (usize, usize) {
    let agent = machine.main_process("kubelet");
    let count = |script: String| machine.sh(&script).trim().parse().unwrap_or(usize::MAX);
    (
        count(format!("ls -l /proc/{agent}/fd | grep -vc /sys/fs/cgroup/")),
        count("ss -Htn state established 'sport = :10250' | wc -l".to_owned()),
    )
}

#[test]
fn users_that_vanish_leave_nothing_in_the_agent() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-vanish");
    let pod = counter(&test, "counts", "node-2");
    let machine = Machine::named("node-2");
    let api = NodeApi::of_api_server(&test, "node-2");
    let path = format!("/containerLogs/{}/counts/c?follow=true", test.namespace());
    let crowd = || -> Vec<Reading> { (0..150).map(|_| api.open(&path)).collect() };
    // What the first users make the agent allocate for good is not a leak.
    drop(crowd());
    let settled = |what: &str, most: usize| {
        poll(
            secs(60),
            &format!("{what}: at most {most} files are open"),
            || {
                let (files, connections) = held(&machine);
                (files <= most && connections < 10).then_some(files)
            },
        )
    };
    let before = settled("after the first crowd", 200);
    for round in 0..3 {
        let crowd = crowd();
        let (_, connections) = held(&machine);
        assert!(connections >= crowd.len(), "{connections} connections");
        drop(crowd);
        settled(&format!("after crowd {round}"), before + 12);
    }
    test.try_exec(&pod, "c", "touch /end");
    test.wait_pod("counts", "Succeeded", secs(60), |pod| {
        pods::phase(pod) == "Succeeded"
    });
}
