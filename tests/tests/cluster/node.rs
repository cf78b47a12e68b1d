//! A node: how it enters the cluster and what it says of itself.

use gantry_tests::cluster::{Machine, Test, secs};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::Api;

fn condition(node: &Node, kind: &str) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

fn status_of(node: &Node) -> NodeStatus {
    node.status.clone().expect("a node has a status")
}

#[test]
fn nodes_are_ready_and_have_no_taints() {
    let test = Test::start("node-ready");
    for name in test.cluster.node_names() {
        let node = test.wait_node(&name, "Ready", secs(60), |node| {
            condition(node, "Ready") == Some(("True".into(), "KubeletReady".into()))
        });
        for (kind, reason) in [
            ("MemoryPressure", "KubeletHasSufficientMemory"),
            ("DiskPressure", "KubeletHasNoDiskPressure"),
            ("PIDPressure", "KubeletHasSufficientPID"),
        ] {
            assert_eq!(
                condition(&node, kind),
                Some(("False".into(), reason.into())),
                "{kind} of {name}"
            );
        }
        let spec = node.spec.expect("a node has a spec");
        assert_eq!(spec.taints, None, "taints of {name}");
        assert!(spec.pod_cidr.is_some(), "{name} has a pod range");
    }
}

#[test]
fn a_node_says_what_machine_it_is() {
    let test = Test::start("node-info");
    for name in test.cluster.node_names() {
        let machine = Machine::named(&name);
        let info = status_of(&test.node(&name)).node_info.expect("nodeInfo");
        assert_eq!(info.machine_id, machine.run(&["cat", "/etc/machine-id"]).trim());
        assert_eq!(
            info.boot_id,
            machine.run(&["cat", "/proc/sys/kernel/random/boot_id"]).trim()
        );
        assert_eq!(info.kernel_version, machine.run(&["uname", "-r"]).trim());
        let os = machine.sh(". /etc/os-release; echo $PRETTY_NAME");
        assert_eq!(info.os_image, os.trim());
        let containerd = machine.sh("containerd --version | cut -d' ' -f3 | sed s/^v//");
        assert_eq!(
            info.container_runtime_version,
            format!("containerd://{}", containerd.trim())
        );
        assert_eq!(info.operating_system, "linux");
        assert_eq!(
            info.architecture,
            if cfg!(target_arch = "x86_64") {
                "amd64"
            } else {
                "arm64"
            }
        );
        assert!(
            info.kubelet_version.starts_with("v1.36."),
            "{}",
            info.kubelet_version
        );
        assert!(!info.system_uuid.is_empty());
    }
}

#[test]
fn a_node_has_its_addresses_labels_and_port() {
    let test = Test::start("node-addresses");
    for name in test.cluster.node_names() {
        let node = test.node(&name);
        let status = status_of(&node);
        let global = "ip -o address show dev eth0 scope global | awk '{print $4}' | cut -d/ -f1";
        let own = Machine::named(&name).sh(global);
        let addresses: Vec<_> = status.addresses.unwrap_or_default();
        let pairs: Vec<_> = addresses
            .iter()
            .map(|a| (a.type_.as_str(), a.address.as_str()))
            .collect();
        let mut own: Vec<_> = own.lines().collect();
        let ipv6_first = test.cluster.primary(false, true);
        own.sort_by_key(|address| address.contains(':') != ipv6_first);
        let internal = own.into_iter().map(|address| ("InternalIP", address));
        let expected: Vec<_> = internal.chain([("Hostname", name.as_str())]).collect();
        assert_eq!(pairs, expected);
        let port = status
            .daemon_endpoints
            .and_then(|e| e.kubelet_endpoint)
            .map(|e| e.port);
        assert_eq!(port, Some(10250));
        let labels = node.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get("kubernetes.io/hostname"), Some(&name));
        assert_eq!(labels.get("kubernetes.io/os").map(String::as_str), Some("linux"));
        assert!(labels.contains_key("kubernetes.io/arch"));
        let annotations = node.metadata.annotations.unwrap_or_default();
        let attach = annotations.get("volumes.kubernetes.io/controller-managed-attach-detach");
        assert_eq!(attach.map(String::as_str), Some("true"));
    }
}

