//! The floor: the node's containerd is asked directly for what a kubelet asks it for these pods, and nothing else is done.
//! No agent can be faster.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use gantry_cri::v1::{self, runtime_service_client::RuntimeServiceClient};
use gantry_tests::cluster::Machine;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::figures::{Figures, percentile};

/// Pods in work at the same time, as the agent has.
const AT_ONCE: usize = 4;
const SOCKET: &str = "/run/containerd/containerd.sock";
/// What stands for a pod's token, its hosts file and its termination log.
const FILES: &str = "/var/lib/floor";

/// The floor of `count` pods on a node whose agent is stopped.
pub(super) fn measure(machine: &Machine, count: usize, figures: &mut Figures) {
    machine.sh(&format!(
        "mkdir -p {FILES}/token; touch {FILES}/hosts {FILES}/log"
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an async runtime");
    let socket = machine.path(SOCKET);
    let (mut started, removed) = runtime.block_on(async {
        let connector = tower::service_fn(move |_| {
            let path = socket.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://containerd");
        let channel = endpoint.connect_with_connector(connector).await;
        start_and_remove(
            &RuntimeServiceClient::new(channel.expect("containerd answers")),
            count,
        )
        .await
    });
    let name = |what| format!("{count} pods by containerd alone: {what}");
    figures.add_time(&name("all started"), percentile(&mut started, 1.0), "");
    figures.add_time(&name("median started"), percentile(&mut started, 0.5), "");
    figures.add_time(&name("all stopped and removed"), removed, "");
}

/// When each had started, and how long the removal of all of them took.
async fn start_and_remove(client: &RuntimeServiceClient<Channel>, count: usize) -> (Vec<Duration>, Duration) {
    let begun = Instant::now();
    let started = stream::iter(0..count).map(|number| async move {
        let sandbox = start(client.clone(), number).await;
        (begun.elapsed(), sandbox)
    });
    let started: Vec<_> = started.buffer_unordered(AT_ONCE).collect().await;
    let (times, sandboxes): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let begun = Instant::now();
    let removed = stream::iter(sandboxes).map(|sandbox| remove(client.clone(), sandbox));
    removed.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    (times, begun.elapsed())
}

async fn start(mut client: RuntimeServiceClient<Channel>, number: usize) -> (String, String) {
    let config = sandbox(number);
    let made = client.run_pod_sandbox(v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: String::new(),
    });
    let sandbox = made.await.expect("a sandbox is made").into_inner().pod_sandbox_id;
    let made = client.create_container(v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container()),
        sandbox_config: Some(config),
    });
    let container_id = made.await.expect("a container is made").into_inner().container_id;
    let request = v1::StartContainerRequest {
        container_id: container_id.clone(),
    };
    client.start_container(request).await.expect("it starts");
    (sandbox, container_id)
}

async fn remove(mut client: RuntimeServiceClient<Channel>, (sandbox, container_id): (String, String)) {
    let request = v1::StopContainerRequest {
        container_id,
        timeout: 1,
    };
    client.stop_container(request).await.expect("it stops");
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    client.stop_pod_sandbox(request).await.expect("the sandbox stops");
    let request = v1::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox,
    };
    client
        .remove_pod_sandbox(request)
        .await
        .expect("the sandbox goes");
}

fn namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption {
        pid: v1::NamespaceMode::Container.into(),
        ..v1::NamespaceOption::default()
    }
}

fn sandbox(number: usize) -> v1::PodSandboxConfig {
    let name = format!("floor-{number}");
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.clone(),
            uid: name.clone(),
            namespace: "floor".into(),
            attempt: 0,
        }),
        log_directory: format!("/var/log/pods/floor_{name}_{name}"),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("/kubepods/besteffort/pod{name}"),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces()),
                seccomp: Some(v1::SecurityProfile::default()),
                ..v1::LinuxSandboxSecurityContext::default()
            }),
            ..v1::LinuxPodSandboxConfig::default()
        }),
        hostname: name,
        ..v1::PodSandboxConfig::default()
    }
}

fn container() -> v1::ContainerConfig {
    let mount = |file: &str, container_path: &str| v1::Mount {
        host_path: format!("{FILES}/{file}"),
        container_path: container_path.into(),
        ..v1::Mount::default()
    };
    let paths = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "c".into(),
            attempt: 0,
        }),
        image: Some(v1::ImageSpec {
            image: super::IMAGE.into(),
            ..v1::ImageSpec::default()
        }),
        mounts: vec![
            mount("token", "/var/run/secrets/kubernetes.io/serviceaccount"),
            mount("hosts", "/etc/hosts"),
            mount("log", "/dev/termination-log"),
        ],
        log_path: "c/0.log".into(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                cpu_shares: 2,
                oom_score_adj: 1000,
                ..v1::LinuxContainerResources::default()
            }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces()),
                masked_paths: paths(&[
                    "/proc/acpi",
                    "/proc/interrupts",
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/timer_list",
                    "/proc/scsi",
                    "/sys/firmware",
                    "/sys/devices/virtual/powercap",
                ]),
                readonly_paths: paths(&[
                    "/proc/bus",
                    "/proc/fs",
                    "/proc/irq",
                    "/proc/sys",
                    "/proc/sysrq-trigger",
                ]),
                ..v1::LinuxContainerSecurityContext::default()
            }),
        }),
        ..v1::ContainerConfig::default()
    }
}
