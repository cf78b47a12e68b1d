//! `kubectl logs`: what a container wrote, and the part of it that was asked for.

use std::fs::OpenOptions;
use std::io::Write;

use gantry_tests::cluster::{Machine, NodeApi, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// A pod that says nothing itself, with these lines in its log. `@N` at the start of one is the time N seconds ago.
pub(crate) fn with_log(test: &Test, name: &str, lines: &str) -> Pod {
    let pod = test.idle_pod(name, "node-1");
    let machine = Machine::named("node-1");
    let ago = |seconds: &str| machine.sh(&format!("date -u -d '-{seconds} seconds' +%FT%T.%NZ"));
    let absolute = |line: &str| match line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
        Some((seconds, rest)) => format!("{} {rest}\n", ago(seconds).trim()),
        None => format!("{line}\n"),
    };
    let text: String = lines.lines().map(absolute).collect();
    let uid = pod.uid().unwrap_or_default();
    let path = machine.path(&format!(
        "/var/log/pods/{}_{name}_{uid}/c/0.log",
        test.namespace()
    ));
    let written = OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    pod
}

/// A pod on node-1 with one container `c` that runs a line of shell once.
fn once(test: &Test, name: &str, script: &str) -> Pod {
    test.pod(
        name,
        &format!(
            "{{nodeName: node-1, restartPolicy: Never, containers: [{{name: c, image: 'busybox:1.36', \
             command: [sh, -c, '{script}']}}]}}"
        ),
    );
    test.wait_pod(name, "ended", secs(60), |pod| {
        pods::terminated(pod, "c").is_some()
    })
}

#[test]
fn options_choose_what_is_shown() {
    let test = Test::start("log-options");
    with_log(
        &test,
        "says",
        "2026-01-01T00:00:01.000000001Z stdout F one\n2026-01-01T00:00:02.000000002Z stderr F two\n\
         2026-01-01T00:00:03.5Z stdout P thr\n2026-01-01T00:00:03.6Z stdout F ee\n@600 stdout F four\n@60 stdout F five",
    );
    for (options, expected) in [
        ([].as_slice(), "one\ntwo\nthree\nfour\nfive\n"),
        (&["--tail=-1"], "one\ntwo\nthree\nfour\nfive\n"),
        (&["--tail=2"], "four\nfive\n"),
        (&["--tail=100"], "one\ntwo\nthree\nfour\nfive\n"),
        (&["--tail=0"], ""),
        (&["--limit-bytes=5"], "one\nt"),
        (&["--limit-bytes=10000"], "one\ntwo\nthree\nfour\nfive\n"),
        (&["--tail=1", "--limit-bytes=2"], "fi"),
        (&["--since=5m"], "five\n"),
        (&["--since=1h"], "four\nfive\n"),
        (&["--since=1h", "--tail=1"], "five\n"),
        (&["--since=5m", "--tail=2"], "five\n"),
        (&["--since-time=2026-01-01T00:00:02Z"], "two\nthree\nfour\nfive\n"),
        (&["--since-time=2026-01-01T00:00:03Z"], "three\nfour\nfive\n"),
    ] {
        let options: Vec<_> = ["logs", "says"]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
        let said = test.kubectl(&options);
        assert_eq!(said, expected, "{options:?}");
    }
    let stamped = test.kubectl(&["logs", "says", "--timestamps"]);
    let expected = "2026-01-01T00:00:01.000000001Z one\n2026-01-01T00:00:02.000000002Z two\n2026-01-01T00:00:03.500000000Z three\n";
    let rest = stamped
        .strip_prefix(expected)
        .unwrap_or_else(|| panic!("{stamped}"));
    let rest: Vec<_> = rest.lines().filter_map(|line| line.split_once("Z ")).collect();
    assert_eq!(
        rest.iter().map(|(_, said)| *said).collect::<Vec<_>>(),
        ["four", "five"]
    );
}

