//! `kubectl logs` when there is nothing to show: why, in the words that users know.

use gantry_tests::cluster::{NodeApi, Test, pods, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::ConfigMap;

use super::logs::with_log;

/// A container of `name` has not started, and who asks for its log is told that it waits, and why.
#[track_caller]
fn waits(test: &Test, name: &str, why: &[&str]) {
    let said = |why: &str| format!("container \"c\" in pod \"{name}\" is waiting to start: {why}");
    let api = NodeApi::of_api_server(test, "node-1");
    for query in ["", "follow=true", "tailLines=1"] {
        poll_ok(secs(60), &format!("{name} waits for {why:?}"), || {
            let answer = api.get(&format!("/containerLogs/{}/{name}/c?{query}", test.namespace()));
            let expected = answer.status == 400 && why.iter().any(|why| answer.text() == said(why));
            expected
                .then_some(())
                .ok_or_else(|| format!("{} {}", answer.status, answer.text()))
        });
    }
}

#[test]
fn a_container_that_has_not_started_says_what_it_waits_for() {
    let test = Test::start("log-waiting");
    let pod = |name: &str, more: &str, container: &str| {
        test.pod(
            name,
            &format!("{{nodeName: node-1, {more} containers: [{{name: c, image: 'busybox:1.36', command: [sleep, '1000'], {container}}}]}}"),
        );
    };
    pod(
        "volume",
        "volumes: [{name: v, configMap: {name: later}}],",
        "volumeMounts: [{name: v, mountPath: /v}]",
    );
    pod("config", "", "envFrom: [{configMapRef: {name: later}}]");
    pod(
        "init",
        "initContainers: [{name: i, image: 'busybox:1.36', command: [sleep, '1000']}],",
        "",
    );
    test.pod(
        "image",
        "{nodeName: node-1, containers: [{name: c, image: 'localhost:1/absent:1'}]}",
    );
    test.pod(
        "never",
        "{nodeName: node-1, containers: [{name: c, image: 'absent:1', imagePullPolicy: Never}]}",
    );
    waits(&test, "volume", &["ContainerCreating"]);
    waits(&test, "config", &["CreateContainerConfigError"]);
    waits(&test, "init", &["PodInitializing"]);
    assert_eq!(
        test.kubectl_refused(&["logs", "init", "-c", "c"]),
        "Error from server (BadRequest): container \"c\" in pod \"init\" is waiting to start: PodInitializing"
    );
    waits(&test, "never", &["ErrImageNeverPull"]);
    waits(
        &test,
        "image",
        &["image can't be pulled", "trying and failing to pull image"],
    );
    let image = test.wait_pod("image", "pulled in vain", secs(60), |pod| {
        pods::waits_for(pod, "c", "ImagePullBackOff")
    });
    assert_eq!(pods::phase(&image), "Pending");
    waits(&test, "image", &["trying and failing to pull image"]);
    test.create::<ConfigMap>("{metadata: {name: later}, data: {a: one}}");
    test.wait_ready("config");
    assert_eq!(test.kubectl(&["logs", "config"]), "");
}

#[test]
fn what_does_not_exist_is_named() {
    let test = Test::start("log-missing");
    test.idle_pod("says", "node-1");
    assert_eq!(
        test.kubectl_refused(&["logs", "says", "-c", "nobody"]),
        "error: container nobody is not valid for pod says out of: c"
    );
    let api = NodeApi::of_api_server(&test, "node-1");
    let space = test.namespace();
    for (method, path, status, said) in [
        (
            "GET",
            format!("/containerLogs/{space}/nobody/c"),
            404,
            "pod \"nobody\" does not exist",
        ),
        (
            "GET",
            "/containerLogs/elsewhere/says/c".to_owned(),
            404,
            "pod \"says\" does not exist",
        ),
        (
            "GET",
            format!("/containerLogs/{space}/says/nobody"),
            404,
            "container \"nobody\" not found in pod \"says\"",
        ),
        (
            "GET",
            format!("/containerLogs/{space}/says"),
            404,
            "404: Page Not Found",
        ),
        (
            "GET",
            format!("/containerLogs/{space}/says/c/more"),
            404,
            "404: Page Not Found",
        ),
        (
            "POST",
            format!("/containerLogs/{space}/says/c"),
            405,
            "405: Method Not Allowed",
        ),
        (
            "PUT",
            format!("/containerLogs/{space}/says/c"),
            405,
            "405: Method Not Allowed",
        ),
    ] {
        let answer = api.send(method, &path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (status, said),
            "{method} {path}"
        );
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let test = Test::start("log-invalid");
    with_log(
        &test,
        "says",
        "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stdout F two",
    );
    let api = NodeApi::of_api_server(&test, "node-1");
    let (invalid, unclear) = (
        r#"{"message": "Invalid request."}"#,
        r#"{"message": "Unable to decode query."}"#,
    );
    for (query, status, said) in [
        ("tailLines=-1", 422, invalid),
        ("limitBytes=0", 422, invalid),
        ("limitBytes=-5", 422, invalid),
        ("sinceSeconds=0", 422, invalid),
        ("sinceSeconds=-1", 422, invalid),
        ("sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z", 422, invalid),
        ("stream=nonsense", 422, invalid),
        ("stream=Stdout&tailLines=1", 422, invalid),
        ("tailLines=many", 400, unclear),
        ("tailLines=1.5", 400, unclear),
        ("limitBytes=99999999999999999999", 400, unclear),
        ("sinceSeconds=1h", 400, unclear),
        ("sinceTime=yesterday", 400, unclear),
        (
            "stream=Stdout",
            400,
            "unable to return the given log stream: \"Stdout\". Please enable PodLogsQuerySplitStreams feature gate in kubelet",
        ),
        (
            "previous=true",
            400,
            "previous terminated container \"c\" in pod \"says\" not found",
        ),
        ("stream=All", 200, "one\ntwo\n"),
        ("tail=all", 200, "one\ntwo\n"),
        ("tail=1", 200, "two\n"),
        ("tail=1&tailLines=2", 200, "two\n"),
        ("tailLines=", 400, unclear),
        (
            "follow=false&previous=0&timestamps=f",
            200,
            "2026-01-01T00:00:01.000000000Z one\n2026-01-01T00:00:02.000000000Z two\n",
        ),
        ("unknown=5", 200, "one\ntwo\n"),
    ] {
        let answer = api.get(&format!("/containerLogs/{}/says/c?{query}", test.namespace()));
        assert_eq!((answer.status, answer.text().as_str()), (status, said), "{query}");
    }
}
