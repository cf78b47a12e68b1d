//! The parts of the API: what is registered under one prefix, and what a caller must be allowed to do there.
//!
//! Source: `pkg/kubelet/server/auth.go` and `server.go` of the reference; KEP-2862 (fine-grained authorisation).

/// A part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// `/healthz` and its checks.
    Healthz,
    /// `/pods`.
    Pods,
    /// `/runningpods/`.
    RunningPods,
    /// `/metrics` and what is below it.
    Metrics,
    /// `/stats/`.
    Stats,
    /// `/containerLogs/`.
    ContainerLogs,
    /// `/exec/`.
    Exec,
    /// `/attach/`.
    Attach,
    /// `/portForward/`.
    PortForward,
    /// `/run/`.
    Run,
    /// `/logs/`.
    Logs,
    /// `/checkpoint/`.
    Checkpoint,
    /// `/configz`.
    Configz,
    /// `/flagz`.
    Flagz,
    /// `/statusz`.
    Statusz,
    /// `/debug/pprof/`.
    Pprof,
    /// `/debug/flags/v`.
    DebugFlags,
}

impl Area {
    /// The subresources of the node that give access, in the order in which they are asked for: the first that is
    /// allowed wins.
    #[must_use]
    pub fn subresources(self) -> &'static [&'static str] {
        match self {
            Self::Healthz => &["healthz", "proxy"],
            Self::Pods | Self::RunningPods => &["pods", "proxy"],
            Self::Configz => &["configz", "proxy"],
            Self::Metrics => &["metrics"],
            Self::Stats => &["stats"],
            Self::Logs => &["log"],
            Self::Checkpoint => &["checkpoint"],
            Self::Statusz => &["statusz"],
            Self::Flagz => &["configz"],
            Self::ContainerLogs
            | Self::Exec
            | Self::Attach
            | Self::PortForward
            | Self::Run
            | Self::Pprof
            | Self::DebugFlags => &["proxy"],
        }
    }

    /// The verb that a caller must be allowed.
    ///
    /// What runs something in a container or reaches its ports is `create`, whatever the HTTP method: a WebSocket
    /// begins with GET, and a right to read must not be a right to run. The reference takes the method's verb there.
    #[must_use]
    pub fn verb(self, method: &str) -> &'static str {
        match self {
            Self::Exec | Self::Attach | Self::PortForward | Self::Run => "create",
            Self::Healthz
            | Self::Pods
            | Self::RunningPods
            | Self::Metrics
            | Self::Stats
            | Self::ContainerLogs
            | Self::Logs
            | Self::Checkpoint
            | Self::Configz
            | Self::Flagz
            | Self::Statusz
            | Self::Pprof
            | Self::DebugFlags => match method {
                "GET" => "get",
                "POST" => "create",
                "PUT" => "update",
                "PATCH" => "patch",
                "DELETE" => "delete",
                _ => "",
            },
        }
    }

    /// Answers may take as long as the client likes.
    #[must_use]
    pub fn is_long_running(self) -> bool {
        match self {
            Self::Exec | Self::Attach | Self::PortForward | Self::Pprof | Self::DebugFlags => true,
            Self::Healthz
            | Self::Pods
            | Self::RunningPods
            | Self::Metrics
            | Self::Stats
            | Self::ContainerLogs
            | Self::Run
            | Self::Logs
            | Self::Checkpoint
            | Self::Configz
            | Self::Flagz
            | Self::Statusz => false,
        }
    }
}
