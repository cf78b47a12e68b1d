//! exec, attach and cp.

use std::fs;

use gantry_tests::cluster::{Kubectl, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::Pod;

use super::waiting_pod;

#[test]
fn exec_carries_output_errors_and_exit_codes() {
    let test = Test::start("exec-output");
    waiting_pod(&test, "p");
    let output = test.try_kubectl(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (output.code, output.out.as_str()),
        (Some(7), "out\n"),
        "{output:?}"
    );
    assert!(output.err.starts_with("err\n"), "{output:?}");
    assert!(
        output.err.contains("command terminated with exit code 7"),
        "{output:?}"
    );
    let arguments = test.kubectl(&["exec", "p", "--", "printf", "%s|", "a b", "", "$x", "ü&+"]);
    assert_eq!(arguments, "a b||$x|ü&+|");
    let output = test.try_kubectl(&["exec", "p", "--", "no-such-program"]);
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(output.err.contains("no-such-program"), "{output:?}");
}

#[test]
fn exec_carries_input_to_its_end() {
    let test = Test::start("exec-input");
    waiting_pod(&test, "p");
    let mut kubectl = test.start_kubectl(&["exec", "-i", "p", "--", "sh", "-c", "wc -c; echo done"]);
    let block = vec![b'x'; 64 * 1024];
    for _ in 0..80 {
        kubectl.write(&block);
    }
    kubectl.close_input();
    let output = kubectl.wait(secs(60));
    assert_eq!((output.code, output.out.as_str()), (Some(0), "5242880\ndone\n"));
    // A command that does not care for its input ends all the same.
    let mut kubectl = test.start_kubectl(&["exec", "-i", "p", "--", "true"]);
    kubectl.write(b"unread");
    assert_eq!(kubectl.wait(secs(30)).code, Some(0));
}

#[test]
fn exec_answers_while_input_is_open() {
    let test = Test::start("exec-dialogue");
    waiting_pod(&test, "p");
    let mut kubectl = test.start_kubectl(&["exec", "-i", "p", "--", "sh"]);
    for number in 0..20 {
        kubectl.write(format!("echo answer-$(({number} + 100))\n").as_bytes());
        let answer = format!("answer-{}\n", number + 100);
        kubectl.wait_said(&answer, secs(20), |said| said.ends_with(&answer));
    }
    kubectl.write(b"exit 5\n");
    assert_eq!(kubectl.wait(secs(20)).code, Some(5));
}

#[test]
fn a_shell_on_a_terminal_follows_its_size() {
    let test = Test::start("exec-terminal");
    waiting_pod(&test, "p");
    let mut terminal = test.kubectl_on_terminal(&["exec", "-it", "p", "--", "sh"], 33, 101);
    terminal.wait_shown("# ", secs(20));
    terminal.types("tty; stty size\r");
    terminal.wait_shown("/dev/pts/", secs(20));
    terminal.wait_shown("33 101", secs(20));
    terminal.resize(44, 132);
    // The size arrives beside what is typed, so it is asked for until it is there.
    poll(secs(20), "the new size", || {
        terminal.types("stty size\r");
        terminal.shown().contains("44 132").then_some(())
    });
    // Control-C goes to the foreground process inside, not to kubectl.
    terminal.types("sleep 1000\r");
    poll(secs(20), "sleep is interrupted", || {
        terminal.types("\u{3}echo over-$?\r");
        terminal.shown().contains("over-130").then_some(())
    });
    terminal.types("exit 4\r");
    let (code, shown) = terminal.wait(secs(20));
    assert_eq!(code, Some(4), "{shown}");
}

#[test]
fn exec_chooses_among_containers_and_refuses_what_does_not_run() {
    let test = Test::start("exec-refused");
    test.pod(
        "p",
        "{nodeName: node-1, restartPolicy: Never, containers: [\
           {name: runs, image: 'busybox:1.36', command: [sleep, '1000']}, \
           {name: over, image: 'busybox:1.36', command: ['true']}]}",
    );
    test.wait_pod("p", "one container runs, the other is over", secs(60), |pod| {
        pods::running(pod, "runs") && pods::terminated(pod, "over").is_some()
    });
    let out = test.kubectl(&["exec", "p", "-c", "runs", "--", "cat", "/proc/1/comm"]);
    assert_eq!(out, "sleep\n");
    let refused = test.kubectl_refused(&["exec", "p", "-c", "over", "--", "true"]);
    assert!(refused.contains("container not found (\"over\")"), "{refused}");
    let refused = test.kubectl_refused(&["attach", "p", "-c", "over"]);
    let text = format!("container over not found in pod p_{}", test.namespace());
    assert!(refused.contains(&text), "{refused}");
}

/// Writes a line until it is answered. containerd connects a client's input before its output: on a busy machine the
/// first answer to a new client may pass it by.
fn write_until_answered(client: &mut Kubectl, line: &str) {
    poll(secs(20), "an echo", || {
        client.write(format!("{line}\n").as_bytes());
        client.said().contains(&format!("got {line}")).then_some(())
    });
}

#[test]
fn attach_joins_the_first_process() {
    let test = Test::start("attach-input");
    test.pod(
        "p",
        "{nodeName: node-1, containers: [{name: c, image: 'busybox:1.36', stdin: true, \
           command: [sh, -c, 'while read line; do echo \"got $line\"; echo \"err $line\" >&2; done; echo end; sleep 1000']}]}",
    );
    test.wait_ready("p");
    let mut first = test.start_kubectl(&["attach", "-i", "p"]);
    write_until_answered(&mut first, "one");
    let second = test.start_kubectl(&["attach", "p"]);
    // Both read what the process writes; the second may take a moment to join.
    poll(secs(20), "the second one joins", || {
        first.write(b"two\n");
        second.said().contains("got two").then_some(())
    });
    poll(secs(20), "standard error arrives as such", || {
        (first.complained().contains("err one") && second.complained().contains("err two")).then_some(())
    });
    // Without stdinOnce the process' input outlives the client that wrote it.
    drop(first);
    let mut third = test.start_kubectl(&["attach", "-i", "p"]);
    write_until_answered(&mut third, "three");
    let pod: Pod = test.get("p");
    assert!(!test.log(&pod, "c").contains("end"));
}

#[test]
fn input_ends_with_its_only_client_when_it_is_for_once() {
    let test = Test::start("attach-once");
    test.pod(
        "p",
        "{nodeName: node-1, restartPolicy: Never, containers: [{name: c, image: 'busybox:1.36', stdin: true, \
           stdinOnce: true, command: [sh, -c, 'lines=$(wc -l); sleep 1; echo $lines; sleep 1; exit 3']}]}",
    );
    test.wait_pod("p", "it runs", secs(60), |pod| pods::running(pod, "c"));
    let mut kubectl = test.start_kubectl(&["attach", "-i", "p"]);
    kubectl.write(b"one\ntwo\n");
    kubectl.close_input();
    let output = kubectl.wait(secs(30));
    assert!(output.out.contains('2'), "{output:?}");
    let ended = test.wait_pod("p", "the container ended", secs(30), |pod| {
        pods::terminated(pod, "c").is_some()
    });
    assert_eq!(
        pods::terminated(&ended, "c").map(|state| state.exit_code),
        Some(3)
    );
}

#[test]
fn attach_to_a_terminal_is_a_terminal() {
    let test = Test::start("attach-terminal");
    test.pod(
        "p",
        "{nodeName: node-1, containers: [{name: c, image: 'busybox:1.36', stdin: true, tty: true, command: [sh]}]}",
    );
    test.wait_ready("p");
    let mut terminal = test.kubectl_on_terminal(&["attach", "-it", "p"], 20, 77);
    terminal.wait_shown("If you don't see a command prompt", secs(20));
    poll(secs(20), "the size", || {
        terminal.types("stty size\r");
        terminal.shown().contains("20 77").then_some(())
    });
    // The container's own specification decides: one who does not know that it is a terminal is told.
    let refused = test.kubectl_refused(&["attach", "p"]);
    assert!(
        refused.contains("rpc error: code = InvalidArgument desc = tty and stderr cannot both be true"),
        "{refused}"
    );
    let other = test.kubectl_on_terminal(&["attach", "-it", "p"], 20, 77);
    poll(secs(20), "the second client sees what the first does", || {
        terminal.types("echo seen-$((40 + 2))\r");
        other.shown().contains("seen-42").then_some(())
    });
}

#[test]
fn files_and_folders_are_copied_both_ways() {
    let test = Test::start("copy");
    let pod = waiting_pod(&test, "p");
    let here = tempfile::tempdir().expect("a folder");
    let path = |name: &str| here.path().join(name).display().to_string();
    fs::create_dir_all(here.path().join("tree/deep")).expect("folders");
    let bytes: Vec<u8> = (0..64 * 1024 * 1024 / 8_u64)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    fs::write(here.path().join("tree/deep/big"), &bytes).expect("a file");
    fs::write(here.path().join("tree/small"), "small").expect("a file");
    test.kubectl(&["cp", &path("tree"), "p:/tmp/there"]);
    let there = test.exec(&pod, "c", "cat /tmp/there/small; wc -c </tmp/there/deep/big");
    assert_eq!(there, "small67108864");
    test.kubectl(&["cp", "p:/tmp/there", &path("back")]);
    assert_eq!(
        fs::read_to_string(here.path().join("back/small")).expect("it is back"),
        "small"
    );
    let back = fs::read(here.path().join("back/deep/big")).expect("it is back");
    assert!(back == bytes, "{} bytes came back changed", back.len());
}

#[test]
fn a_client_that_is_killed_ends_the_input_of_its_command() {
    let test = Test::start("exec-killed");
    let pod = waiting_pod(&test, "p");
    let mut kubectl = test.start_kubectl(&[
        "exec",
        "-i",
        "p",
        "--",
        "sh",
        "-c",
        "echo begun; cat; touch /tmp/over",
    ]);
    kubectl.wait_said("that it begins", secs(20), |said| said.contains("begun"));
    kubectl.write(b"x");
    drop(kubectl);
    poll(secs(20), "the command sees the end of its input", || {
        (test.try_exec(&pod, "c", "test -e /tmp/over").code == Some(0)).then_some(())
    });
}
