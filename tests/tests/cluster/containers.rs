//! How containers are started: command, environment, identity, resources, init containers and sidecars.

use std::net::SocketAddr;

use gantry_tests::cluster::{Machine, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::ResourceExt;

/// The last part of a pod with one container that says something and ends.
fn once(test: &Test, name: &str, container: &str) {
    test.pod(
        name,
        &format!("{{nodeName: node-1, restartPolicy: Never, containers: [{{name: c, image: 'busybox:1.36', {container}}}]}}"),
    );
}

#[test]
fn references_in_command_and_arguments_are_expanded() {
    let test = Test::start("ctr-expand");
    once(
        &test,
        "says",
        "env: [{name: A, value: one}, {name: B, value: '$(A)-two'}, {name: C, value: '$(LATER)'}, {name: LATER, value: x}], \
         command: [sh, -c, 'for a; do echo \"$a\"; done', sh], args: ['$(B)', '$$(B)', '$(NONE)', '$(C)', '$']",
    );
    assert_eq!(test.output_of("says"), "one-two\n$(B)\n$(NONE)\n$(LATER)\n$");
}

#[test]
fn the_environment_comes_from_maps_secrets_fields_and_services() {
    let test = Test::start("ctr-env");
    test.create::<ConfigMap>("{metadata: {name: map}, data: {one: '1', shared: map}}");
    test.create::<Secret>("{metadata: {name: secret}, stringData: {two: '2', shared: secret}}");
    let service: Service = test.create("{metadata: {name: my-db}, spec: {ports: [{name: sql, port: 5432}]}}");
    let ip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let api = test.cluster.primary("10.96.0.1", "fd00:96::1");
    let db = SocketAddr::new(ip.parse().expect("an address"), 5432);
    let field =
        |name: &str, path: &str| format!("{{name: {name}, valueFrom: {{fieldRef: {{fieldPath: {path}}}}}}}");
    let fields = [
        field("POD", "metadata.name"),
        field("SPACE", "metadata.namespace"),
        field("NODE", "spec.nodeName"),
        field("ACCOUNT", "spec.serviceAccountName"),
        field("LABEL", "'metadata.labels[''app'']'"),
        field("HOST_IP", "status.hostIP"),
        field("POD_IP", "status.podIP"),
    ];
    once(
        &test,
        "says",
        &format!(
            "command: [env], resources: {{limits: {{cpu: 1500m, memory: 10Mi}}}}, \
             envFrom: [{{configMapRef: {{name: map}}}}, {{prefix: S_, secretRef: {{name: secret}}}}, \
                       {{configMapRef: {{name: missing, optional: true}}}}], \
             env: [{}, {{name: one, value: mine}}, {{name: KEY, valueFrom: {{secretKeyRef: {{name: secret, key: two}}}}}}, \
                   {{name: NOKEY, valueFrom: {{configMapKeyRef: {{name: map, key: no, optional: true}}}}}}, \
                   {{name: CPU, valueFrom: {{resourceFieldRef: {{resource: limits.cpu}}}}}}, \
                   {{name: MEMORY, valueFrom: {{resourceFieldRef: {{resource: limits.memory, divisor: 1Mi}}}}}}]",
            fields.join(", ")
        ),
    );
    let said = test.output_of("says");
    let pod: Pod = test.get("says");
    let lines: Vec<_> = said.lines().collect();
    for expected in [
        "one=mine".to_owned(),
        "shared=map".to_owned(),
        "S_two=2".to_owned(),
        "S_shared=secret".to_owned(),
        "KEY=2".to_owned(),
        "CPU=2".to_owned(),
        "MEMORY=10".to_owned(),
        "POD=says".to_owned(),
        format!("SPACE={}", test.namespace()),
        "NODE=node-1".to_owned(),
        "ACCOUNT=default".to_owned(),
        "LABEL=says".to_owned(),
        format!("HOST_IP={}", test.node_ip("node-1")),
        format!("POD_IP={}", pods::ip(&pod)),
        format!("KUBERNETES_SERVICE_HOST={api}"),
        "KUBERNETES_SERVICE_PORT_HTTPS=443".to_owned(),
        format!("MY_DB_SERVICE_HOST={ip}"),
        "MY_DB_SERVICE_PORT_SQL=5432".to_owned(),
        format!("MY_DB_PORT_5432_TCP=tcp://{db}"),
        "HOSTNAME=says".to_owned(),
    ] {
        assert!(lines.contains(&expected.as_str()), "no {expected:?} in\n{said}");
    }
    assert!(!said.contains("NOKEY"), "{said}");
}

#[test]
fn the_security_context_holds() {
    let test = Test::start("ctr-security");
    once(
        &test,
        "says",
        "command: [sh, -c, 'id; grep -E \"NoNewPrivs|CapEff\" /proc/self/status; touch /x 2>/dev/null || echo read-only'], \
         securityContext: {runAsUser: 1000, runAsGroup: 2000, allowPrivilegeEscalation: false, \
         readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}",
    );
    let said = test.output_of("says");
    assert!(said.contains("uid=1000 gid=2000"), "{said}");
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    assert!(said.ends_with("read-only"), "{said}");
}

#[test]
fn run_as_non_root_refuses_an_image_that_runs_as_root() {
    let test = Test::start("ctr-nonroot");
    once(
        &test,
        "root",
        "command: [sleep, '1000'], securityContext: {runAsNonRoot: true}",
    );
    let pod = test.wait_pod("root", "refused", secs(30), |pod| {
        pods::waits_for(pod, "c", "CreateContainerConfigError")
    });
    let message = pods::waiting(&pod, "c")
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    assert!(
        message.contains("container has runAsNonRoot and image will run as root"),
        "{message}"
    );
    assert_eq!(pods::phase(&pod), "Pending");
}

#[test]
fn limits_and_requests_are_in_the_cgroups() {
    let test = Test::start("ctr-cgroups");
    test.pod(
        "limited",
        "{nodeName: node-1, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000'], \
         resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}}]}",
    );
    let pod = test.wait_ready("limited");
    assert_eq!(
        pod.status.as_ref().and_then(|status| status.qos_class.as_deref()),
        Some("Burstable")
    );
    let machine = Machine::named("node-1");
    let uid = pod.uid().unwrap_or_default();
    let v1 = machine.path("/sys/fs/cgroup/memory/kubepods").exists();
    let read = |path: &str| machine.run(&["cat", path]).trim().to_owned();
    if v1 {
        let memory = format!("/sys/fs/cgroup/memory/kubepods/burstable/pod{uid}");
        let cpu = format!("/sys/fs/cgroup/cpu/kubepods/burstable/pod{uid}");
        assert_eq!(read(&format!("{memory}/memory.limit_in_bytes")), "67108864");
        assert_eq!(read(&format!("{cpu}/cpu.shares")), "102");
        assert_eq!(read(&format!("{cpu}/cpu.cfs_quota_us")), "50000");
        let id = pods::container_id(&pod, "c").unwrap_or_default();
        assert_eq!(read(&format!("{memory}/{id}/memory.limit_in_bytes")), "67108864");
        assert_eq!(read(&format!("{cpu}/{id}/cpu.shares")), "102");
    } else {
        let uid = uid.replace('-', "_");
        let slice = format!(
            "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice"
        );
        assert_eq!(read(&format!("{slice}/memory.max")), "67108864");
        assert_eq!(read(&format!("{slice}/cpu.max")), "50000 100000");
    }
}

#[test]
fn a_container_over_its_memory_limit_is_oom_killed() {
    let test = Test::start("ctr-oom");
    once(
        &test,
        "greedy",
        "command: [sh, -c, 'x=$(dd if=/dev/zero bs=1M count=64 2>/dev/null | tr \"\\0\" x); echo survived'], \
         resources: {limits: {memory: 16Mi}}",
    );
    let pod = test.wait_pod("greedy", "ended", secs(60), |pod| {
        pods::terminated(pod, "c").is_some()
    });
    let ended = pods::terminated(&pod, "c").expect("it ended");
    assert_eq!(ended.reason.as_deref(), Some("OOMKilled"), "{ended:?}");
    assert_eq!(
        pods::phase(&test.wait_pod("greedy", "Failed", secs(20), |p| pods::phase(p) == "Failed")),
        "Failed"
    );
}

#[test]
fn init_containers_run_one_after_the_other_before_the_rest() {
    let test = Test::start("ctr-init");
    test.pod(
        "ordered",
        r"
nodeName: node-1
volumes: [{name: v, emptyDir: {}}]
initContainers:
  - {name: one, image: 'busybox:1.36', command: [sh, -c, 'until test -e /v/go; do sleep 0.1; done; echo one >> /v/order'], volumeMounts: [{name: v, mountPath: /v}]}
  - {name: two, image: 'busybox:1.36', command: [sh, -c, 'echo two >> /v/order'], volumeMounts: [{name: v, mountPath: /v}]}
containers:
  - {name: c, image: 'busybox:1.36', command: [sh, -c, 'cat /v/order; sleep 1000'], volumeMounts: [{name: v, mountPath: /v}]}
",
    );
    let pod = test.wait_pod("ordered", "one runs", secs(30), |pod| pods::running(pod, "one"));
    assert!(
        pods::waits_for(&pod, "c", "PodInitializing"),
        "{:?}",
        pods::waiting(&pod, "c")
    );
    assert!(
        pods::waits_for(&pod, "two", "PodInitializing"),
        "{:?}",
        pods::waiting(&pod, "two")
    );
    let initialized = pods::condition(&pod, "Initialized").expect("a condition");
    assert_eq!(initialized.status, "False");
    assert_eq!(
        initialized.message.as_deref(),
        Some("containers with incomplete status: [one two]")
    );
    assert_eq!(pods::phase(&pod), "Pending");
    test.exec(&pod, "one", "touch /v/go");
    let pod = test.wait_ready("ordered");
    assert!(pods::is(&pod, "Initialized"));
    for name in ["one", "two"] {
        let ended = pods::terminated(&pod, name).expect("it ended");
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
        assert!(pods::container(&pod, name).expect("a status").ready);
    }
    poll(secs(10), "c wrote", || {
        (test.log(&pod, "c") == "one\ntwo").then_some(())
    });
}

#[test]
fn a_failing_init_container_fails_a_pod_that_is_never_restarted() {
    let test = Test::start("ctr-initfail");
    test.pod(
        "fails",
        "{nodeName: node-1, restartPolicy: Never, \
          initContainers: [{name: one, image: 'busybox:1.36', command: [sh, -c, 'exit 3']}], \
          containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]}",
    );
    let pod = test.wait_pod("fails", "Failed", secs(30), |pod| pods::phase(pod) == "Failed");
    assert_eq!(
        pods::terminated(&pod, "one").map(|ended| ended.exit_code),
        Some(3)
    );
    assert!(
        pods::waits_for(&pod, "c", "PodInitializing"),
        "{:?}",
        pods::container(&pod, "c")
    );
}

#[test]
fn a_sidecar_starts_before_and_ends_after_the_rest() {
    let test = Test::start("ctr-sidecar");
    test.pod(
        "job",
        r"
nodeName: node-1
restartPolicy: Never
terminationGracePeriodSeconds: 10
volumes: [{name: v, emptyDir: {}}]
initContainers:
  - name: side
    image: busybox:1.36
    restartPolicy: Always
    startupProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1}
    command: [sh, -c, 'trap '' echo side ends; exit 0 '' TERM; sleep 1; touch /v/up; while :; do sleep 0.1; done']
    volumeMounts: [{name: v, mountPath: /v}]
containers:
  - {name: c, image: 'busybox:1.36', command: [sh, -c, 'test -e /v/up && echo side was up; until test -e /v/end; do sleep 0.1; done'], volumeMounts: [{name: v, mountPath: /v}]}
",
    );
    let pod = test.wait_pod("job", "Ready", secs(60), pods::ready);
    assert!(pods::running(&pod, "side") && pods::running(&pod, "c"));
    assert_eq!(
        pods::container(&pod, "side").and_then(|status| status.started),
        Some(true)
    );
    poll(secs(10), "c wrote", || {
        (test.log(&pod, "c") == "side was up").then_some(())
    });
    test.exec(&pod, "c", "touch /v/end");
    let pod = test.wait_pod("job", "Succeeded", secs(40), |pod| {
        pods::phase(pod) == "Succeeded"
    });
    assert_eq!(pods::terminated(&pod, "c").map(|ended| ended.exit_code), Some(0));
    assert_eq!(
        pods::terminated(&pod, "side").map(|ended| ended.exit_code),
        Some(0)
    );
    assert_eq!(test.log(&pod, "side"), "side ends");
}
