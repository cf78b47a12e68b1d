//! The cluster that `hack/up` started, seen from outside: what the tests in `tests/cluster_*.rs` are written with.
//!
//! ```text
//! Test ── a namespace of its own: create, get, wait, exec, logs     (fixture)
//!  ├── Machine ── a node or the control plane: commands, systemd    (machine)
//!  │    └── NodeProxy ── its service proxy, a unit or a pod       (proxy)
//!  ├── NetNs ── sockets inside a pod, on a node, or outside          (netns)
//!  ├── Kubectl ── the real one                                       (kubectl)
//!  ├── NodeApi ── a node's port 10250, straight                      (node_api)
//!  │    └── Session ── exec and the like over a WebSocket            (session)
//!  └── pods ── questions about a pod's status                        (pods)
//! ```
//!
//! Inputs: `GANTRY_CACHE` and `GANTRY_CLUSTER`, as `hack/up` takes them. Without a cluster every test fails.
//! Everything here panics with a message that says what was wanted: a failed test shows the state of its pods,
//! their events and the last lines of the agents' logs.
//!
//! Tasks: one runtime with one worker thread for all tests of a process. That thread and each test's own live in the
//! network namespace of the machines' bridge, so the API server and the nodes are a plain `connect` away.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

mod fixture;
mod kubectl;
mod machine;
mod netns;
mod node_api;
pub mod pods;
pub mod prometheus;
mod proxy;
mod report;
mod session;
pub mod wait;

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kube::Client;
use tokio::runtime::Runtime;

pub use fixture::Test;
pub use kubectl::{Kubectl, Terminal};
pub use machine::{Machine, Output, Stopped};
pub use netns::{NetNs, exchange_line};
pub use node_api::{Answer, Connection, NodeApi, Reading};
pub use proxy::NodeProxy;
pub use session::Session;
pub use wait::{poll, secs};

/// One request to the API server takes no longer than this, also while it is starting.
const REQUEST: Duration = Duration::from_secs(20);

/// The running cluster.
pub struct Cluster {
    client: Client,
    runtime: Runtime,
    options: String,
}

impl Cluster {
    /// The cluster; the calling thread enters the network of the machines.
    ///
    /// # Panics
    /// When `hack/up` has not started one.
    pub fn enter() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        NetNs::outside().enter();
        CLUSTER.get_or_init(Self::connect)
    }

    fn connect() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(|| NetNs::outside().enter())
            .enable_all()
            .build()
            .expect("a tokio runtime starts");
        let kubeconfig = run_dir().join("kubeconfig");
        let client = runtime
            .block_on(gantry_kubeapi::connect(&kubeconfig, "gantry-tests"))
            .unwrap_or_else(|error| panic!("no cluster is up (hack/up starts one): {error}"));
        let options = std::fs::read_to_string(run_dir().join("options")).unwrap_or_default();
        Self {
            client,
            runtime,
            options,
        }
    }

    /// A client with the administrator's rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether `program` (`agent`, `proxy` or `cni`) is the reference program here, for the few behaviours in which
    /// ours differs on purpose.
    pub fn is_reference(&self, program: &str) -> bool {
        self.options
            .lines()
            .any(|line| line == format!("{program}=reference"))
    }

    /// The address families of nodes, pods and services, the primary one first, as the API writes them.
    pub fn families(&self) -> &'static [&'static str] {
        let mut options = self.options.lines();
        match options.find_map(|line| line.strip_prefix("stack=")) {
            Some("ipv4") => &["IPv4"],
            Some("ipv6") => &["IPv6"],
            Some("dual-ipv6") => &["IPv6", "IPv4"],
            _ => &["IPv4", "IPv6"],
        }
    }

    /// Whether nodes, pods and services have addresses of both families.
    pub fn is_dual_stack(&self) -> bool {
        self.families().len() == 2
    }

    /// What goes with the primary address family.
    pub fn primary<T>(&self, ipv4: T, ipv6: T) -> T {
        if self.families().first() == Some(&"IPv6") {
            ipv6
        } else {
            ipv4
        }
    }

    /// The nodes' names, in order.
    pub fn node_names(&self) -> Vec<String> {
        let count = self
            .options
            .lines()
            .find_map(|line| line.strip_prefix("nodes=")?.parse().ok());
        (1..=count.unwrap_or(2))
            .map(|n: u32| format!("node-{n}"))
            .collect()
    }

    /// Runs `future` on this thread, to its end or the deadline.
    pub fn within<T>(&self, deadline: Duration, future: impl Future<Output = T>) -> Option<T> {
        self.runtime
            .block_on(async { tokio::time::timeout(deadline, future).await.ok() })
    }

    /// Runs `task` beside the test.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs one API request.
    pub fn request<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
        match self.within(REQUEST, request) {
            Some(answer) => answer.map_err(|error| error.to_string()),
            None => Err(format!("no answer from the API server in {REQUEST:?}")),
        }
    }
}

/// Where `hack/up` keeps what belongs to the running cluster.
pub(crate) fn run_dir() -> PathBuf {
    let cache = std::env::var_os("GANTRY_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/gantry"),
        PathBuf::from,
    );
    let cluster = std::env::var("GANTRY_CLUSTER").unwrap_or_else(|_| "gantry".into());
    cache.join("run").join(cluster)
}

/// The repository, for `hack/node`.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The id of the process that the file names (`hack/lib/process.sh` writes it).
pub(crate) fn process_in(file: &Path) -> u32 {
    std::fs::read_to_string(file)
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| {
            panic!(
                "no cluster is up (hack/up starts one): no process id in {}",
                file.display()
            )
        })
}

/// Opens a namespace file below `/proc`.
pub(crate) fn open_namespace(path: &Path) -> File {
    File::open(path).unwrap_or_else(|error| panic!("cannot open namespace {}: {error}", path.display()))
}
