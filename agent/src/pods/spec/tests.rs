//! Tables of pods and what CRI is told of them.

use std::collections::HashMap;

use gantry_agent_core::dns::parse_resolv_conf;
use gantry_agent_core::env::{Sources, Variable, environment};
use gantry_cri::v1;
use gantry_cri::v1::NamespaceMode;
use gantry_cri::v1::security_profile::ProfileType;
use k8s_openapi::api::core::v1::VolumeMount;

use super::files::HostFiles;
use super::*;
use crate::volumes::ContainerMount;

pub(crate) fn node() -> NodeFacts {
    NodeFacts {
        root_dir: "/var/lib/kubelet".into(),
        pod_logs_dir: "/var/log/pods".into(),
        dns: NodeDns {
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            host: Some(parse_resolv_conf("nameserver 8.8.8.8\n")),
            node_ips: Vec::new(),
        },
        host_ips: vec!["192.168.0.2".parse().unwrap()],
        allocatable: Amounts::new(),
        memory_capacity: 8 << 30,
        cpu_quota: CpuQuota::default(),
        seccomp_default: false,
        kernel: KernelFacts {
            cgroup_v2: true,
            hugepage_sizes: vec!["2MB".into()],
            ..KernelFacts::default()
        },
    }
}

/// A pod of one container; `spec` and `container` are JSON members, each with a comma before it.
pub(crate) fn pod(spec: &str, container: &str) -> Pod {
    let json = format!(
        r#"{{"metadata":{{"name":"web-0","namespace":"ns","uid":"u-1","labels":{{"app":"web"}},"annotations":{{"a":"b"}},"deletionGracePeriodSeconds":5}},
            "spec":{{"enableServiceLinks":true,"dnsPolicy":"ClusterFirst","terminationGracePeriodSeconds":30,
                     "containers":[{{"name":"c","image":"nginx:1"{container}}}]{spec}}}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

fn sandbox(pod: &Pod) -> PodSandboxConfig {
    let node = node();
    let input = SandboxInput {
        pod,
        node: &node,
        attempt: 2,
        cgroup_parent: "/kubepods/podu-1",
    };
    sandbox_config(input).unwrap().0
}

/// With `image` as the image's user.
pub(crate) fn configure_as(
    pod: &Pod,
    node: &NodeFacts,
    user: ImageUser,
) -> Result<ContainerConfig, SpecError> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let image = ImageRef {
        id: "sha256:abc".into(),
        user,
    };
    let ips = ["10.0.0.7".parse().unwrap()];
    let input = ContainerInput {
        pod,
        container,
        node,
        attempt: 3,
        image: &image,
        pod_ips: &ips,
        target: Some("target-id"),
        recursive_read_only: true,
    };
    let sources = Sources {
        services: Some(&[]),
        ..Sources::default()
    };
    let variables = environment(container, input.facts(), &sources)?;
    let mount = |m: &VolumeMount| ContainerMount {
        volume: m.name.clone(),
        host_path: format!("/host/{}", m.name).into(),
        container_path: m.mount_path.clone(),
        read_only: m.name == "ro",
    };
    let mounts: Vec<_> = container.volume_mounts.iter().flatten().map(mount).collect();
    let files = HostFiles {
        etc_hosts: Some("/p/etc-hosts".into()),
        termination_log: Some("/p/log".into()),
    };
    container_config(&input, &variables, &mounts, &files)
}

fn configure(pod: &Pod) -> ContainerConfig {
    configure_as(pod, &node(), ImageUser::Uid(0)).unwrap()
}

pub(crate) fn security(spec: &str, container: &str) -> v1::LinuxContainerSecurityContext {
    configure(&pod(spec, container))
        .linux
        .unwrap()
        .security_context
        .unwrap()
}

pub(crate) fn strings<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

#[test]
fn a_sandbox() {
    let pod = pod(
        r#","subdomain":"db""#,
        r#","ports":[{"containerPort":80},{"containerPort":53,"hostPort":5353,"protocol":"UDP","hostIP":"127.0.0.1"},{"containerPort":80}]"#,
    );
    let config = sandbox(&pod);
    let metadata = config.metadata.unwrap();
    assert_eq!(
        (metadata.name.as_str(), metadata.uid.as_str(), metadata.attempt),
        ("web-0", "u-1", 2)
    );
    assert_eq!(config.hostname, "web-0");
    assert_eq!(config.log_directory, "/var/log/pods/ns_web-0_u-1");
    assert_eq!(
        config.labels,
        strings([
            ("app", "web"),
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.namespace", "ns"),
            ("io.kubernetes.pod.uid", "u-1")
        ])
    );
    assert_eq!(config.annotations, strings([("a", "b")]));
    let ports: Vec<_> = config
        .port_mappings
        .iter()
        .map(|p| (p.protocol().as_str_name(), p.container_port, p.host_port))
        .collect();
    assert_eq!(ports, [("TCP", 80, 0), ("UDP", 53, 5353)]);
    assert_eq!(config.dns_config.unwrap().servers, ["10.96.0.10"]);
    let linux = config.linux.unwrap();
    assert_eq!(linux.cgroup_parent, "/kubepods/podu-1");
    let context = linux.security_context.unwrap();
    assert_eq!(
        context.seccomp.unwrap().profile_type(),
        ProfileType::RuntimeDefault
    );
    let namespaces = context.namespace_options.unwrap();
    assert_eq!(
        (namespaces.network(), namespaces.pid(), namespaces.ipc()),
        (NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Pod)
    );
}

#[test]
fn a_sandbox_on_the_nodes_network_with_a_context() {
    let pod = pod(
        r#","hostNetwork":true,"hostPID":true,"overhead":{"cpu":"100m","memory":"1Mi"},"securityContext":{"runAsUser":1,"runAsGroup":2,
           "fsGroup":3,"supplementalGroups":[4],"sysctls":[{"name":"net/ipv4/conf/eth0.1/x","value":"1"},{"name":"kernel.shm_rmid_forced","value":"1"}]}"#,
        r#","securityContext":{"privileged":true},"resources":{"limits":{"cpu":"1","memory":"1Gi"}}"#,
    );
    let config = sandbox(&pod);
    assert_eq!(config.hostname, "");
    let linux = config.linux.unwrap();
    assert_eq!(
        linux.sysctls,
        strings([("net.ipv4.conf.eth0/1.x", "1"), ("kernel.shm_rmid_forced", "1")])
    );
    assert_eq!(linux.overhead.unwrap().cpu_shares, 102);
    assert_eq!(linux.resources.unwrap().memory_limit_in_bytes, 1 << 30);
    let context = linux.security_context.unwrap();
    assert!(context.privileged);
    assert_eq!(context.supplemental_groups, [3, 4]);
    assert_eq!(
        (
            context.run_as_user.unwrap().value,
            context.run_as_group.unwrap().value
        ),
        (1, 2)
    );
    let namespaces = context.namespace_options.unwrap();
    assert_eq!(
        (namespaces.network(), namespaces.pid()),
        (NamespaceMode::Node, NamespaceMode::Node)
    );
}

