//! A container runtime for tests: a model behind a real CRI server on a unix socket in a temporary folder.
//!
//! It keeps sandboxes, containers and images, refuses what a runtime would refuse, and sends events with full
//! statuses as containerd does.

mod images;
mod logs;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use gantry_cri::v1;
use gantry_cri::v1::image_service_server::ImageServiceServer;
use gantry_cri::v1::runtime_service_server::RuntimeServiceServer;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tonic::Status;
use tower::Service as _;

use super::{Runtime, keys};

/// The model and its switches.
pub(crate) struct State {
    dir: tempfile::TempDir,
    model: Mutex<Model>,
    events: broadcast::Sender<v1::ContainerEventResponse>,
    /// Counts up to end the streams of before.
    streams: watch::Sender<u64>,
    refuse_events: AtomicBool,
    hang: AtomicBool,
    status_calls: AtomicUsize,
    /// Pulls wait while this is false.
    pulls_may_end: watch::Sender<bool>,
    refuse_reopen: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Model {
    counter: i64,
    sandboxes: BTreeMap<String, v1::PodSandboxStatus>,
    /// With the sandbox's id.
    containers: BTreeMap<String, (String, v1::ContainerStatus)>,
    /// By name.
    pub(crate) images: BTreeMap<String, v1::Image>,
    /// What a pull of a name fails with.
    pub(crate) pull_errors: BTreeMap<String, String>,
    /// The names and users of all pulls.
    pub(crate) pulls: Vec<(String, Option<String>)>,
    pub(crate) running_pulls: usize,
    pub(crate) most_running_pulls: usize,
    pub(crate) image_status_calls: usize,
    /// Where exec, attach and port-forward are served; empty: nothing is prepared, the runtime has too much to do.
    pub(crate) stream_url: String,
    /// What was asked to be prepared, in words.
    pub(crate) sessions: Vec<String>,
}

/// The running server; ends when dropped.
pub(crate) struct FakeRuntime {
    state: Arc<State>,
    server: JoinHandle<()>,
}

impl Drop for FakeRuntime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeRuntime {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(State {
            dir: tempfile::tempdir().unwrap(),
            model: Mutex::default(),
            events: broadcast::Sender::new(1000),
            streams: watch::Sender::new(0),
            refuse_events: AtomicBool::new(false),
            hang: AtomicBool::new(false),
            status_calls: AtomicUsize::new(0),
            pulls_may_end: watch::Sender::new(true),
            refuse_reopen: AtomicBool::new(false),
        });
        state.restart().await
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.state.socket().display())
    }

    pub(crate) fn connect(&self) -> Runtime {
        Runtime::connect(&self.endpoint(), Duration::from_secs(10)).unwrap()
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.state.model.lock().unwrap()
    }

    /// Status calls for single objects so far.
    pub(crate) fn status_calls(&self) -> usize {
        self.state.status_calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn exit(&self, id: &str, code: i32, message: &Path) {
        self.state.end(id, code, Some(message));
        self.state.send(id, v1::ContainerEventType::ContainerStoppedEvent);
    }

    pub(crate) async fn exit_without_event(&self, id: &str, code: i32) {
        self.state.end(id, code, None);
    }

    pub(crate) async fn break_streams(&self) {
        self.state.streams.send_modify(|generation| *generation += 1);
    }

    pub(crate) async fn refuse_events(&self) {
        self.state.refuse_events.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn hang(&self) {
        self.state.hang.store(true, Ordering::SeqCst);
    }

    pub(crate) fn hold_pulls(&self, hold: bool) {
        self.state.pulls_may_end.send_replace(!hold);
    }

    /// Ends the server as a crash would: open connections break.
    pub(crate) async fn stop(self) -> Arc<State> {
        let state = Arc::clone(&self.state);
        std::fs::remove_file(state.socket()).unwrap();
        drop(self);
        state.streams.send_modify(|generation| *generation += 1);
        state
    }
}

impl State {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("cri.sock")
    }

    pub(crate) async fn forget_everything(&self) {
        *self.model.lock().unwrap() = Model::default();
    }

    pub(crate) async fn restart(self: Arc<Self>) -> FakeRuntime {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let server = tokio::spawn(serve(Arc::clone(&self), listener));
        FakeRuntime { state: self, server }
    }

    /// Notes what is asked for and gives the prepared URL.
    fn session(&self, asked: String) -> Result<String, Status> {
        let mut model = self.model.lock().unwrap();
        model.sessions.push(asked);
        if model.stream_url.is_empty() {
            return Err(Status::resource_exhausted("too many sessions"));
        }
        Ok(model.stream_url.clone())
    }

    fn end(&self, id: &str, code: i32, message: Option<&Path>) {
        let mut model = self.model.lock().unwrap();
        model.counter += 1;
        let now = model.counter;
        let (_, status) = model.containers.get_mut(id).unwrap();
        status.set_state(v1::ContainerState::ContainerExited);
        status.exit_code = code;
        status.finished_at = now;
        status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        if let Some(message) = message {
            let path = "/dev/termination-log".to_owned();
            status
                .annotations
                .insert(keys::MESSAGE_PATH.to_owned(), path.clone());
            let host_path = message.display().to_string();
            status.mounts = vec![v1::Mount {
                container_path: path,
                host_path,
                ..v1::Mount::default()
            }];
        }
    }

    /// An event about a container or sandbox, with all statuses of the sandbox.
    fn send(&self, id: &str, kind: v1::ContainerEventType) {
        let model = self.model.lock().unwrap();
        let sandbox_id = model
            .containers
            .get(id)
            .map_or(id, |(sandbox, _)| sandbox.as_str());
        let containers = model
            .containers
            .values()
            .filter(|(sandbox, _)| sandbox == sandbox_id);
        let event = v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap(),
            pod_sandbox_status: model.sandboxes.get(sandbox_id).cloned(),
            containers_statuses: containers.map(|(_, status)| status.clone()).collect(),
        };
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }
}

