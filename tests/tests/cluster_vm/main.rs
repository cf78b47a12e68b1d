//! A node as users have it: cgroup v2, the systemd cgroup driver and Debian's own kernel, in the virtual machine that
//! `hack/vm up` added to the cluster. It is emulated, so the deadlines are long and nothing is timed.

use std::{path::Path, process::Command, time::Duration};

use gantry_tests::cluster::{Test, pods, poll, wait::poll_ok};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use serde_json::Value;

/// Emulated code runs about ten times slower.
const SLOW: Duration = Duration::from_secs(240);

/// The output of a shell script on the virtual machine.
fn vm(script: &str) -> String {
    let vm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/vm");
    let output = Command::new(vm)
        .args(["run", "sh", "-c", script])
        .output()
        .expect("hack/vm can be run");
    assert!(
        output.status.success(),
        "hack/vm run '{script}': {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_pod_with_limits_runs_on_cgroup_v2_with_the_systemd_driver() {
    assert_eq!(vm("stat -fc %T /sys/fs/cgroup"), "cgroup2fs");
    assert!(
        vm("cat /var/lib/kubelet/config.yaml").contains("cgroupDriver: systemd"),
        "the driver that kubeadm wrote"
    );

    let test = Test::start("vm-limits");
    test.pod(
        "limited",
        "{nodeName: vm, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000'], \
         resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}}]}",
    );
    let pod = test.wait_pod("limited", "ready", SLOW, pods::ready);

    let unit = format!(
        "kubepods-burstable-pod{}.slice",
        pod.uid().unwrap_or_default().replace('-', "_")
    );
    let slice = format!("/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/{unit}");
    assert_eq!(vm(&format!("cat {slice}/memory.max")), "67108864");
    assert_eq!(vm(&format!("cat {slice}/cpu.max")), "50000 100000");
    assert_eq!(vm(&format!("systemctl is-active {unit}")), "active");
    let id = pods::container_id(&pod, "c").unwrap_or_default();
    let scope = format!("{slice}/cri-containerd-{id}.scope");
    assert_eq!(vm(&format!("cat {scope}/memory.max")), "67108864");
    assert_eq!(vm(&format!("cat {scope}/cpu.max")), "50000 100000");

    test.delete::<Pod>("limited", Some(1));
    test.wait_gone::<Pod>("limited", SLOW);
    poll(SLOW, "the pod's slice is gone", || {
        vm(&format!("test -e {slice} && echo there || echo gone"))
            .eq("gone")
            .then_some(())
    });
}

#[test]
fn a_pod_on_the_virtual_machine_is_reached_through_its_service() {
    let test = Test::start("vm-service");
    test.create::<Service>(
        "{metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}",
    );
    test.create::<Pod>(
        "{metadata: {name: web, labels: {app: web}}, spec: {nodeName: vm, terminationGracePeriodSeconds: 1, \
         containers: [{name: c, image: 'hello:1', readinessProbe: {periodSeconds: 1, httpGet: {path: /healthz, port: 8080}}}]}}",
    );
    test.wait_pod("web", "ready", SLOW, pods::ready);
    let service: Service = test.get("web");
    let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let answer = poll(SLOW, "the service answers on the virtual machine", || {
        let answer = vm(&format!("curl -s -m 10 http://{address}/ || true"));
        (!answer.is_empty()).then_some(answer)
    });
    assert_eq!(answer, "web");
}

#[test]
fn what_a_pod_uses_is_read_from_cgroup_v2() {
    let test = Test::start("vm-stats");
    test.pod(
        "holds",
        "{nodeName: vm, containers: [{name: c, image: 'busybox:1.36', resources: {limits: {memory: 256Mi}}, command: [sh, -c, \
         'held=$(head -c 40000000 /dev/zero | tr \"\\0\" x); echo held; sleep 100000; echo $held']}]}",
    );
    test.wait_pod("holds", "ready", SLOW, pods::ready);
    poll(SLOW, "kubectl logs shows that it holds its memory", || {
        test.try_kubectl(&["logs", "holds"])
            .out
            .contains("held")
            .then_some(())
    });
    assert_eq!(
        test.kubectl(&["exec", "holds", "--", "echo", "inside"]),
        "inside\n"
    );
    let page = |path: &str| test.try_kubectl(&["get", "--raw", &format!("/api/v1/nodes/vm/proxy{path}")]);
    poll_ok(SLOW, "/stats/summary tells what the container uses", || {
        let output = page("/stats/summary");
        let summary: Value =
            serde_json::from_str(&output.out).map_err(|error| format!("{error}: {output:?}"))?;
        let named = |list: &Value, name: &str| {
            let mut all = list.as_array().into_iter().flatten();
            let is_it = |of: &&Value| of["name"] == name || of["podRef"]["name"] == name;
            all.find(is_it).cloned().unwrap_or_default()
        };
        let container = named(&named(&summary["pods"], "holds")["containers"], "c");
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let memory = &container["memory"];
        let (used, working) = (number(&memory["usageBytes"]), number(&memory["workingSetBytes"]));
        let holds = (38_000_000..=256 << 20).contains(&used) && working <= used && working >= 38_000_000;
        let runs = number(&container["cpu"]["usageCoreNanoSeconds"]) > 0;
        if holds && runs {
            Ok(())
        } else {
            Err(container.to_string())
        }
    });
    let metrics = page("/metrics/cadvisor").out;
    let limit = metrics.lines().find(|line| {
        line.starts_with("container_spec_memory_limit_bytes{container=\"c\"") && line.contains("holds")
    });
    let bytes = limit.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert_eq!(bytes, Some(f64::from(256 << 20)), "{limit:?}");
}