#[test]
fn a_node_says_what_it_can_carry() {
    let test = Test::start("node-capacity");
    let name = &test.cluster.node_names()[0];
    let status = status_of(&test.node(name));
    let machine = Machine::named(name);
    let (capacity, allocatable) = (
        status.capacity.unwrap_or_default(),
        status.allocatable.unwrap_or_default(),
    );
    let cpus = machine.run(&["nproc"]);
    assert_eq!(capacity.get("cpu").map(|q| q.0.as_str()), Some(cpus.trim()));
    let memory = machine.sh("awk '/^MemTotal/ {print $2}' /proc/meminfo");
    assert_eq!(
        capacity.get("memory").map(|q| q.0.clone()),
        Some(format!("{}Ki", memory.trim()))
    );
    assert_eq!(capacity.get("pods").map(|q| q.0.as_str()), Some("110"));
    for resource in ["cpu", "memory", "pods", "ephemeral-storage"] {
        assert!(
            capacity.contains_key(resource),
            "capacity of {resource}: {capacity:?}"
        );
        assert!(
            allocatable.contains_key(resource),
            "allocatable {resource}: {allocatable:?}"
        );
    }
    let images = status.images.unwrap_or_default();
    let names: Vec<_> = images
        .into_iter()
        .flat_map(|image| image.names.unwrap_or_default())
        .collect();
    assert!(
        names.iter().any(|name| name == "docker.io/library/busybox:1.36"),
        "{names:?}"
    );
}

#[test]
fn a_node_renews_its_lease() {
    let test = Test::start("node-lease");
    let leases: Api<Lease> = Api::namespaced(test.cluster.client(), "kube-node-lease");
    for name in test.cluster.node_names() {
        let get = || {
            test.cluster
                .request(leases.get(&name))
                .expect("the node has a lease")
        };
        let first = get();
        let owners = first.metadata.owner_references.clone().unwrap_or_default();
        assert_eq!(owners.len(), 1);
        assert_eq!(owners[0].uid, test.node(&name).metadata.uid.unwrap_or_default());
        let spec = first.spec.expect("a lease has a spec");
        assert_eq!(spec.holder_identity.as_deref(), Some(name.as_str()));
        assert_eq!(spec.lease_duration_seconds, Some(40));
        gantry_tests::cluster::poll(secs(20), "the lease is renewed", || {
            (get().spec?.renew_time > spec.renew_time).then_some(())
        });
    }
}

#[test]
fn a_node_was_joined_by_kubeadm() {
    let test = Test::start("node-join");
    for name in test.cluster.node_names() {
        let machine = Machine::named(&name);
        let kubeconfig = machine.run(&["cat", "/etc/kubernetes/kubelet.conf"]);
        let current = "/var/lib/kubelet/pki/kubelet-client-current.pem";
        assert!(
            kubeconfig.contains(&format!("client-certificate: {current}")),
            "{kubeconfig}"
        );
        assert!(!machine.path("/etc/kubernetes/bootstrap-kubelet.conf").exists());
        let link = machine.run(&["readlink", current]);
        assert!(link.contains("kubelet-client-2"), "{link}");
        let mode = machine.sh(&format!("stat -c %a $(readlink -f {current})"));
        assert_eq!(mode.trim(), "600");
        let subject = subject_of(&machine, current);
        assert!(subject.contains("O=system:nodes"), "{subject}");
        assert!(subject.contains(&format!("CN=system:node:{name}")), "{subject}");
    }
}

/// The subject of a certificate on a machine, by the host's openssl.
fn subject_of(machine: &Machine, path: &str) -> String {
    let target = machine.run(&["readlink", "-f", path]);
    let output = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in"])
        .arg(machine.path(target.trim()))
        .output()
        .expect("openssl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_agent_is_healthy_on_its_port() {
    let test = Test::start("node-healthz");
    for name in test.cluster.node_names() {
        let answer = Machine::named(&name).run(&["curl", "-sf", "http://127.0.0.1:10248/healthz"]);
        assert_eq!(answer, "ok");
    }
}
