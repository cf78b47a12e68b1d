//! `kubectl logs -f`: every line once, as soon as it is written, until the container ends; also while its file is
//! rotated, and however slowly somebody reads.

use gantry_tests::cluster::{Machine, NodeApi, Reading, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// A pod on node-1 that runs a line of shell until it is told by a file below /v that it may end (which may end the
/// command that makes the file, too).
fn writer(test: &Test, name: &str, script: &str) -> Pod {
    test.pod(
        name,
        &format!(
            "{{nodeName: node-1, restartPolicy: Never, volumes: [{{name: v, emptyDir: {{}}}}], \
             containers: [{{name: c, image: 'busybox:1.36', volumeMounts: [{{name: v, mountPath: /v}}], \
             command: [sh, -c, '{script}']}}]}}"
        ),
    );
    test.wait_pod(name, "runs", secs(60), |pod| pods::running(pod, "c"))
}

/// Numbered lines: `burst FROM TO` long ones, `trickle FILE` short ones until there is a file; `$n` is the next.
const NUMBERED: &str = "n=0; \
    burst() { awk -v a=$n -v b=$((n + $1)) \"BEGIN { p = sprintf(\\\"%4000s\\\", \\\"\\\"); for (i = a; i < b; i++) printf \\\"%08d%s\\\\n\\\", i, p }\"; n=$((n + $1)); }; \
    trickle() { until test -e /v/$1; do printf \"%08d\\n\" $n; n=$((n + 1)); usleep 20000; done; }; ";

/// How many numbered lines there are: all from the first on, in order.
#[track_caller]
fn numbered(who: &str, said: &[u8]) -> usize {
    let lines = said.split_inclusive(|byte| *byte == b'\n');
    let mut count = 0;
    for line in lines {
        let text = String::from_utf8_lossy(&line[..line.len().min(30)]).into_owned();
        let number = text.get(..8).and_then(|text| text.parse().ok());
        assert_eq!(
            number,
            Some(count),
            "{who}: line {count} of {} bytes is {text:?}",
            line.len()
        );
        assert_eq!(line.last(), Some(&b'\n'), "{who}: line {count} is cut");
        count += 1;
    }
    count
}

fn open(test: &Test, pod: &str, query: &str) -> Reading {
    let api = NodeApi::of_api_server(test, "node-1");
    let reading = api.open(&format!("/containerLogs/{}/{pod}/c?{query}", test.namespace()));
    assert_eq!(reading.status, 200);
    reading
}

/// Reads until the text is there.
#[track_caller]
fn read_until(reading: &mut Reading, text: &str) -> String {
    let mut said = String::new();
    loop {
        let new = said.len().saturating_sub(text.len());
        match reading.next(secs(20)) {
            Ok(Some(bytes)) => said.extend(bytes.iter().map(|byte| char::from(*byte))),
            other => panic!("no {text:?} in {} bytes: {other:?}", said.len()),
        }
        // Only what is new is searched: there may be megabytes.
        if said[new..].contains(text) {
            return said;
        }
    }
}

#[test]
fn a_follower_sees_lines_at_once_and_ends_with_the_container() {
    let test = Test::start("fol-end");
    let pod = writer(
        &test,
        "says",
        "echo one; echo two; until test -e /v/go; do usleep 50000; done; echo three; until test -e /v/end; do usleep 50000; done; echo four; exit 1",
    );
    let all = test.start_kubectl(&["logs", "-f", "says"]);
    all.wait_said("two lines", secs(20), |said| said == "one\ntwo\n");
    let tail = test.start_kubectl(&["logs", "-f", "--tail=1", "--timestamps", "says"]);
    let limited = test.start_kubectl(&["logs", "-f", "--limit-bytes=10", "says"]);
    tail.wait_said("the last line", secs(20), |said| said.ends_with("Z two\n"));
    test.exec(&pod, "c", "touch /v/go");
    all.wait_said("three lines", secs(10), |said| said == "one\ntwo\nthree\n");
    let limited = limited.wait(secs(10));
    assert_eq!((limited.code, limited.out.as_str()), (Some(0), "one\ntwo\nth"));
    test.try_exec(&pod, "c", "touch /v/end");
    let (all, tail) = (all.wait(secs(20)), tail.wait(secs(20)));
    assert_eq!(
        (all.code, all.out.as_str()),
        (Some(0), "one\ntwo\nthree\nfour\n"),
        "{all:?}"
    );
    let stamped: Vec<_> = tail.out.lines().filter_map(|line| line.split_once(' ')).collect();
    let said: Vec<_> = stamped.iter().map(|(_, said)| *said).collect();
    assert_eq!((tail.code, said), (Some(0), vec!["two", "three", "four"]));
    assert!(stamped.is_sorted(), "{stamped:?}");
}

#[test]
fn a_follower_stays_with_one_run_of_a_container() {
    let test = Test::start("fol-run");
    test.pod(
        "runs",
        "{nodeName: node-1, volumes: [{name: v, emptyDir: {}}], containers: [{name: c, image: 'busybox:1.36', \
         volumeMounts: [{name: v, mountPath: /v}], \
         command: [sh, -c, 'echo x >> /v/runs; echo run $(wc -l < /v/runs); until test -e /v/end$(wc -l < /v/runs); do usleep 50000; done']}]}",
    );
    let pod = test.wait_ready("runs");
    let follower = test.start_kubectl(&["logs", "-f", "runs"]);
    follower.wait_said("the first line", secs(20), |said| said == "run 1\n");
    test.try_exec(&pod, "c", "touch /v/end1");
    let first = follower.wait(secs(30));
    assert_eq!((first.code, first.out.as_str()), (Some(0), "run 1\n"));
    test.wait_pod("runs", "runs again", secs(60), |pod| {
        pods::restarts(pod, "c") == 1 && pods::running(pod, "c")
    });
    let second = test.start_kubectl(&["logs", "-f", "runs"]);
    second.wait_said("the second run", secs(20), |said| said == "run 2\n");
    test.delete::<Pod>("runs", None);
    let second = second.wait(secs(30));
    assert_eq!((second.code, second.out.as_str()), (Some(0), "run 2\n"));
}

/// The rotated files of a container's log, oldest first.
fn rotated(machine: &Machine, directory: &str) -> Vec<String> {
    let files = machine.sh(&format!("ls {directory}"));
    let rotated = files.lines().filter(|file| file.starts_with("0.log."));
    rotated
        .filter(|file| !file.ends_with(".tmp"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rotation_neither_loses_nor_doubles_a_line() {
    let test = Test::start("fol-rotation");
    let machine = Machine::named("node-1");
    let script = format!("{NUMBERED} trickle go; for i in 1 2 3; do burst 2800; trickle step$i; done");
    let pod = writer(&test, "says", &script);
    let directory = format!(
        "/var/log/pods/{}_says_{}/c",
        test.namespace(),
        pod.uid().unwrap_or_default()
    );
    let kubectl = test.start_kubectl(&["logs", "-f", "says"]);
    // The reference forgets what a reader had not read when its file was rotated twice.
    let slow = (!test.cluster.is_reference("agent")).then(|| open(&test, "says", "follow=true"));
    kubectl.wait_said("the first lines", secs(30), |said| said.starts_with("00000000\n"));
    test.exec(&pod, "c", "touch /v/go");
    for step in 1..=3 {
        let mut seen = Vec::new();
        poll(secs(60), &format!("rotation {step}: {seen:?}"), || {
            seen = rotated(&machine, &directory);
            (seen.len() >= step).then_some(())
        });
        // What is written after the rotation is in the new file.
        poll(secs(20), "the new file grows", || {
            let size = machine
                .try_run(&["stat", "-c", "%s", &format!("{directory}/0.log")])
                .out;
            size.trim()
                .parse::<u64>()
                .is_ok_and(|size| size > 1000)
                .then_some(())
        });
        test.try_exec(&pod, "c", &format!("touch /v/step{step}"));
    }
    let kubectl = kubectl.wait(secs(60));
    assert_eq!(kubectl.code, Some(0), "{}", kubectl.err);
    let count = numbered("kubectl", kubectl.out.as_bytes());
    assert!(count > 3 * 2800, "{count} lines");
    if let Some(mut slow) = slow {
        assert_eq!(numbered("slow", &slow.rest(secs(60))), count);
    }
    // All but the newest rotated file are compressed; nothing is lost on the disk either.
    let files = rotated(&machine, &directory);
    let compressed = files.iter().filter(|file| file.ends_with(".gz")).count();
    assert_eq!((files.len(), compressed), (3, 2), "{files:?}");
    let lines = machine.sh(&format!(
        "cd {directory}; zcat -f 0.log.*.gz 0.log.*[0-9] 0.log | wc -l"
    ));
    assert_eq!(lines.trim().parse(), Ok(count));
    let last = test.kubectl(&["logs", "says", "--tail=1"]);
    assert_eq!(last, format!("{:08}\n", count - 1));
}

#[test]
fn a_slow_reader_keeps_up_nobody_else() {
    let test = Test::start("fol-slow");
    let pod = writer(
        &test,
        "says",
        &format!("{NUMBERED} burst 1900; trickle end; burst 10"),
    );
    let mut slow: Vec<_> = (0..5).map(|_| open(&test, "says", "follow=true")).collect();
    // Followers that do not read: the container writes on, and others read everything.
    let mut quick = open(&test, "says", "follow=true");
    read_until(&mut quick, "00001950");
    let others = test.kubectl(&["logs", "says", "--tail=10"]);
    assert_eq!(others.lines().count(), 10);
    test.try_exec(&pod, "c", "touch /v/end");
    test.wait_pod("says", "ended", secs(30), |pod| {
        pods::terminated(pod, "c").is_some()
    });
    quick.rest(secs(30));
    let whole = test.kubectl(&["logs", "says"]);
    let count = numbered("whole", whole.as_bytes());
    for reading in &mut slow {
        assert_eq!(numbered("slow", &reading.rest(secs(60))), count);
    }
}

#[test]
fn many_followers_see_the_same() {
    let test = Test::start("fol-many");
    let pod = writer(
        &test,
        "says",
        "echo start; until test -e /v/go; do usleep 50000; done; seq 1 1000; until test -e /v/end; do usleep 50000; done; echo bye",
    );
    let mut followers: Vec<_> = (0..60).map(|_| open(&test, "says", "follow=true")).collect();
    for follower in &mut followers {
        assert_eq!(read_until(follower, "start\n"), "start\n");
    }
    test.exec(&pod, "c", "touch /v/go");
    for follower in &mut followers {
        read_until(follower, "\n1000\n");
    }
    test.try_exec(&pod, "c", "touch /v/end");
    for follower in &mut followers {
        assert_eq!(String::from_utf8_lossy(&follower.rest(secs(30))), "bye\n");
    }
}

#[test]
fn followers_that_vanish_leave_nothing() {
    let test = Test::start("fol-vanish");
    let pod = writer(&test, "says", &format!("{NUMBERED} burst 300; trickle end"));
    let (machine, uid) = (Machine::named("node-1"), pod.uid().unwrap_or_default());
    let agent = machine.main_process("kubelet");
    let open_files = || {
        let count = machine.sh(&format!(
            "find /proc/{agent}/fd -lname '/var/log/pods/*{uid}*' | wc -l"
        ));
        count.trim().parse::<usize>().unwrap_or(usize::MAX)
    };
    for round in 0..3 {
        // Some read to where it is written, some have hardly begun, one is a kubectl that is killed.
        let mut followers: Vec<_> = (0..20).map(|_| open(&test, "says", "follow=true")).collect();
        for follower in followers.iter_mut().take(10) {
            read_until(follower, "00000301");
        }
        let kubectl = test.start_kubectl(&["logs", "-f", "says"]);
        kubectl.wait_said("its lines", secs(30), |said| said.contains("00000301"));
        drop((followers, kubectl));
        poll(
            secs(30),
            &format!("the agent has closed the log in round {round}"),
            || (open_files() == 0).then_some(()),
        );
    }
    test.try_exec(&pod, "c", "touch /v/end");
    test.wait_pod("says", "ended", secs(30), |pod| pods::phase(pod) == "Succeeded");
}
