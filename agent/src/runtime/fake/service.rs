//! The runtime service of the fake.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use futures::{Stream, stream};
use gantry_cri::v1;
use gantry_cri::v1::runtime_service_server::RuntimeService;
use tonic::{Request, Response, Status};

use super::State;

type Answer<T> = Result<Response<T>, Status>;

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn not_found(id: &str) -> Status {
    Status::not_found(format!("{id}: not found"))
}

fn selected(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Calls that the tests do not need.
macro_rules! not_offered {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        $(
            fn $name<'a, 'b>(
                &'a self,
                _: Request<v1::$request>,
            ) -> Pin<Box<dyn Future<Output = Answer<v1::$response>> + Send + 'b>>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
            }
        )*
    };
}

#[tonic::async_trait]
impl RuntimeService for State {
    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = Result<v1::ContainerEventResponse, Status>> + Send>>;

    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        ok(v1::VersionResponse {
            runtime_name: "fake".to_owned(),
            runtime_version: "v1.2.3".to_owned(),
            ..v1::VersionResponse::default()
        })
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        if self.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let condition = |kind: &str| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status: true,
            ..Default::default()
        };
        let features = v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: false,
        };
        ok(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![condition("RuntimeReady"), condition("NetworkReady")],
            }),
            runtime_handlers: vec![v1::RuntimeHandler {
                name: String::new(),
                features: Some(features),
            }],
            ..v1::StatusResponse::default()
        })
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        let linux = v1::LinuxRuntimeConfiguration {
            cgroup_driver: v1::CgroupDriver::Cgroupfs.into(),
        };
        ok(v1::RuntimeConfigResponse { linux: Some(linux) })
    }

    async fn run_pod_sandbox(
        &self,
        r: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let config = r.into_inner().config.unwrap();
        let id = {
            let mut model = self.model.lock().unwrap();
            model.counter += 1;
            let id = format!("sandbox-{}", model.counter);
            let status = v1::PodSandboxStatus {
                id: id.clone(),
                metadata: config.metadata,
                created_at: model.counter,
                network: Some(v1::PodSandboxNetworkStatus {
                    ip: "10.0.0.7".to_owned(),
                    additional_ips: vec![],
                }),
                labels: config.labels,
                annotations: config.annotations,
                ..v1::PodSandboxStatus::default()
            };
            model.sandboxes.insert(id.clone(), status);
            id
        };
        self.send(&id, v1::ContainerEventType::ContainerStartedEvent);
        ok(v1::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(
        &self,
        r: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = r.into_inner().pod_sandbox_id;
        let running: Vec<String> = {
            let mut model = self.model.lock().unwrap();
            let Some(status) = model.sandboxes.get_mut(&id) else {
                return ok(v1::StopPodSandboxResponse {});
            };
            status.set_state(v1::PodSandboxState::SandboxNotready);
            let of_sandbox = model.containers.iter().filter(|(_, (sandbox, status))| {
                *sandbox == id && status.state() == v1::ContainerState::ContainerRunning
            });
            of_sandbox.map(|(id, _)| id.clone()).collect()
        };
        running.iter().for_each(|id| self.end(id, 137, None));
        self.send(&id, v1::ContainerEventType::ContainerStoppedEvent);
        ok(v1::StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        r: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = r.into_inner().pod_sandbox_id;
        let mut model = self.model.lock().unwrap();
        model.sandboxes.remove(&id).ok_or_else(|| not_found(&id))?;
        model.containers.retain(|_, (sandbox, _)| *sandbox != id);
        ok(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        r: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        self.status_calls.fetch_add(1, Ordering::SeqCst);
        let id = r.into_inner().pod_sandbox_id;
        let status = self
            .model
            .lock()
            .unwrap()
            .sandboxes
            .get(&id)
            .cloned()
            .ok_or_else(|| not_found(&id))?;
        ok(v1::PodSandboxStatusResponse {
            status: Some(status),
            ..Default::default()
        })
    }

    async fn list_pod_sandbox(
        &self,
        r: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let selector = r.into_inner().filter.unwrap_or_default().label_selector;
        let model = self.model.lock().unwrap();
        let matching = model
            .sandboxes
            .values()
            .filter(|s| selected(&s.labels, &selector));
        let items = matching.map(|s| v1::PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            ..v1::PodSandbox::default()
        });
        ok(v1::ListPodSandboxResponse {
            items: items.collect(),
        })
    }

    async fn create_container(
        &self,
        r: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = r.into_inner();
        let config = request.config.unwrap();
        let id = {
            let mut model = self.model.lock().unwrap();
            if !model.sandboxes.contains_key(&request.pod_sandbox_id) {
                return Err(not_found(&request.pod_sandbox_id));
            }
            model.counter += 1;
            let id = format!("container-{}", model.counter);
            let status = v1::ContainerStatus {
                id: id.clone(),
                metadata: config.metadata,
                created_at: model.counter,
                image: config.image,
                labels: config.labels,
                annotations: config.annotations,
                mounts: config.mounts,
                log_path: super::logs::path(request.sandbox_config.as_ref(), &config.log_path),
                ..v1::ContainerStatus::default()
            };
            model
                .containers
                .insert(id.clone(), (request.pod_sandbox_id, status));
            id
        };
        self.send(&id, v1::ContainerEventType::ContainerCreatedEvent);
        ok(v1::CreateContainerResponse { container_id: id })
    }

    async fn start_container(
        &self,
        r: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = r.into_inner().container_id;
        {
            let mut model = self.model.lock().unwrap();
            model.counter += 1;
            let now = model.counter;
            let (_, status) = model.containers.get_mut(&id).ok_or_else(|| not_found(&id))?;
            status.set_state(v1::ContainerState::ContainerRunning);
            status.started_at = now;
        }
        self.send(&id, v1::ContainerEventType::ContainerStartedEvent);
        ok(v1::StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        r: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let id = r.into_inner().container_id;
        if !self.model.lock().unwrap().containers.contains_key(&id) {
            return Err(not_found(&id));
        }
        self.end(&id, 143, None);
        self.send(&id, v1::ContainerEventType::ContainerStoppedEvent);
        ok(v1::StopContainerResponse {})
    }

    async fn list_containers(
        &self,
        r: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let selector = r.into_inner().filter.unwrap_or_default().label_selector;
        let model = self.model.lock().unwrap();
        let matching = model
            .containers
            .values()
            .filter(|(_, c)| selected(&c.labels, &selector));
        let containers = matching.map(|(sandbox, c)| v1::Container {
            id: c.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: c.metadata.clone(),
            state: c.state,
            labels: c.labels.clone(),
            ..v1::Container::default()
        });
        ok(v1::ListContainersResponse {
            containers: containers.collect(),
        })
    }

    async fn container_status(
        &self,
        r: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        self.status_calls.fetch_add(1, Ordering::SeqCst);
        let id = r.into_inner().container_id;
        let model = self.model.lock().unwrap();
        let (_, status) = model.containers.get(&id).ok_or_else(|| not_found(&id))?;
        ok(v1::ContainerStatusResponse {
            status: Some(status.clone()),
            ..Default::default()
        })
    }

    async fn exec_sync(&self, _: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        ok(v1::ExecSyncResponse {
            stdout: b"out".to_vec(),
            stderr: Vec::new(),
            exit_code: 1,
        })
    }

    async fn exec(&self, r: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let r = r.into_inner();
        let streams = (r.stdin, r.stdout, r.stderr, r.tty);
        let url = self.session(format!("exec {} {:?} {streams:?}", r.container_id, r.cmd))?;
        ok(v1::ExecResponse { url })
    }

    async fn attach(&self, r: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let r = r.into_inner();
        let streams = (r.stdin, r.stdout, r.stderr, r.tty);
        let url = self.session(format!("attach {} {streams:?}", r.container_id))?;
        ok(v1::AttachResponse { url })
    }

    async fn port_forward(&self, r: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        let r = r.into_inner();
        let url = self.session(format!("forward {} {:?}", r.pod_sandbox_id, r.port))?;
        ok(v1::PortForwardResponse { url })
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        if self.refuse_events.load(Ordering::SeqCst) {
            return Err(Status::unimplemented("no events"));
        }
        let generation = self.streams.subscribe();
        let state = (self.events.subscribe(), generation);
        let events = stream::unfold(state, |(mut events, mut generation)| async move {
            tokio::select! {
                event = events.recv() => event.ok().map(|event| (Ok(event), (events, generation))),
                _ = generation.changed() => None,
            }
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn reopen_container_log(
        &self,
        r: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        self.reopen_log(&r.into_inner().container_id)?;
        ok(v1::ReopenContainerLogResponse {})
    }

    not_offered! {
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
    }
}
