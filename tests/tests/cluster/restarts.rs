//! What happens when containers end: restart policies, back-off, phases, deadlines, and causes that go away.

use gantry_tests::cluster::{Machine, Test, pods, secs};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;

fn pod(test: &Test, name: &str, policy: &str, script: &str) {
    test.pod(
        name,
        &format!(
            "{{nodeName: node-2, restartPolicy: {policy}, volumes: [{{name: v, emptyDir: {{}}}}], containers: [{{name: c, \
             image: 'busybox:1.36', command: [sh, -c, '{script}'], volumeMounts: [{{name: v, mountPath: /v}}]}}]}}"
        ),
    );
}

#[test]
fn a_pod_that_is_never_restarted_ends_as_its_containers_did() {
    let test = Test::start("rst-never");
    pod(&test, "good", "Never", "exit 0");
    pod(&test, "bad", "Never", "exit 7");
    let good = test.wait_pod("good", "Succeeded", secs(60), |pod| {
        pods::phase(pod) == "Succeeded"
    });
    let ended = pods::terminated(&good, "c").expect("it ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
    let ready = pods::condition(&good, "Ready").expect("a condition");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_deref()),
        ("False", Some("PodCompleted"))
    );
    assert!(
        ended.started_at.is_some() && ended.finished_at >= ended.started_at,
        "{ended:?}"
    );
    let bad = test.wait_pod("bad", "Failed", secs(60), |pod| pods::phase(pod) == "Failed");
    let ended = pods::terminated(&bad, "c").expect("it ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (7, Some("Error")));
    assert_eq!((pods::restarts(&good, "c"), pods::restarts(&bad, "c")), (0, 0));
    assert_eq!(
        ended.container_id,
        pods::container(&bad, "c").and_then(|status| status.container_id.clone())
    );
}

#[test]
fn on_failure_restarts_until_it_succeeds() {
    let test = Test::start("rst-onfailure");
    pod(
        &test,
        "second",
        "OnFailure",
        "test -e /v/x && exit 0; touch /v/x; exit 1",
    );
    let pod = test.wait_pod("second", "Succeeded", secs(60), |pod| {
        pods::phase(pod) == "Succeeded"
    });
    assert_eq!(pods::restarts(&pod, "c"), 1);
    assert_eq!(
        pods::last_terminated(&pod, "c").map(|last| last.exit_code),
        Some(1)
    );
    assert_eq!(pods::terminated(&pod, "c").map(|ended| ended.exit_code), Some(0));
}

#[test]
fn a_crashing_container_is_restarted_with_growing_pauses() {
    let test = Test::start("rst-crash");
    pod(&test, "crash", "Always", "exit 5");
    let pod = test.wait_pod("crash", "CrashLoopBackOff after a restart", secs(60), |pod| {
        pods::restarts(pod, "c") >= 1 && pods::waits_for(pod, "c", "CrashLoopBackOff")
    });
    assert_eq!(pods::phase(&pod), "Running");
    let message = pods::waiting(&pod, "c")
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    let expected = format!(
        "back-off 10s restarting failed container=c pod=crash_{}({})",
        test.namespace(),
        pod.uid().unwrap_or_default()
    );
    assert_eq!(message, expected);
    assert_eq!(
        pods::last_terminated(&pod, "c").map(|last| last.exit_code),
        Some(5)
    );
    test.wait_event(
        "crash",
        "BackOff",
        "Back-off restarting failed container c",
        secs(30),
    );
    let pod = test.wait_pod("crash", "the second pause", secs(60), |pod| {
        pods::restarts(pod, "c") == 2 && pods::waits_for(pod, "c", "CrashLoopBackOff")
    });
    let message = pods::waiting(&pod, "c")
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    assert!(message.starts_with("back-off 20s"), "{message}");
}

#[test]
fn one_container_is_restarted_and_the_others_are_not() {
    let test = Test::start("rst-one");
    test.pod(
        "pair",
        "{nodeName: node-2, containers: [\
         {name: stays, image: 'busybox:1.36', command: [sleep, '1000']}, \
         {name: ends, image: 'hello:1'}]}",
    );
    let before = test.wait_ready("pair");
    let answer = test
        .net_of(&before)
        .http_get((pods::ip(&before), 8080).into(), "/exit?code=9");
    assert!(answer.is_err(), "the server ends without an answer: {answer:?}");
    let after = test.wait_pod("pair", "restarted and Ready", secs(60), |pod| {
        pods::restarts(pod, "ends") == 1 && pods::ready(pod)
    });
    assert_eq!(
        pods::container_id(&after, "stays"),
        pods::container_id(&before, "stays")
    );
    assert_ne!(
        pods::container_id(&after, "ends"),
        pods::container_id(&before, "ends")
    );
    assert_eq!(pods::ip(&after), pods::ip(&before));
    assert_eq!(
        pods::last_terminated(&after, "ends").map(|last| last.exit_code),
        Some(9)
    );
}

