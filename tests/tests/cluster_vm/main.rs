//! A node as users have it: cgroup v2, the systemd cgroup driver and Debian's own kernel, in the virtual machine that
//! `hack/vm up` added to the cluster. It is emulated, so the deadlines are long and nothing is timed.

use std::{path::Path, process::Command, time::Duration};

use gantry_tests::cluster::{Test, pods, poll};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

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
