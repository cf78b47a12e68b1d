//! Asking the runtime what it has: everything (the slow repair), one pod, one sandbox.
//!
//! A list is brief, so details are asked for only where the brief state differs from what is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use gantry_agent_core::observed::{Container, ContainerState, ObservedPod, Sandbox};
use gantry_cri::v1;

use super::merge::{Change, Identity, Stamp};
use super::observe::{self, keys};
use super::{Runtime, RuntimeError, message};

/// What a list says of one pod.
#[derive(Default)]
struct Brief {
    identity: Identity,
    sandboxes: Vec<v1::PodSandbox>,
    containers: Vec<v1::Container>,
}

/// When to ask for the details of an object whose brief state is as known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Not.
    Changes,
    /// Always.
    Everything,
}

impl Runtime {
    /// Asks for one pod and takes the answer in; afterwards `pods()` is at least as new as this call.
    ///
    /// # Errors
    /// See [`RuntimeError`]; the picture stays as it was.
    pub(crate) async fn refresh(&self, uid: &str) -> Result<Arc<ObservedPod>, RuntimeError> {
        self.ask(uid, Depth::Changes).await
    }

    /// As [`Runtime::refresh`], with the details of every object asked for again.
    pub(super) async fn refresh_fully(&self, uid: &str) -> Result<Arc<ObservedPod>, RuntimeError> {
        self.ask(uid, Depth::Everything).await
    }

    async fn ask(&self, uid: &str, depth: Depth) -> Result<Arc<ObservedPod>, RuntimeError> {
        let (asked, begun) = (self.cache.stamp(), Instant::now());
        let mut briefs = self.list(Some(uid)).await?;
        let brief = briefs.remove(uid).unwrap_or_else(|| absent(uid));
        self.take_in(brief, asked, depth).await?;
        self.metrics.pod_relisted(begun.elapsed());
        Ok(self.cache.get(uid).unwrap_or_else(|| {
            Arc::new(ObservedPod {
                uid: uid.to_owned(),
                ..Default::default()
            })
        }))
    }

    /// Asks for everything; pods that the runtime does not list any more become empty.
    pub(super) async fn relist(&self) -> Result<(), RuntimeError> {
        let asked = self.cache.stamp();
        let mut briefs = self.list(None).await?;
        for uid in self.cache.uids() {
            briefs.entry(uid.clone()).or_insert_with(|| absent(&uid));
        }
        for brief in briefs.into_values() {
            self.take_in(brief, asked, Depth::Changes).await?;
        }
        self.cache.tidy(asked);
        self.cache.set_synced();
        Ok(())
    }

