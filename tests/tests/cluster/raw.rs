//! `kubectl get --raw /api/v1/nodes/NAME/proxy/...`: what a node says of itself and its pods.

use gantry_tests::cluster::{Machine, NetNs, NodeApi, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use super::auth::account_with;

const NODE: &str = "node-1";

/// `kubectl get --raw`
#[track_caller]
fn raw(test: &Test, path: &str) -> String {
    test.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy{path}")])
}

#[track_caller]
pub(crate) fn raw_json(test: &Test, path: &str) -> Value {
    let said = raw(test, path);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path} is no JSON: {error}: {said}"))
}

/// The test's pod in a list of pods.
fn pod_in<'a>(test: &Test, list: &'a Value, name: &str) -> Option<&'a Value> {
    list["items"]
        .as_array()?
        .iter()
        .find(|pod| pod["metadata"]["name"] == name && pod["metadata"]["namespace"] == test.namespace())
}

#[test]
fn health_is_what_is_asked_for() {
    let test = Test::start("raw-healthz");
    assert_eq!(raw(&test, "/healthz"), "ok");
    assert_eq!(raw(&test, "/healthz/ping"), "ok");
    assert_eq!(raw(&test, "/healthz/log"), "ok");
    assert_eq!(raw(&test, "/healthz/syncloop"), "ok");
    let verbose = raw(&test, "/healthz?verbose");
    for line in [
        "[+]ping ok",
        "[+]log ok",
        "[+]syncloop ok",
        "healthz check passed",
    ] {
        assert!(
            verbose.lines().any(|said| said == line),
            "no {line:?} in {verbose:?}"
        );
    }
    let without = raw(&test, "/healthz?verbose&exclude=syncloop");
    assert!(without.contains("[+]syncloop excluded: ok"), "{without}");
    let answer = NodeApi::of_api_server(&test, NODE).get("/healthz/nonsense");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (404, "404 page not found\n")
    );
}

#[test]
fn pods_are_those_of_the_api_server() {
    let test = Test::start("raw-pods");
    let pod = test.pod(
        "idle",
        "{nodeName: node-1, initContainers: [{name: i, image: 'busybox:1.36', command: ['true']}], \
         containers: [{name: c, image: 'registry.k8s.io/pause:3.10', env: [{name: A, value: b}]}]}",
    );
    test.idle_pod("elsewhere", "node-2");
    let uid = pod.uid().unwrap_or_default();
    let ready = test.wait_ready("idle");
    let list = raw_json(&test, "/pods");
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&"PodList".into(), &"v1".into())
    );
    assert!(pod_in(&test, &list, "elsewhere").is_none());
    let listed = pod_in(&test, &list, "idle").expect("the pod is listed");
    assert_eq!(listed["metadata"]["uid"], uid.as_str());
    assert_eq!(
        listed["metadata"]["annotations"]["kubernetes.io/config.source"],
        "api"
    );
    assert!(
        listed["metadata"]["annotations"]["kubernetes.io/config.seen"].is_string(),
        "{listed}"
    );
    let wanted = serde_json::to_value(&ready.spec).expect("a spec is JSON");
    for field in [
        "containers",
        "initContainers",
        "nodeName",
        "volumes",
        "restartPolicy",
        "serviceAccountName",
    ] {
        assert_eq!(listed["spec"][field], wanted[field], "{field}");
    }
    let status = poll(secs(20), "the list has its status", || {
        let list = raw_json(&test, "/pods");
        let status = &pod_in(&test, &list, "idle")?["status"];
        (status["phase"] == "Running").then(|| status.clone())
    });
    let known = serde_json::to_value(test.get::<Pod>("idle").status).expect("a status is JSON");
    for field in ["podIP", "hostIP", "qosClass", "startTime"] {
        assert_eq!(status[field], known[field], "{field} of {status}");
    }
    let id = |status: &Value| status["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&status), id(&known));
    test.delete::<Pod>("idle", None);
    test.wait_gone::<Pod>("idle", secs(40));
    poll(secs(20), "it is not listed any more", || {
        pod_in(&test, &raw_json(&test, "/pods"), "idle")
            .is_none()
            .then_some(())
    });
}

