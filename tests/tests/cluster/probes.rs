//! Probes: a pod is ready when it says so, and restarted when it does not live.

use gantry_tests::cluster::{Test, pods, secs};

/// What is probed, and how a pod's server (`hello`) is asked.
const KINDS: [(&str, &str); 3] = [
    ("http", "httpGet: {path: /healthz, port: 8080}"),
    ("tcp", "tcpSocket: {port: 8080}"),
    ("exec", "exec: {command: [test, -e, /v/ok]}"),
];

#[test]
fn a_pod_is_ready_when_its_probe_succeeds() {
    let test = Test::start("prb-ready");
    for (kind, handler) in KINDS {
        let script = "until test -e /v/ok; do sleep 0.1; done; mkdir -p /www; touch /www/healthz; httpd -f -p 8080 -h /www";
        test.pod(
            kind,
            &format!(
                "{{nodeName: node-1, volumes: [{{name: v, emptyDir: {{}}}}], containers: [{{name: c, image: 'busybox:1.36', \
                 command: [sh, -c, '{script}'], volumeMounts: [{{name: v, mountPath: /v}}], \
                 readinessProbe: {{{handler}, periodSeconds: 1}}}}]}}"
            ),
        );
    }
    for (kind, _) in KINDS {
        let pod = test.wait_pod(kind, "runs", secs(60), |pod| pods::running(pod, "c"));
        test.wait_event(kind, "Unhealthy", "Readiness probe failed", secs(30));
        let unready: k8s_openapi::api::core::v1::Pod = test.get(kind);
        let ready = pods::condition(&unready, "Ready").expect("a condition");
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_deref()),
            ("False", Some("ContainersNotReady"))
        );
        assert_eq!(
            ready.message.as_deref(),
            Some("containers with unready status: [c]")
        );
        test.exec(&pod, "c", "touch /v/ok");
        let pod = test.wait_ready(kind);
        assert_eq!(pods::restarts(&pod, "c"), 0);
    }
}

#[test]
fn a_pod_that_becomes_unready_is_not_restarted() {
    let test = Test::start("prb-unready");
    test.pod(
        "hello",
        "{nodeName: node-1, containers: [{name: c, image: 'hello:1', \
         readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}]}",
    );
    let before = test.wait_ready("hello");
    let net = test.net_of(&before);
    let address = (pods::ip(&before), 8080).into();
    net.http_get(address, "/healthz/fail").expect("an answer");
    test.wait_pod("hello", "not Ready", secs(30), |pod| !pods::is(pod, "Ready"));
    test.wait_event(
        "hello",
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        secs(20),
    );
    net.http_get(address, "/healthz/ok").expect("an answer");
    let after = test.wait_ready("hello");
    assert_eq!(pods::identities(&after), pods::identities(&before));
}

#[test]
fn a_container_that_does_not_live_is_killed_and_restarted() {
    let test = Test::start("prb-live");
    for (kind, handler) in KINDS {
        // Lives for two seconds after each start.
        let script = "touch /v/ok; mkdir -p /www; touch /www/healthz; httpd -p 8080 -h /www; sleep 2; rm /v/ok /www/healthz; killall httpd; sleep 1000";
        test.pod(
            kind,
            &format!(
                "{{nodeName: node-1, volumes: [{{name: v, emptyDir: {{}}}}], containers: [{{name: c, image: 'busybox:1.36', \
                 command: [sh, -c, '{script}'], volumeMounts: [{{name: v, mountPath: /v}}], \
                 livenessProbe: {{{handler}, periodSeconds: 1, failureThreshold: 2, initialDelaySeconds: 1}}}}]}}"
            ),
        );
    }
    for (kind, _) in KINDS {
        let pod = test.wait_pod(kind, "restarted", secs(60), |pod| pods::restarts(pod, "c") >= 1);
        let last = pods::last_terminated(&pod, "c").expect("how it ended");
        assert_eq!(last.exit_code, 137, "{last:?}");
        test.wait_event(kind, "Unhealthy", "Liveness probe failed", secs(20));
        test.wait_event(
            kind,
            "Killing",
            "Container c failed liveness probe, will be restarted",
            secs(20),
        );
    }
}

#[test]
fn liveness_waits_for_the_startup_probe() {
    let test = Test::start("prb-startup");
    test.pod(
        "slow",
        "{nodeName: node-1, volumes: [{name: v, emptyDir: {}}], containers: [{name: c, image: 'busybox:1.36', \
         command: [sh, -c, 'sleep 4; touch /v/ok; sleep 1000'], volumeMounts: [{name: v, mountPath: /v}], \
         startupProbe: {exec: {command: [test, -e, /v/ok]}, periodSeconds: 1, failureThreshold: 60}, \
         livenessProbe: {exec: {command: [test, -e, /v/ok]}, periodSeconds: 1, failureThreshold: 1}}]}",
    );
    let pod = test.wait_pod("slow", "runs", secs(60), |pod| pods::running(pod, "c"));
    assert_eq!(
        pods::container(&pod, "c").and_then(|status| status.started),
        Some(false)
    );
    let pod = test.wait_ready("slow");
    assert_eq!(pods::restarts(&pod, "c"), 0);
    assert_eq!(
        pods::container(&pod, "c").and_then(|status| status.started),
        Some(true)
    );
}

#[test]
fn a_container_that_never_starts_up_is_restarted() {
    let test = Test::start("prb-neverup");
    test.pod(
        "down",
        "{nodeName: node-1, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000'], \
         startupProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 2}}]}",
    );
    test.wait_pod("down", "restarted", secs(60), |pod| pods::restarts(pod, "c") >= 1);
    test.wait_event(
        "down",
        "Killing",
        "Container c failed startup probe, will be restarted",
        secs(20),
    );
}