    /// Asks for one sandbox.
    pub(super) async fn look_at_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let Some(status) = self.sandbox_status(id).await? else {
            return Ok(());
        };
        if let Some(identity) = observe::identity(&status.labels) {
            let sandbox = Some(observe::sandbox(&status));
            self.cache.apply(Change::Seen {
                identity,
                sandbox,
                containers: Vec::new(),
            });
        }
        Ok(())
    }

    async fn take_in(&self, brief: Brief, asked: Stamp, depth: Depth) -> Result<(), RuntimeError> {
        let known = self.cache.get(&brief.identity.uid);
        let mut sandboxes = Vec::with_capacity(brief.sandboxes.len());
        for item in &brief.sandboxes {
            let same = known
                .iter()
                .flat_map(|pod| &pod.sandboxes)
                .find(|s| is_as_listed_sandbox(s, item));
            match same {
                Some(same) if depth == Depth::Changes => sandboxes.push(same.clone()),
                _ => sandboxes.extend(self.sandbox_status(&item.id).await?.map(|s| observe::sandbox(&s))),
            }
        }
        let mut containers = Vec::with_capacity(brief.containers.len());
        for item in &brief.containers {
            let same = known
                .iter()
                .flat_map(|pod| &pod.containers)
                .find(|c| is_as_listed_container(c, item));
            match same {
                Some(same) if depth == Depth::Changes => containers.push(same.clone()),
                _ => containers.extend(self.observe_container(&item.id, &item.pod_sandbox_id).await?),
            }
        }
        self.cache.apply(Change::Listed {
            identity: brief.identity,
            sandboxes,
            containers,
            asked,
        });
        Ok(())
    }

    async fn list(&self, uid: Option<&str>) -> Result<HashMap<String, Brief>, RuntimeError> {
        let selector: HashMap<String, String> = uid
            .map(|uid| (keys::POD_UID.to_owned(), uid.to_owned()))
            .into_iter()
            .collect();
        let sandboxes = self.list_sandboxes(selector.clone());
        let (sandboxes, containers) = tokio::try_join!(sandboxes, self.list_containers(selector))?;
        let mut briefs: HashMap<String, Brief> = HashMap::new();
        for item in sandboxes {
            let Some(identity) = observe::identity(&item.labels) else {
                continue;
            };
            entry(&mut briefs, identity).sandboxes.push(item);
        }
        for item in containers {
            let Some(identity) = observe::identity(&item.labels) else {
                continue;
            };
            entry(&mut briefs, identity).containers.push(item);
        }
        Ok(briefs)
    }

    async fn list_sandboxes(
        &self,
        selector: HashMap<String, String>,
    ) -> Result<Vec<v1::PodSandbox>, RuntimeError> {
        let filter = Some(v1::PodSandboxFilter {
            label_selector: selector,
            ..Default::default()
        });
        let request = v1::ListPodSandboxRequest { filter };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.list_pod_sandbox(r).await };
        Ok(self
            .unary("ListPodSandbox", self.timeout, request, call)
            .await?
            .items)
    }

    async fn list_containers(
        &self,
        selector: HashMap<String, String>,
    ) -> Result<Vec<v1::Container>, RuntimeError> {
        let filter = Some(v1::ContainerFilter {
            label_selector: selector,
            ..Default::default()
        });
        let request = v1::ListContainersRequest { filter };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.list_containers(r).await };
        Ok(self
            .unary("ListContainers", self.timeout, request, call)
            .await?
            .containers)
    }

    /// `None` when it has gone since it was listed.
    async fn sandbox_status(&self, id: &str) -> Result<Option<v1::PodSandboxStatus>, RuntimeError> {
        const OPERATION: &str = "PodSandboxStatus";
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.pod_sandbox_status(r).await };
        match self.unary(OPERATION, self.timeout, request, call).await {
            Ok(answer) => match answer.status {
                Some(status) => Ok(Some(status)),
                None => Err(RuntimeError::Malformed {
                    operation: OPERATION,
                    field: "status",
                }),
            },
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The container with its termination message; `None` when it has gone since it was listed.
    async fn observe_container(&self, id: &str, sandbox_id: &str) -> Result<Option<Container>, RuntimeError> {
        const OPERATION: &str = "ContainerStatus";
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let mut client = self.runtime.clone();
        let call = |r| async move { client.container_status(r).await };
        let status = match self.unary(OPERATION, self.timeout, request, call).await {
            Ok(answer) => answer.status.ok_or(RuntimeError::Malformed {
                operation: OPERATION,
                field: "status",
            })?,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let sandbox_id = sandbox_id.to_owned();
        Ok(Some(observe_with_message(status, sandbox_id).await))
    }
}

/// Reads the termination message off the async threads when there can be one.
pub(super) async fn observe_with_message(status: v1::ContainerStatus, sandbox_id: String) -> Container {
    if status.state() != v1::ContainerState::ContainerExited {
        return observe::container(&status, &sandbox_id, "");
    }
    let fallback = observe::container(&status, &sandbox_id, "");
    let read = tokio::task::spawn_blocking(move || {
        let message = message::read(&status);
        observe::container(&status, &sandbox_id, &message)
    });
    // Only a shutdown of the tokio runtime cancels a blocking read.
    read.await.unwrap_or(fallback)
}

fn entry(briefs: &mut HashMap<String, Brief>, identity: Identity) -> &mut Brief {
    briefs.entry(identity.uid.clone()).or_insert_with(|| Brief {
        identity,
        ..Brief::default()
    })
}

fn absent(uid: &str) -> Brief {
    Brief {
        identity: Identity {
            uid: uid.to_owned(),
            ..Identity::default()
        },
        ..Brief::default()
    }
}

/// A ready sandbox on the pod network that is known without an address is asked for again.
fn is_as_listed_sandbox(known: &Sandbox, listed: &v1::PodSandbox) -> bool {
    let ready = listed.state() == v1::PodSandboxState::SandboxReady;
    known.id == listed.id && known.ready == ready && !(ready && !known.host_network && known.ips.is_empty())
}

fn is_as_listed_container(known: &Container, listed: &v1::Container) -> bool {
    let same_state = match (&known.state, listed.state()) {
        (ContainerState::Created, v1::ContainerState::ContainerCreated)
        | (ContainerState::Running { .. }, v1::ContainerState::ContainerRunning)
        | (ContainerState::Exited(_), v1::ContainerState::ContainerExited)
        | (ContainerState::Unknown, v1::ContainerState::ContainerUnknown) => true,
        (
            ContainerState::Created
            | ContainerState::Running { .. }
            | ContainerState::Exited(_)
            | ContainerState::Unknown,
            _,
        ) => false,
    };
    known.id == listed.id && same_state
}
