//! The series of agents and proxies, as Prometheus scrapes them and as the community's dashboards and alerts
//! (kubernetes-mixin) read them.

mod read;

use std::collections::BTreeSet;

use gantry_tests::cluster::prometheus::{PAGES, Prometheus, Series, promtool};
use gantry_tests::cluster::{NetNs, NodeApi, Test, poll, secs, wait::poll_ok};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use read::{READ, READ_OF_PROXIES};

/// Names that are the reference's own and that promtool does not like.
const UNCLEAN: &[&str] = &[
    "kubelet_certificate_manager_client_expiration_renew_errors counter metrics should have \"_total\" suffix",
    "kubelet_server_expiration_renew_errors counter metrics should have \"_total\" suffix",
    "kubelet_cpu_manager_exclusive_cpu_allocation_count non-histogram and non-summary metrics should not have \"_count\" suffix",
    "kubelet_evented_pleg_connection_error_count counter metrics should have \"_total\" suffix",
    "kubelet_evented_pleg_connection_error_count non-histogram and non-summary metrics should not have \"_count\" suffix",
    "kubelet_evented_pleg_connection_success_count counter metrics should have \"_total\" suffix",
    "kubelet_evented_pleg_connection_success_count non-histogram and non-summary metrics should not have \"_count\" suffix",
    "kubelet_pleg_discard_events counter metrics should have \"_total\" suffix",
    "kubelet_topology_manager_admission_duration_ms metric names should not contain abbreviated units",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total non-counter metrics should not have \"_total\" suffix",
    "container_memory_failures_total counter metrics should have \"_total\" suffix",
];

/// A pod with a volume, a probe and a container of each kind that ends, on that node.
fn example(test: &Test, node: &str) -> Pod {
    let name = format!("example-{node}");
    test.pod(
        &name,
        &format!(
            "{{nodeName: {node}, volumes: [{{name: settings, configMap: {{name: settings}}}}], containers: [{{name: c,
              image: 'docker.io/library/busybox:1.36', imagePullPolicy: IfNotPresent, command: [sleep, '3600'],
              volumeMounts: [{{name: settings, mountPath: /settings}}],
              readinessProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}}}}]}}"
        ),
    );
    test.wait_ready(&name)
}

fn sum(series: &[Series]) -> f64 {
    series.iter().map(|(_, value)| value).sum()
}

#[test]
fn prometheus_finds_what_dashboards_and_alerts_read() {
    let test = Test::start("metrics-read");
    let nodes = test.cluster.node_names();
    test.create::<ConfigMap>("{metadata: {name: settings}, data: {a: b}}");
    for node in &nodes {
        example(&test, node);
    }
    let prometheus = Prometheus::start(&test);
    poll_ok(secs(60), "all targets are up", || match prometheus.down()? {
        down if down.is_empty() => Ok(()),
        down => Err(format!("{down:#?}")),
    });
    #[expect(clippy::cast_precision_loss, reason = "a count of targets")]
    let targets = (nodes.len() * (PAGES.len() + 1)) as f64;
    // A target is up a moment before the samples of its first scrape can be read.
    poll_ok(secs(30), "agents' pages and proxies", || {
        let count = sum(&prometheus.query("count(up == 1)")?);
        if count == targets {
            Ok(())
        } else {
            Err(format!("{count} of {targets}"))
        }
    });
    for (page, series) in READ {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let selector = format!("{name}{{job=\"kubelet\",metrics_path=\"{page}\",{labels}");
        on_every_node(&prometheus, &selector, nodes.len());
    }
    for series in READ_OF_PROXIES {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        on_every_node(
            &prometheus,
            &format!("{name}{{job=\"kube-proxy\",{labels}"),
            nodes.len(),
        );
    }
}

/// The series exist on all nodes and are numbers.
fn on_every_node(prometheus: &Prometheus, selector: &str, nodes: usize) {
    poll_ok(secs(30), selector, || {
        let series = prometheus.query(selector)?;
        let found: BTreeSet<&String> = series
            .iter()
            .filter_map(|(labels, _)| labels.get("node_name"))
            .collect();
        if found.len() != nodes || series.iter().any(|(_, value)| value.is_nan()) {
            return Err(format!("{series:?}"));
        }
        Ok(())
    });
}

/// Series of the libraries that the reference is made with, and that say nothing of the node.
fn of_libraries(line: &str) -> bool {
    ["apiserver_", "authentication_", "go_"]
        .iter()
        .any(|name| line.starts_with(name))
}

#[test]
fn pages_are_as_promtool_likes_them() {
    let test = Test::start("metrics-clean");
    let node = &test.cluster.node_names()[0];
    let api = NodeApi::of_api_server(&test, node);
    let proxy = (test.node_ip(node), 10249).into();
    let mut pages = vec![(
        "the proxy's".to_owned(),
        NetNs::outside().http_get(proxy, "/metrics").expect("an answer") + "\n",
    )];
    // Container figures have unclean names by design; their own test compares them with the reference's.
    for page in ["/metrics", "/metrics/probes", "/metrics/slis"] {
        let answer = api.get(page);
        assert_eq!(answer.status, 200, "{page}: {}", answer.text());
        assert!(
            answer.content_type().starts_with("text/plain; version=0.0.4"),
            "{page}: {}",
            answer.content_type()
        );
        pages.push((page.to_owned(), answer.text()));
    }
    for (page, text) in pages {
        let complaints: Vec<String> = promtool(&text)
            .into_iter()
            .filter(|line| !UNCLEAN.contains(&line.as_str()) && !of_libraries(line))
            .collect();
        assert!(complaints.is_empty(), "{page}: {complaints:#?}");
    }
}