const CONTAINER: &str = r#","command":["sh","$(NAME)"],"args":["$(NAME) $$(NAME) $(NONE)"],"env":[{"name":"NAME","value":"v"}],"workingDir":"/w","tty":true,
           "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","ports":[{"containerPort":80}],
           "lifecycle":{"preStop":{"exec":{"command":["true"]}}},
           "volumeMounts":[{"name":"rw","mountPath":"data","mountPropagation":"HostToContainer"},{"name":"ro","mountPath":"/ro"}]"#;

#[test]
fn a_container() {
    let config = configure(&pod("", CONTAINER));
    let metadata = config.metadata.unwrap();
    assert_eq!(
        (metadata.name.as_str(), metadata.attempt, config.log_path.as_str()),
        ("c", 3, "c/3.log")
    );
    let image = config.image.unwrap();
    assert_eq!(
        (image.image.as_str(), image.user_specified_image.as_str()),
        ("sha256:abc", "nginx:1")
    );
    assert_eq!(
        (config.command, config.args),
        (vec!["sh".into(), "v".into()], vec!["v $(NAME) $(NONE)".into()])
    );
    assert_eq!(
        (config.working_dir.as_str(), config.tty, config.stdin),
        ("/w", true, false)
    );
    let envs: Vec<_> = config
        .envs
        .iter()
        .map(|e| (e.key.as_str(), e.value.as_slice()))
        .collect();
    assert_eq!(envs, [("NAME", b"v".as_slice())]);
}