/// Serves both services on each connection; all connections end with the task.
async fn serve(state: Arc<State>, listener: UnixListener) {
    let runtime = RuntimeServiceServer::from_arc(Arc::clone(&state));
    let images = ImageServiceServer::from_arc(state);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (runtime, images) = (runtime.clone(), images.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (mut runtime, mut images) = (runtime.clone(), images.clone());
            async move {
                if request.uri().path().contains("ImageService") {
                    images.call(request).await
                } else {
                    runtime.call(request).await
                }
            }
        });
        let connection =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            // A connection that breaks is what some tests are about.
            let _ = connection.await;
        });
    }
}

impl Model {
    pub(crate) fn add_image(&mut self, name: &str, uid: Option<i64>) {
        let image = v1::Image {
            id: format!("sha256:{name}"),
            repo_tags: vec![name.to_owned()],
            size: 1000,
            uid: uid.map(|value| v1::Int64Value { value }),
            ..v1::Image::default()
        };
        self.images.insert(name.to_owned(), image);
    }
}

pub(crate) fn sandbox_config(uid: &str) -> v1::PodSandboxConfig {
    let name = format!("pod-{uid}");
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.clone(),
            uid: uid.to_owned(),
            namespace: "ns".to_owned(),
            attempt: 0,
        }),
        labels: [
            (keys::POD_UID, uid),
            (keys::POD_NAME, &name),
            (keys::POD_NAMESPACE, "ns"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into(),
        ..v1::PodSandboxConfig::default()
    }
}

pub(crate) fn container_config(uid: &str, name: &str, attempt: u32) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt,
        }),
        labels: sandbox_config(uid).labels,
        annotations: [(keys::RESTART_COUNT.to_owned(), attempt.to_string())].into(),
        ..v1::ContainerConfig::default()
    }
}