/// The values of a page's series with this name, by label text.
fn values(page: &str, name: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| {
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels.to_owned(), value.parse().ok()?))
        })
        .collect()
}

fn total(page: &str, name: &str) -> f64 {
    values(page, name).iter().map(|(_, value)| value).sum()
}

#[test]
fn counters_count_what_a_pod_does() {
    let test = Test::start("metrics-count");
    let node = &test.cluster.node_names()[0];
    let api = NodeApi::of_api_server(&test, node);
    let before = api.get("/metrics").text();
    test.pod(
        "ends",
        &format!(
            "{{nodeName: {node}, restartPolicy: Never, containers: [{{name: c, image: 'docker.io/library/busybox:1.36',
              imagePullPolicy: IfNotPresent, command: [sh, -c, 'sleep 2; exit 37']}}]}}"
        ),
    );
    test.output_of("ends");
    let count = |page: &str, name: &str| total(page, name);
    let after = poll(secs(30), "the start and the end are counted", || {
        let page = api.get("/metrics").text();
        let ended = values(&page, "kubelet_terminated_containers_total");
        let ended = ended.iter().any(|(labels, value)| {
            *value >= 1.0
                && labels.contains("exit_code=\"37\"")
                && labels.contains("container_type=\"container\"")
        });
        let more = count(&page, "kubelet_pod_start_duration_seconds_count")
            > count(&before, "kubelet_pod_start_duration_seconds_count");
        (ended && more).then_some(page)
    });
    for name in [
        "kubelet_started_pods_total",
        "kubelet_started_containers_total",
        "kubelet_run_podsandbox_duration_seconds_count",
        "kubelet_runtime_operations_total",
        "kubelet_pod_worker_duration_seconds_count",
        "storage_operation_duration_seconds_count",
        "rest_client_requests_total",
        "kubelet_http_requests_total",
    ] {
        assert!(count(&after, name) > count(&before, name), "{name}");
    }
}

#[test]
fn the_parts_of_a_start_are_measured() {
    let test = Test::start("metrics-phases");
    // Nobody else has these.
    if test.cluster.is_reference("agent") {
        return;
    }
    let node = &test.cluster.node_names()[0];
    let api = NodeApi::of_api_server(&test, node);
    let counts = || {
        let page = api.get("/metrics").text();
        values(&page, "gantry_pod_start_phase_duration_seconds_count")
    };
    let before = counts();
    test.idle_pod("starts", node);
    let phases = [
        "queue", "image", "volumes", "sandbox", "network", "create", "start", "status",
    ];
    poll_ok(secs(30), "every phase is counted", || {
        let after = counts();
        for phase in phases {
            let of = |all: &[(String, f64)]| {
                let found = all
                    .iter()
                    .find(|(labels, _)| labels.contains(&format!("phase=\"{phase}\"")));
                found.map_or(0.0, |(_, value)| *value)
            };
            if of(&after) <= of(&before) {
                return Err(format!("{phase}: {after:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn probes_are_counted_while_their_container_lives() {
    let test = Test::start("metrics-probes");
    let node = &test.cluster.node_names()[0];
    let api = NodeApi::of_api_server(&test, node);
    let pod = test.pod(
        "probed",
        &format!(
            "{{nodeName: {node}, containers: [{{name: c, image: 'docker.io/library/busybox:1.36', imagePullPolicy: IfNotPresent,
              command: [sleep, '3600'], readinessProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}},
              startupProbe: {{exec: {{command: [sh, -c, 'test -e /tmp/f || {{ touch /tmp/f; false; }}']}}, periodSeconds: 1}}}}]}}"
        ),
    );
    test.wait_ready("probed");
    let uid = format!("pod_uid=\"{}\"", pod.uid().expect("a UID"));
    let namespace = format!("namespace=\"{}\"", test.namespace());
    let of_pod = || -> Vec<(String, f64)> {
        let page = api.get("/metrics/probes").text();
        let all = values(&page, "prober_probe_total").into_iter();
        all.filter(|(labels, _)| labels.contains(&uid)).collect()
    };
    let seen = of_pod();
    for (kind, result) in [
        ("Readiness", "successful"),
        ("Startup", "failed"),
        ("Startup", "successful"),
    ] {
        let found = seen.iter().find(|(labels, _)| {
            [
                &namespace,
                "container=\"c\"",
                "pod=\"probed\"",
                &format!("probe_type=\"{kind}\""),
                &format!("result=\"{result}\""),
            ]
            .iter()
            .all(|label| labels.contains(*label))
        });
        assert!(
            found.is_some_and(|(_, value)| *value >= 1.0),
            "{kind} {result}: {seen:?}"
        );
    }
    test.delete::<Pod>("probed", None);
    test.wait_gone::<Pod>("probed", secs(60));
    poll(secs(60), "the series are gone", || {
        of_pod().is_empty().then_some(())
    });
}