#[test]
fn a_container_carries_what_a_restarted_agent_must_know() {
    let config = configure(&pod("", CONTAINER));
    assert_eq!(config.labels["io.kubernetes.container.name"], "c");
    assert_eq!(
        config.annotations,
        strings([
            (
                "io.kubernetes.container.hash",
                &gantry_agent_core::hash::container_hash("c", "nginx:1")
            ),
            ("io.kubernetes.container.restartCount", "3"),
            (
                "io.kubernetes.container.terminationMessagePath",
                "/dev/termination-log"
            ),
            ("io.kubernetes.container.terminationMessagePolicy", "File"),
            (
                "io.kubernetes.container.preStopHandler",
                r#"{"exec":{"command":["true"]}}"#
            ),
            ("io.kubernetes.container.ports", r#"[{"containerPort":80}]"#),
            ("io.kubernetes.pod.deletionGracePeriod", "5"),
            ("io.kubernetes.pod.terminationGracePeriod", "30"),
        ])
    );
}

#[test]
fn a_containers_mounts() {
    let config = configure(&pod("", CONTAINER));
    let mounts: Vec<_> = config
        .mounts
        .iter()
        .map(|m| {
            (
                m.host_path.as_str(),
                m.container_path.as_str(),
                m.readonly,
                m.propagation(),
            )
        })
        .collect();
    let (private, slave) = (
        v1::MountPropagation::PropagationPrivate,
        v1::MountPropagation::PropagationHostToContainer,
    );
    assert_eq!(
        mounts,
        [
            ("/host/rw", "/data", false, slave),
            ("/host/ro", "/ro", true, private),
            ("/p/etc-hosts", "/etc/hosts", false, private),
            ("/p/log", "/dev/termination-log", false, private),
        ]
    );
}

#[test]
fn a_container_may_bring_its_own_hosts_file() {
    let config = configure(&pod(
        "",
        r#","volumeMounts":[{"name":"h","mountPath":"/etc/hosts"}]"#,
    ));
    assert_eq!(
        config
            .mounts
            .iter()
            .map(|m| m.host_path.as_str())
            .collect::<Vec<_>>(),
        ["/host/h"]
    );
}

#[test]
fn recursive_read_only() {
    let mount = |extra: &str| {
        let pod = pod(
            "",
            &format!(r#","volumeMounts":[{{"name":"v","mountPath":"/v"{extra}}}]"#),
        );
        let config = configure_as(&pod, &node(), ImageUser::Uid(0));
        config
            .map(|c| c.mounts[0].recursive_read_only)
            .map_err(|e| e.to_string())
    };
    assert_eq!(mount(""), Ok(false));
    assert_eq!(
        mount(r#","readOnly":true,"recursiveReadOnly":"Enabled""#),
        Ok(true)
    );
    assert_eq!(
        mount(r#","recursiveReadOnly":"Enabled""#).unwrap_err(),
        "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not read-only"
    );
}

#[test]
fn sub_path_expressions() {
    let variable = |name: &str, value: &str| Variable {
        name: name.into(),
        value: value.as_bytes().to_vec(),
    };
    let env = [variable("A", "1"), variable("E", "")];
    assert_eq!(expand_sub_path("x/$(A)", &env), Ok("x/1".to_owned()));
    assert_eq!(
        expand_sub_path("$(Z)/$(E)/$(Z)", &env),
        Err("missing value for E, Z".to_owned())
    );
}

#[test]
fn an_ephemeral_container_is_one_like_others() {
    let json = r#"{"name":"debug","image":"busybox","stdin":true,"tty":true,"targetContainerName":"c","command":["sh"]}"#;
    let container = as_container(&serde_json::from_str(json).unwrap());
    assert_eq!(
        (container.name.as_str(), container.image.as_deref(), container.tty),
        ("debug", Some("busybox"), Some(true))
    );
}