#[test]
fn running_pods_are_those_of_the_runtime() {
    let test = Test::start("raw-running");
    let pod = test.idle_pod("idle", NODE);
    let list = poll(secs(40), "it is listed", || {
        let list = raw_json(&test, "/runningpods/");
        let listed = pod_in(&test, &list, "idle")?;
        listed["spec"]["containers"].is_array().then_some(list)
    });
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&"PodList".into(), &"v1".into())
    );
    let listed = pod_in(&test, &list, "idle").expect("the pod is listed");
    assert_eq!(listed["metadata"]["uid"], pod.uid().unwrap_or_default().as_str());
    let containers = listed["spec"]["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1, "{listed}");
    assert_eq!(containers[0]["name"], "c");
    assert!(containers[0]["image"].is_string(), "{listed}");
    assert_eq!(listed["status"], serde_json::json!({}));
    test.delete::<Pod>("idle", None);
    test.wait_gone::<Pod>("idle", secs(40));
    poll(secs(40), "it is not listed any more", || {
        pod_in(&test, &raw_json(&test, "/runningpods/"), "idle")
            .is_none()
            .then_some(())
    });
    assert_eq!(
        NodeApi::of_api_server(&test, NODE).get("/runningpods").status,
        307
    );
}

#[test]
fn files_below_var_log_can_be_read() {
    let test = Test::start("raw-logs");
    let machine = Machine::named(NODE);
    let name = test.namespace();
    let directory = format!("/var/log/{name}");
    machine.sh(&format!("mkdir -p {directory}/sub; printf 'a line\\n' >{directory}/one.log; ln -s /etc/hostname {directory}/link"));
    let listing = raw(&test, "/logs/");
    assert!(
        listing.contains(&format!("<a href=\"{name}/\">{name}/</a>")),
        "{listing}"
    );
    let listing = raw(&test, &format!("/logs/{name}/"));
    assert!(
        listing.starts_with("<!doctype html>\n") || listing.starts_with("<pre>\n"),
        "{listing}"
    );
    for entry in ["one.log", "sub/", "link"] {
        assert!(
            listing.contains(&format!("<a href=\"{entry}\">{entry}</a>\n")),
            "{listing}"
        );
    }
    assert_eq!(raw(&test, &format!("/logs/{name}/one.log")), "a line\n");
    let api = NodeApi::of_api_server(&test, NODE);
    let part = api.try_send(
        api.request("GET", &format!("/logs/{name}/one.log"))
            .header("Range", "bytes=2-3"),
    );
    assert_eq!(
        part.map(|part| (part.status, part.text())),
        Ok((206, "li".to_owned()))
    );
    assert_eq!(api.get(&format!("/logs/{name}")).status, 301);
    assert_eq!(api.get(&format!("/logs/{name}/none")).status, 404);
    for outside in [
        "/logs/../../etc/hostname",
        "/logs/%2e%2e/%2e%2e/etc/hostname",
        "/logs//../../etc/hostname",
    ] {
        let answer = api.get(outside);
        assert!(
            answer.status >= 300 && !answer.text().contains(NODE),
            "{outside}: {answer:?}"
        );
    }
    machine.sh(&format!("rm -rf {directory}"));
}

#[test]
fn the_pages_for_people_say_what_runs() {
    // What stands between a name and its value differs from start to start, so that nobody parses it.
    let test = Test::start("raw-zpages");
    // The API server itself may not.
    let status = account_with(&test, "reader", "get", "statusz")
        .get("/statusz")
        .text();
    for line in ["kubelet statusz", "Started", "Up", "Binary version", "Paths"] {
        assert!(status.contains(line), "no {line:?} in {status}");
    }
    let flags = raw(&test, "/flagz");
    for line in [
        "kubelet flagz",
        "\nconfig",
        "/var/lib/kubelet/config.yaml\n",
        "\nkubeconfig",
        "/etc/kubernetes/kubelet.conf\n",
        "\nnode-labels",
    ] {
        assert!(flags.contains(line), "no {line:?} in {flags}");
    }
}

#[test]
fn figures_are_on_their_pages() {
    let test = Test::start("raw-figures");
    let pod = test.idle_pod("idle", NODE);
    let space = test.namespace();
    for (path, expected) in [
        ("/metrics", format!("kubelet_node_name{{node=\"{NODE}\"}} 1")),
        ("/metrics/cadvisor", format!("namespace=\"{space}\",pod=\"idle\"")),
        (
            "/metrics/resource",
            format!("pod_memory_working_set_bytes{{namespace=\"{space}\",pod=\"idle\"}}"),
        ),
        (
            "/metrics/slis",
            "kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1".to_owned(),
        ),
        ("/metrics/probes", "process_start_time_seconds".to_owned()),
    ] {
        poll(secs(60), &format!("{path} has {expected}"), || {
            raw(&test, path).contains(&expected).then_some(())
        });
        let answer = NodeApi::of_api_server(&test, NODE).get(path);
        assert!(
            answer.content_type().starts_with("text/plain; version=0.0.4"),
            "{path}: {}",
            answer.content_type()
        );
    }
    let summary = poll(secs(60), "the summary has the pod", || {
        let summary = raw_json(&test, "/stats/summary");
        let found = summary["pods"]
            .as_array()?
            .iter()
            .any(|pod| pod["podRef"]["namespace"] == space);
        found.then_some(summary)
    });
    assert_eq!(summary["node"]["nodeName"], NODE);
    let listed = summary["pods"]
        .as_array()
        .and_then(|pods| pods.iter().find(|pod| pod["podRef"]["namespace"] == space));
    assert_eq!(
        listed.map(|listed| &listed["podRef"]["uid"]),
        Some(&pod.uid().unwrap_or_default().into())
    );
}

