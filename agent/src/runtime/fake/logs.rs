//! Logs of the fake: files that the tests write, opened anew when the agent asks for it.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::Ordering;

use gantry_cri::v1;
use tonic::Status;

use super::{FakeRuntime, Model, State};

/// As a runtime joins it; empty without a log.
pub(super) fn path(sandbox: Option<&v1::PodSandboxConfig>, log: &str) -> String {
    match sandbox {
        Some(sandbox) if !sandbox.log_directory.is_empty() && !log.is_empty() => {
            Path::new(&sandbox.log_directory).join(log).display().to_string()
        }
        Some(_) | None => String::new(),
    }
}

impl FakeRuntime {
    /// From now on logs are opened anew, or not.
    pub(crate) fn refuse_reopen(&self, refuse: bool) {
        self.state.refuse_reopen.store(refuse, Ordering::SeqCst);
    }
}

impl Model {
    /// As if they had been removed by somebody else.
    pub(crate) fn forget_containers(&mut self) {
        self.containers.clear();
    }
}

impl State {
    pub(super) fn reopen_log(&self, id: &str) -> Result<(), Status> {
        if self.refuse_reopen.load(Ordering::SeqCst) {
            return Err(Status::internal("refused"));
        }
        let model = self.model.lock().unwrap();
        let found = model.containers.get(id);
        let (_, status) = found.ok_or_else(|| Status::not_found(format!("{id}: not found")))?;
        if status.state() != v1::ContainerState::ContainerRunning {
            return Err(Status::failed_precondition("the container does not run"));
        }
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).open(&status.log_path);
        opened
            .map(drop)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