#[test]
fn the_termination_message_is_the_file_or_the_log() {
    let test = Test::start("rst-message");
    for (name, script, policy) in [
        (
            "file",
            "echo logged; printf told > /dev/termination-log; exit 1",
            "File",
        ),
        ("log", "echo logged; exit 1", "FallbackToLogsOnError"),
        ("silent", "echo logged; exit 0", "FallbackToLogsOnError"),
    ] {
        test.pod(
            name,
            &format!(
                "{{nodeName: node-2, restartPolicy: Never, securityContext: {{runAsUser: 10000}}, containers: [{{name: c, \
                 image: 'busybox:1.36', command: [sh, -c, '{script}'], terminationMessagePolicy: {policy}}}]}}"
            ),
        );
    }
    let message = |name: &str| {
        let pod = test.wait_pod(name, "ended", secs(60), |pod| {
            pods::terminated(pod, "c").is_some()
        });
        pods::terminated(&pod, "c")
            .and_then(|ended| ended.message.clone())
            .unwrap_or_default()
    };
    assert_eq!(message("file"), "told");
    assert_eq!(message("log"), "logged\n");
    assert_eq!(message("silent"), "");
}

#[test]
fn a_pod_over_its_active_deadline_fails() {
    let test = Test::start("rst-deadline");
    test.pod(
        "late",
        "{nodeName: node-2, activeDeadlineSeconds: 3, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]}",
    );
    let pod = test.wait_pod("late", "Failed", secs(60), |pod| pods::phase(pod) == "Failed");
    let status = pod.status.clone().expect("a status");
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was active on the node longer than the specified deadline")
    );
    let pod = test.wait_pod("late", "its container ended", secs(30), |pod| {
        pods::terminated(pod, "c").is_some()
    });
    assert_eq!(
        pods::terminated(&pod, "c").map(|ended| ended.exit_code),
        Some(137)
    );
}

#[test]
fn an_image_that_does_not_exist_is_pulled_again_until_it_does() {
    let test = Test::start("rst-image");
    let image = format!("docker.io/library/absent:{}", test.namespace());
    test.pod(
        "waits",
        &format!(
            "{{nodeName: node-2, containers: [{{name: c, image: '{image}', command: [sleep, '1000']}}]}}"
        ),
    );
    let pod = test.wait_pod("waits", "ErrImagePull", secs(60), |pod| {
        pods::waits_for(pod, "c", "ErrImagePull")
    });
    let message = pods::waiting(&pod, "c")
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    assert!(message.contains(&image), "{message}");
    let pod = test.wait_pod("waits", "ImagePullBackOff", secs(60), |pod| {
        pods::waits_for(pod, "c", "ImagePullBackOff")
    });
    let message = pods::waiting(&pod, "c")
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    assert!(
        message.contains(&format!("Back-off pulling image \"{image}\"")),
        "{message}"
    );
    assert_eq!(pods::phase(&pod), "Pending");
    test.wait_event(
        "waits",
        "Failed",
        &format!("Failed to pull image \"{image}\""),
        secs(10),
    );
    test.wait_event(
        "waits",
        "BackOff",
        &format!("Back-off pulling image \"{image}\""),
        secs(30),
    );
    let machine = Machine::named("node-2");
    machine.run(&[
        "ctr",
        "-n",
        "k8s.io",
        "images",
        "tag",
        "docker.io/library/busybox:1.36",
        &image,
    ]);
    test.wait_ready("waits");
    machine.run(&["ctr", "-n", "k8s.io", "images", "rm", &image]);
}

#[test]
fn an_image_that_may_not_be_pulled_or_has_no_name_is_an_error() {
    let test = Test::start("rst-pullnever");
    test.pod(
        "never",
        "{nodeName: node-2, containers: [{name: c, image: 'absent:1', imagePullPolicy: Never}]}",
    );
    test.pod(
        "noname",
        "{nodeName: node-2, containers: [{name: c, image: 'UPPER:1'}]}",
    );
    test.wait_pod("never", "refused", secs(30), |pod| {
        pods::waits_for(pod, "c", "ErrImageNeverPull")
    });
    test.wait_pod("noname", "refused", secs(30), |pod| {
        pods::waits_for(pod, "c", "InvalidImageName")
    });
}

#[test]
fn a_pod_waits_for_the_config_map_that_it_names() {
    let test = Test::start("rst-configmap");
    test.pod(
        "mounts",
        "{nodeName: node-2, volumes: [{name: m, configMap: {name: later}}], containers: [{name: c, image: 'busybox:1.36', \
         command: [sleep, '1000'], volumeMounts: [{name: m, mountPath: /m}]}]}",
    );
    test.pod(
        "reads",
        "{nodeName: node-2, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000'], \
         env: [{name: A, valueFrom: {configMapKeyRef: {name: later, key: a}}}]}]}",
    );
    let reads = test.wait_pod("reads", "refused", secs(60), |pod| {
        pods::waits_for(pod, "c", "CreateContainerConfigError")
    });
    let message = pods::waiting(&reads, "c")
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    assert_eq!(message, "configmap \"later\" not found");
    test.wait_event("mounts", "FailedMount", "configmap \"later\" not found", secs(60));
    let mounts: Pod = test.get("mounts");
    assert!(
        pods::waits_for(&mounts, "c", "ContainerCreating"),
        "{:?}",
        pods::container(&mounts, "c")
    );
    test.create::<ConfigMap>("{metadata: {name: later}, data: {a: one}}");
    // The reference tries a mount again after up to 2 minutes; these were its first tries.
    let mounts = test.wait_ready("mounts");
    assert_eq!(test.exec(&mounts, "c", "cat /m/a"), "one");
    let reads = test.wait_ready("reads");
    assert_eq!(test.exec(&reads, "c", "echo $A"), "one");
}
