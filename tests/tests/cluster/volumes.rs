//! What pods mount: configMaps, secrets, tokens, facts about themselves, scratch space.

use gantry_tests::cluster::{Test, pods, poll, secs};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

/// A pod that runs `script` in busybox with `more` in its spec and `container` in its container.
fn script(test: &Test, name: &str, script: &str, container: &str, more: &str) {
    let script = serde_json::to_string(script).expect("a string");
    test.pod(
        name,
        &format!(
            "{{nodeName: node-1, restartPolicy: Never, {more} containers: \
             [{{name: c, image: 'busybox:1.36', command: [sh, -c, {script}], {container}}}]}}"
        ),
    );
}

#[test]
fn a_config_map_is_files_with_modes_and_paths() {
    let test = Test::start("vol-configmap");
    test.create::<ConfigMap>("{metadata: {name: map}, data: {a: one, b: two}, binaryData: {bin: AAEC}}");
    script(
        &test,
        "reader",
        "cd /all; cat a b; echo; od -An -tx1 bin; stat -Lc %a a; readlink a; ls; cd /some; cat deep/er; echo; stat -Lc %a deep/er; ls",
        "volumeMounts: [{name: all, mountPath: /all}, {name: some, mountPath: /some}]",
        "volumes: [{name: all, configMap: {name: map}}, \
         {name: some, configMap: {name: map, items: [{key: b, path: deep/er, mode: 256}]}}],",
    );
    let said = test.output_of("reader");
    let lines: Vec<_> = said.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "onetwo", "00 01 02", "644", "..data/a", "a", "b", "bin", "two", "400", "deep"
        ]
    );
}

#[test]
fn a_secret_is_on_tmpfs_and_readable_by_the_group() {
    let test = Test::start("vol-secret");
    test.create::<Secret>("{metadata: {name: secret}, stringData: {key: hush}}");
    script(
        &test,
        "reader",
        "cat /s/key; echo; stat -Lc '%a %g' /s/key; awk '$2 == \"/s\" {print $3}' /proc/mounts; id -u",
        "volumeMounts: [{name: s, mountPath: /s, readOnly: true}]",
        "securityContext: {runAsUser: 1000, fsGroup: 1001}, volumes: [{name: s, secret: {secretName: secret, defaultMode: 288}}],",
    );
    assert_eq!(test.output_of("reader"), "hush\n440 1001\ntmpfs\n1000");
}

#[test]
fn a_projected_volume_merges_its_sources() {
    let test = Test::start("vol-projected");
    test.create::<ConfigMap>("{metadata: {name: map}, data: {a: one}}");
    test.create::<Secret>("{metadata: {name: secret}, stringData: {key: hush}}");
    script(
        &test,
        "reader",
        "cd /p; ls; cat a s/key name; echo; stat -Lc %a a",
        "volumeMounts: [{name: p, mountPath: /p}]",
        "volumes: [{name: p, projected: {defaultMode: 384, sources: [\
           {configMap: {name: map}}, {secret: {name: secret, items: [{key: key, path: s/key}]}},\
           {secret: {name: missing, optional: true}},\
           {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}],",
    );
    assert_eq!(test.output_of("reader"), "a\nname\ns\nonehushreader\n600");
}

#[test]
fn the_downward_api_tells_a_pod_about_itself() {
    let test = Test::start("vol-downward");
    test.create::<Pod>(
        r#"
metadata: {name: self, labels: {b: '2', a: '1'}, annotations: {quote: 'say "hi"'}}
spec:
  nodeName: node-1
  restartPolicy: Never
  volumes:
    - name: d
      downwardAPI:
        items:
          - {path: labels, fieldRef: {fieldPath: metadata.labels}}
          - {path: annotations, fieldRef: {fieldPath: metadata.annotations}}
          - {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}
          - {path: memory, resourceFieldRef: {containerName: c, resource: requests.memory, divisor: 1Mi}}
  containers:
    - name: c
      image: busybox:1.36
      resources: {limits: {cpu: 250m, memory: 64Mi}, requests: {memory: 32Mi}}
      command: [sh, -c, 'cd /d; cat labels; echo; cat annotations; echo; cat cpu; echo; cat memory']
      volumeMounts: [{name: d, mountPath: /d}]
"#,
    );
    let said = test.output_of("self");
    // The reference shows annotations of its own, too.
    let said: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with("kubernetes.io/config."))
        .collect();
    assert_eq!(
        said,
        ["a=\"1\"", "b=\"2\"", "quote=\"say \\\"hi\\\"\"", "250", "32"]
    );
}