#[test]
fn what_a_container_writes_comes_back_byte_by_byte() {
    let test = Test::start("log-bytes");
    once(
        &test,
        "says",
        "seq 1 5000; echo complaint >&2; head -c 100000 /dev/zero | tr \"\\0\" x; echo; \
         printf \"\\000\\377\\r\\ttab\\n\\n  indented \\n\"; printf unfinished",
    );
    let mut expected: Vec<u8> = (1..=5000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let complaint = b"complaint\n";
    let mut rest = vec![b'x'; 100_000];
    rest.extend_from_slice(b"\n\x00\xff\r\ttab\n\n  indented \nunfinished");
    expected.extend_from_slice(&rest);
    let api = NodeApi::of_api_server(&test, "node-1");
    let answer = api.get(&format!("/containerLogs/{}/says/c", test.namespace()));
    assert_eq!(answer.status, 200);
    // The two streams are written side by side: the complaint is a line somewhere.
    let mut said = answer.body;
    let at = said
        .windows(complaint.len())
        .position(|window| window == complaint);
    said.drain(at.expect("the complaint is there")..at.unwrap_or_default() + complaint.len());
    let differs = said.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!((differs, said.len()), (None, expected.len()));
}

#[test]
fn the_last_lines_may_be_empty_and_unfinished() {
    let test = Test::start("log-tail");
    once(
        &test,
        "says",
        "seq 1 5000; printf \"tab\\n\\n  indented \\n\"; printf unfinished",
    );
    let said = test.kubectl(&["logs", "says", "--tail=3"]);
    assert_eq!(said, "\n  indented \nunfinished");
}

#[test]
fn the_last_run_of_a_container_is_remembered() {
    let test = Test::start("log-previous");
    test.pod(
        "runs",
        "{nodeName: node-1, volumes: [{name: v, emptyDir: {}}], containers: [{name: c, image: 'busybox:1.36', \
         volumeMounts: [{name: v, mountPath: /v}], \
         command: [sh, -c, 'echo x >> /v/runs; echo run $(wc -l < /v/runs); until test -e /v/end$(wc -l < /v/runs); do usleep 100000; done; exit 3']}]}",
    );
    let pod = test.wait_ready("runs");
    poll(secs(20), "it wrote", || {
        (test.kubectl(&["logs", "runs"]) == "run 1\n").then_some(())
    });
    let refused = test.kubectl_refused(&["logs", "runs", "--previous"]);
    assert_eq!(
        refused,
        "Error from server (BadRequest): previous terminated container \"c\" in pod \"runs\" not found"
    );
    test.try_exec(&pod, "c", "touch /v/end1");
    let pod = test.wait_pod("runs", "runs again", secs(60), |pod| {
        pods::restarts(pod, "c") == 1 && pods::running(pod, "c")
    });
    assert_eq!(test.kubectl(&["logs", "runs", "--previous"]), "run 1\n");
    poll(secs(20), "it wrote", || {
        (test.kubectl(&["logs", "runs"]) == "run 2\n").then_some(())
    });
    // While it waits for its third start, its log is that of the last run.
    test.try_exec(&pod, "c", "touch /v/end2");
    test.wait_pod("runs", "waits", secs(60), |pod| {
        pods::waits_for(pod, "c", "CrashLoopBackOff")
    });
    let log =
        NodeApi::of_api_server(&test, "node-1").get(&format!("/containerLogs/{}/runs/c", test.namespace()));
    if pods::restarts(&test.get("runs"), "c") == 1 {
        assert_eq!((log.status, log.text().as_str()), (200, "run 2\n"));
    }
    test.wait_pod("runs", "runs again", secs(90), |pod| {
        pods::restarts(pod, "c") == 2
    });
    assert_eq!(test.kubectl(&["logs", "runs", "--previous"]), "run 2\n");
}

#[test]
fn every_kind_of_container_has_a_log() {
    let test = Test::start("log-kinds");
    test.pod(
        "many",
        r"
nodeName: node-1
initContainers:
  - {name: first, image: 'busybox:1.36', command: [echo, first says]}
  - {name: side, image: 'busybox:1.36', restartPolicy: Always, command: [sh, -c, 'echo side says; exec sleep 1000']}
containers:
  - {name: one, image: 'busybox:1.36', command: [sh, -c, 'echo one says; exec sleep 1000']}
  - {name: two, image: 'busybox:1.36', command: [sh, -c, 'echo two says; exec sleep 1000']}
",
    );
    test.wait_ready("many");
    test.kubectl(&[
        "debug",
        "many",
        "--quiet",
        "--image=busybox:1.36",
        "--container=dbg",
        "--profile=general",
        "--",
        "echo",
        "debugger says",
    ]);
    test.wait_pod("many", "the debugger ended", secs(60), |pod| {
        pods::terminated(pod, "dbg").is_some()
    });
    for (container, said) in [
        ("first", "first says\n"),
        ("side", "side says\n"),
        ("one", "one says\n"),
        ("two", "two says\n"),
        ("dbg", "debugger says\n"),
    ] {
        assert_eq!(test.kubectl(&["logs", "many", "-c", container]), said);
    }
    let said = test.kubectl(&["logs", "many", "--all-containers", "--prefix"]);
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "[pod/many/dbg] debugger says",
            "[pod/many/first] first says",
            "[pod/many/one] one says",
            "[pod/many/side] side says",
            "[pod/many/two] two says"
        ]
    );
    // One is the default, as kubectl says on its standard error.
    assert_eq!(test.kubectl(&["logs", "many"]), "one says\n");
    assert_eq!(
        test.kubectl(&["logs", "-l", "app=many", "--tail=5"]),
        "one says\n"
    );
}

#[test]
fn a_pod_that_ended_keeps_its_log_until_it_is_deleted() {
    let test = Test::start("log-ended");
    once(&test, "ended", "echo last words; exit 1");
    test.wait_pod("ended", "Failed", secs(30), |pod| pods::phase(pod) == "Failed");
    assert_eq!(test.kubectl(&["logs", "ended"]), "last words\n");
    assert_eq!(test.kubectl(&["logs", "-f", "ended"]), "last words\n");
    test.delete::<Pod>("ended", None);
    test.wait_gone::<Pod>("ended", secs(40));
    assert_eq!(
        test.kubectl_refused(&["logs", "ended"]),
        "error: error from server (NotFound): pods \"ended\" not found in namespace \"".to_owned()
            + test.namespace()
            + "\""
    );
}
