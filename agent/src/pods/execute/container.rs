//! From a container of the spec to one that runs: its image, its configuration, its start.

use std::{error::Error, sync::Arc, time::Instant};

use gantry_agent_core::{
    env::Variable,
    machine::{Image, ImageUser, Notice, Outcome, Start, StepError},
    pod,
    status::pod_ips,
};
use k8s_openapi::api::core::v1::{Pod, Secret};

use super::{
    Tools, container_of,
    error::{failed, refused},
};
use crate::{
    images::{ImageEvent, ImageRequest},
    metrics::{ContainerKind, Phase},
    pods::{
        spec::{
            self, ContainerConfig, ContainerInput, ImageRef, SpecError, container_config, expand_sub_path,
            files,
        },
        steps::StepResult,
    },
    volumes::{ContainerMount, MountRequest, PodMounts},
};

impl Tools {
    pub(super) async fn ensure_image(&self, pod: &Pod, name: &str) -> StepResult {
        let container = container_of(pod, name).ok_or_else(|| not_in_spec(name))?;
        let secrets = self.pull_secrets(pod).await;
        let request = ImageRequest {
            container: &container,
            secrets: &secrets,
            sandbox: None,
        };
        let notify = |event: ImageEvent| {
            let ImageEvent {
                warning,
                reason,
                message,
            } = event;
            let (container, reason) = (Some(name.to_owned()), reason.to_owned());
            self.tell(
                pod,
                &Notice {
                    container,
                    warning,
                    reason,
                    message,
                },
            );
        };
        let begun = Instant::now();
        match self.images.ensure(request, &notify).await {
            Ok(image) => {
                self.metrics.starts.phase(Phase::Image, begun.elapsed());
                Ok(Outcome::Image(to_core(image)))
            }
            Err(error) => Err(refused(error.reason.as_str(), error.message)),
        }
    }