#[test]
fn the_service_account_token_is_the_pods() {
    let test = Test::start("vol-token");
    script(
        &test,
        "reader",
        "cd /var/run/secrets/kubernetes.io/serviceaccount; ls; cat namespace; echo; head -1 ca.crt; cat token; echo; sleep 1000",
        "",
        "",
    );
    let pod = test.wait_pod("reader", "runs", secs(60), |pod| pods::running(pod, "c"));
    let said = poll(secs(10), "all is written", || {
        let said = test.log(&pod, "c");
        (said.lines().count() == 6).then_some(said)
    });
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..5],
        [
            "ca.crt",
            "namespace",
            "token",
            test.namespace(),
            "-----BEGIN CERTIFICATE-----"
        ]
    );
    let review: TokenReview =
        serde_json::from_value(serde_json::json!({"spec": {"token": lines[5]}})).expect("a review");
    let reviews: Api<TokenReview> = Api::all(test.cluster.client());
    let review = test
        .cluster
        .request(reviews.create(&PostParams::default(), &review))
        .expect("a review");
    let status = review.status.expect("a review has a status");
    assert_eq!(status.authenticated, Some(true), "{status:?}");
    let user = status.user.unwrap_or_default();
    assert_eq!(
        user.username,
        Some(format!("system:serviceaccount:{}:default", test.namespace()))
    );
    let extra = user.extra.unwrap_or_default();
    let fact = |name: &str| {
        extra
            .get(&format!("authentication.kubernetes.io/{name}"))
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(fact("pod-name"), ["reader"]);
    assert_eq!(fact("pod-uid"), [pod.uid().unwrap_or_default()]);
    assert_eq!(fact("node-name"), ["node-1"]);
}

#[test]
fn an_empty_dir_is_shared_and_outlives_a_restart() {
    let test = Test::start("vol-emptydir");
    test.pod(
        "shared",
        r#"
nodeName: node-1
volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
containers:
  - name: c
    image: busybox:1.36
    securityContext: {runAsUser: 1001}
    command: [sh, -c, 'echo x >> /disk/count; stat -c %a /disk; awk "\$2 == \"/memory\" {print \$3}" /proc/mounts; test $(wc -l < /disk/count) = 2 || exit 1; sleep 1000']
    volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]
  - name: reader
    image: busybox:1.36
    command: [sleep, '1000']
    volumeMounts: [{name: disk, mountPath: /disk}]
"#,
    );
    let pod = test.wait_pod("shared", "c restarted once", secs(60), |pod| {
        pods::restarts(pod, "c") == 1 && pods::running(pod, "c")
    });
    // It runs before it has written.
    poll(secs(30), "the same directory twice", || {
        (test.log(&pod, "c") == "777\ntmpfs\n777\ntmpfs").then_some(())
    });
    assert_eq!(test.exec(&pod, "reader", "cat /disk/count"), "x\nx");
}

#[test]
fn a_changed_config_map_reaches_running_pods() {
    let test = Test::start("vol-update");
    test.create::<ConfigMap>("{metadata: {name: map}, data: {a: one}}");
    script(
        &test,
        "reader",
        "sleep 1000",
        "volumeMounts: [{name: m, mountPath: /m}, {name: m, mountPath: /single, subPath: a}]",
        "volumes: [{name: m, configMap: {name: map}}],",
    );
    let pod = test.wait_ready("reader");
    assert_eq!(test.exec(&pod, "c", "cat /m/a /single"), "oneone");
    test.patch::<ConfigMap>("map", "{data: {a: null, b: two}}");
    poll(secs(150), "the new content", || {
        (test.exec(&pod, "c", "cat /m/* /single") == "twoone").then_some(())
    });
    assert_eq!(test.exec(&pod, "c", "ls /m"), "b");
}

#[test]
fn a_host_path_is_the_nodes_and_must_be_what_it_says() {
    let test = Test::start("vol-hostpath");
    script(
        &test,
        "reader",
        "cat /h/machine-id",
        "volumeMounts: [{name: h, mountPath: /h}]",
        "volumes: [{name: h, hostPath: {path: /etc, type: Directory}}],",
    );
    let machine = gantry_tests::cluster::Machine::named("node-1");
    assert_eq!(
        test.output_of("reader"),
        machine.run(&["cat", "/etc/machine-id"]).trim()
    );
    script(
        &test,
        "wrong",
        "true",
        "volumeMounts: [{name: h, mountPath: /h}]",
        "volumes: [{name: h, hostPath: {path: /etc/machine-id, type: Directory}}],",
    );
    test.wait_event("wrong", "FailedMount", "hostPath type check failed", secs(30));
}
