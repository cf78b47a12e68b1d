//! debug: ephemeral containers in running pods, pods that see the whole node.
//!
//! What runs in them answers its input a second later: containerd connects a client's input before its output, so an
//! answer that comes at once may pass the client by, and so may the last one before the end (seen with the reference).

use gantry_tests::cluster::{Test, pods, secs};
use k8s_openapi::api::core::v1::Pod;

use super::waiting_pod;

#[test]
fn a_pod_is_debugged_from_a_container_beside_it() {
    let test = Test::start("debug-pod");
    let before = waiting_pod(&test, "p");
    let mut kubectl = test.start_kubectl(&[
        "debug",
        "p",
        "-i",
        "-q",
        "--image=busybox:1.36",
        "--target=c",
        "--container=dbg",
        "--",
        "sh",
        "-c",
        "read line; sleep 1; echo \"$line, $(cat /proc/1/comm)\"; read line; exit 6",
    ]);
    kubectl.write(b"hello\n");
    kubectl.wait_said("what it sees", secs(60), |said| said == "hello, sleep\n");
    let pod: Pod = test.get("p");
    assert!(pods::running(&pod, "dbg"), "{:?}", pod.status);
    kubectl.write(b"go on\n");
    let after = test.wait_pod("p", "it has ended", secs(30), |pod| {
        pods::terminated(pod, "dbg").is_some()
    });
    let statuses = after
        .status
        .as_ref()
        .and_then(|status| status.ephemeral_container_statuses.clone())
        .unwrap_or_default();
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    assert_eq!((statuses[0].name.as_str(), statuses[0].restart_count), ("dbg", 0));
    assert_eq!(
        pods::terminated(&after, "dbg").map(|state| state.exit_code),
        Some(6)
    );
    assert_eq!(
        pods::identities(&after),
        pods::identities(&before),
        "nothing was restarted"
    );
    assert!(pods::ready(&after));
}

#[test]
fn a_debug_shell_is_a_terminal_that_can_be_left_and_joined_again() {
    let test = Test::start("debug-shell");
    waiting_pod(&test, "p");
    let mut terminal = test.kubectl_on_terminal(
        &[
            "debug",
            "p",
            "-it",
            "--image=busybox:1.36",
            "--container=dbg",
            "--",
            "sh",
        ],
        30,
        90,
    );
    terminal.wait_shown("# ", secs(60));
    terminal.types("echo number-$((20 + 3))\r");
    terminal.wait_shown("number-23", secs(20));
    drop(terminal);
    let mut terminal = test.kubectl_on_terminal(&["attach", "-it", "p", "-c", "dbg"], 30, 90);
    terminal.wait_shown("command prompt", secs(20));
    terminal.types("\recho number-$((20 + 4))\r");
    terminal.wait_shown("number-24", secs(20));
    terminal.types("exit 2\r");
    let ended = test.wait_pod("p", "the shell has ended", secs(30), |pod| {
        pods::terminated(pod, "dbg").is_some()
    });
    assert_eq!(
        pods::terminated(&ended, "dbg").map(|state| state.exit_code),
        Some(2)
    );
    assert!(pods::ready(&ended));
}

#[test]
fn a_node_is_debugged_from_a_pod_that_sees_all_of_it() {
    let test = Test::start("debug-node");
    let mut kubectl = test.start_kubectl(&[
        "debug",
        "node/node-1",
        "-i",
        "-q",
        "--image=busybox:1.36",
        "--",
        "sh",
    ]);
    kubectl.write(b"sleep 1; cat /host/etc/hostname; cat /proc/1/comm; hostname; read line; exit 0\n");
    let said = kubectl.wait_said("what it sees", secs(60), |said| said.lines().count() >= 3);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines, ["node-1", "systemd", "node-1"], "{said}");
    kubectl.write(b"end\n");
    assert_eq!(kubectl.wait(secs(30)).code, Some(0));
}