#[test]
fn paths_and_methods_that_are_none_are_refused() {
    let test = Test::start("raw-refused");
    let api = NodeApi::of_api_server(&test, NODE);
    for (method, path, status, said) in [
        ("GET", "/", 404, "404 page not found\n"),
        ("GET", "/nonsense", 404, "404 page not found\n"),
        ("GET", "/api/v1/pods", 404, "404 page not found\n"),
        ("GET", "/pods/more", 404, "404: Page Not Found"),
        ("GET", "/stats/nonsense", 404, "404: Page Not Found"),
        ("GET", "/stats/container", 404, "404: Page Not Found"),
        ("GET", "/metrics/nonsense", 404, "404 page not found\n"),
        ("GET", "/spec/", 404, "404 page not found\n"),
        ("POST", "/pods", 405, "405: Method Not Allowed"),
        ("DELETE", "/pods", 405, "405: Method Not Allowed"),
        ("POST", "/runningpods/", 405, "405: Method Not Allowed"),
        ("DELETE", "/stats/summary", 405, "405: Method Not Allowed"),
        ("GET", "/run/ns/pod/c", 405, "405: Method Not Allowed"),
        ("DELETE", "/exec/ns/pod/c", 405, "405: Method Not Allowed"),
    ] {
        let answer = api.send(method, path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (status, said),
            "{method} {path}"
        );
    }
    for (path, to) in [
        ("/logs", "/logs/"),
        ("/stats", "/stats/"),
        ("//pods", "/pods"),
        ("/logs/../pods", "/pods"),
    ] {
        let answer = api.get(path);
        let location = answer.headers.get("Location").and_then(|to| to.to_str().ok());
        assert_eq!((answer.status, location), (307, Some(to)), "{path}");
    }
    let refused = test.kubectl_refused(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/nonsense")]);
    assert_eq!(
        refused,
        "Error from server (NotFound): the server could not find the requested resource"
    );
}

#[test]
fn a_checkpoint_is_the_runtimes_business() {
    let test = Test::start("raw-checkpoint");
    test.idle_pod("idle", NODE);
    let api = account_with(&test, "saver", "create", "checkpoint");
    let space = test.namespace();
    for (path, status, said) in [
        (format!("{space}/nobody/c"), 404, "pod does not exist"),
        (
            format!("{space}/idle/nobody"),
            404,
            "container nobody does not exist",
        ),
        (
            format!("{space}/idle/c?timeout=long"),
            404,
            "cannot parse value of timeout parameter",
        ),
    ] {
        let answer = api.send("POST", &format!("/checkpoint/{path}"));
        assert_eq!((answer.status, answer.text().as_str()), (status, said), "{path}");
    }
    // These machines have no criu.
    let answer = api.send("POST", &format!("/checkpoint/{space}/idle/c"));
    let said = answer.text();
    assert_eq!(answer.status, 500, "{said}");
    assert!(
        said.starts_with(&format!("checkpointing of {space}/idle/c failed (")),
        "{said}"
    );
    assert!(pods::ready(&test.get::<Pod>("idle")));
}

#[test]
fn the_health_port_serves_health_only() {
    let test = Test::start("raw-10248");
    let machine = Machine::named(NODE);
    let net = NetNs::of_machine(&machine);
    let address = "127.0.0.1:10248".parse().expect("an address");
    for path in ["/healthz", "/healthz/ping"] {
        assert_eq!(net.http_get(address, path).as_deref(), Ok("ok"), "{path}");
    }
    for path in [
        "/",
        "/metrics",
        "/pods",
        "/configz",
        "/debug/pprof/",
        "/logs/",
        "/stats/summary",
        "/flagz",
        "/exec/a/b/c",
    ] {
        let refused = net.http_get(address, path);
        assert!(
            refused.as_ref().is_err_and(|error| error.contains(" 404 ")),
            "{path}: {refused:?}"
        );
    }
    let listens = machine.sh("ss -Hltn | awk '{print $4}'");
    assert!(!listens.contains(":10255"), "{listens}");
    drop(test);
}