    /// Those that can be read: a pull may well do without the others.
    async fn pull_secrets(&self, pod: &Pod) -> Vec<Arc<Secret>> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = pod
            .spec
            .iter()
            .flat_map(|s| s.image_pull_secrets.iter().flatten());
        let found = names.map(|secret| self.objects.secret(namespace, &secret.name));
        let found = futures::future::join_all(found).await;
        found.into_iter().filter_map(Result::ok).collect()
    }

    pub(super) async fn start_container(&self, pod: &Pod, start: &Start, mounts: &PodMounts) -> StepResult {
        let containers = pod::containers(pod);
        let kind = containers.iter().find(|c| c.name == start.container);
        let kind = kind.map_or(ContainerKind::Regular, |spec| spec.kind.into());
        self.metrics.pods.container_starts(kind);
        let started = self.make_and_start(pod, start, mounts).await;
        if let Err(error) = &started {
            self.metrics.pods.container_failed(kind, &error.reason);
        }
        started
    }

    async fn make_and_start(&self, pod: &Pod, start: &Start, mounts: &PodMounts) -> StepResult {
        let begun = Instant::now();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let container = container_of(pod, &start.container).ok_or_else(|| not_in_spec(&start.container))?;
        let image = from_core(&start.image);
        let target = self.target_of(pod, &start.container);
        let pod_ips = pod_ips(pod, &start.sandbox.ips, &self.node.host_ips);
        let input = ContainerInput {
            pod,
            container: &container,
            node: &self.node,
            attempt: self.attempt(pod, start),
            image: &image,
            pod_ips: &pod_ips,
            target: target.as_deref(),
            recursive_read_only: self.recursive_read_only(),
        };
        let config = self.container_config(&input, mounts).await?;
        let sandbox = self.sandbox_config(pod, start.sandbox.attempt, false);
        let sandbox = sandbox.map_err(|e| failed(SpecError::REASON, &e))?;
        let created = self
            .runtime
            .create_container(&start.sandbox.id, config, sandbox)
            .await;
        let id = created.map_err(|error| {
            // Perhaps because somebody removed the image: the next attempt asks again.
            self.images.forget(container.image.as_deref().unwrap_or_default());
            refused("CreateContainerError", error.message())
        })?;
        let made = Instant::now();
        let started = self.runtime.start_container(uid, &id).await;
        started.map_err(|e| refused("RunContainerError", e.message()))?;
        if start.attempt == 0 {
            let starts = &self.metrics.starts;
            starts.phase(Phase::Create, made.duration_since(begun));
            starts.phase(Phase::Start, made.elapsed());
        }
        if let Err(error) = files::link_log(&input, &id) {
            tracing::warn!(%error, container = start.container, "cannot link the container's log");
        }
        let running = self.observed(uid).containers.iter().find(|c| c.id == id).cloned();
        let gone = || refused("RunContainerError", format!("container {id} is gone already"));
        Ok(Outcome::Container(Box::new(running.ok_or_else(gone)?)))
    }

    async fn container_config(
        &self,
        input: &ContainerInput<'_>,
        mounts: &PodMounts,
    ) -> Result<ContainerConfig, StepError> {
        let no = |error: &(dyn Error + 'static)| failed(SpecError::REASON, error);
        let environment = self.environment(input).await.map_err(|e| no(&e))?;
        let host_mounts = self.host_mounts(input, mounts, &environment).await?;
        let files = files::prepare(input).map_err(|e| no(&e))?;
        container_config(input, &environment, &host_mounts, &files).map_err(|e| no(&e))
    }

    async fn host_mounts(
        &self,
        input: &ContainerInput<'_>,
        volumes: &PodMounts,
        environment: &[Variable],
    ) -> Result<Vec<ContainerMount>, StepError> {
        let request = MountRequest {
            uid: input.pod.metadata.uid.as_deref().unwrap_or_default(),
            container: &input.container.name,
            mounts: input.container.volume_mounts.as_deref().unwrap_or_default(),
            volumes,
            expand: &|expression| expand_sub_path(expression, environment),
        };
        let mounts = self.volumes.container_mounts(request).await;
        mounts.map_err(|e| failed(SpecError::REASON, &e))
    }

    /// A container that the runtime has forgotten goes on counting where its logs stop.
    fn attempt(&self, pod: &Pod, start: &Start) -> u32 {
        if start.attempt > 0 {
            return start.attempt;
        }
        files::attempt_from_logs(&self.node.pod_logs_dir, pod, &start.container)
    }

    /// The container whose processes an ephemeral one shall see.
    fn target_of(&self, pod: &Pod, name: &str) -> Option<String> {
        let ephemeral = pod
            .spec
            .as_ref()?
            .ephemeral_containers
            .iter()
            .flatten()
            .find(|c| c.name == name)?;
        let target = ephemeral
            .target_container_name
            .as_deref()
            .filter(|t| !t.is_empty())?;
        let uid = pod.metadata.uid.as_deref()?;
        self.observed(uid).container(target).map(|c| c.id.clone())
    }

    fn recursive_read_only(&self) -> bool {
        let state = self.state.borrow();
        let handlers = state.status.iter().flat_map(|status| &status.handlers);
        handlers
            .filter(|h| h.name.is_empty())
            .any(|h| h.recursive_read_only_mounts)
    }
}

fn not_in_spec(name: &str) -> StepError {
    refused(
        SpecError::REASON,
        format!("container {name:?} is not in the pod's spec"),
    )
}

fn to_core(image: ImageRef) -> Image {
    let user = match image.user {
        spec::ImageUser::Uid(uid) => ImageUser::Uid(uid),
        spec::ImageUser::Name(name) => ImageUser::Name(name),
    };
    Image {
        reference: image.id,
        user,
    }
}

fn from_core(image: &Image) -> ImageRef {
    let user = match &image.user {
        ImageUser::Uid(uid) => spec::ImageUser::Uid(*uid),
        ImageUser::Name(name) => spec::ImageUser::Name(name.clone()),
    };
    ImageRef {
        id: image.reference.clone(),
        user,
    }
}
