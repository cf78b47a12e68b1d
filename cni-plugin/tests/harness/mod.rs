//! A host and pods for black-box tests: each test has network namespaces of its own and runs the real binary.
//!
//! `GANTRY_CNI_REFERENCE=<directory>` runs the stock plugins (`bridge`, `host-local` and so on) of that directory instead of
//! ours: so the tests of `contract.rs` are proven. Tests need root and fail without it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) mod daemon;
pub(crate) mod traffic;

/// How long a packet may take to become possible.
const REACHABLE_WITHIN: Duration = Duration::from_secs(5);

pub(crate) mod ports;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, kept by a thread of ours; it ends with this value.
pub(crate) struct Namespace {
    path: PathBuf,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What a call of the plugin left.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its exit status was success.
    pub(crate) ok: bool,
    /// Standard output.
    pub(crate) stdout: String,
}

/// One host: a namespace in which plugins run, and a data directory.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) data: tempfile::TempDir,
}

/// Runs a test on a host of its own.
pub(crate) fn on_host(test: impl FnOnce(&Host)) {
    let host = Host {
        namespace: Namespace::new(),
        data: tempfile::tempdir().unwrap(),
    };
    host.ip("link set lo up");
    test(&host);
}

/// Whether the reference plugins are under test.
pub(crate) fn reference() -> Option<PathBuf> {
    std::env::var_os("GANTRY_CNI_REFERENCE").map(PathBuf::from)
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (jobs, queue) = channel::<Job>();
        let (ready, path) = channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: only the network namespace of this thread is unshared, neither descriptors nor memory.
            #[allow(unsafe_code)]
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .expect("these tests need root");
            let (pid, tid) = (std::process::id(), rustix::thread::gettid().as_raw_nonzero());
            ready
                .send(PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net")))
                .unwrap();
            queue.into_iter().for_each(|job| job());
        });
        Self {
            path: path.recv().expect("a namespace"),
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the calling thread into this namespace.
    pub(crate) fn enter(&self) {
        let namespace = std::fs::File::open(&self.path).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
    }

    /// The number of the thread that keeps it.
    pub(crate) fn thread(&self) -> String {
        thread_of(self)
    }

    /// Runs something in this namespace and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = channel();
        let job = move || drop(done.send(work()));
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        outcome.recv().expect("the work does not panic")
    }

    /// `ip` with these words; its output.
    pub(crate) fn ip(&self, words: &str) -> String {
        self.program("ip", words)
    }

    pub(crate) fn program(&self, program: &'static str, words: &str) -> String {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let shown = words.join(" ");
        let output = self.run(move || Command::new(program).args(words).output().unwrap());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {shown}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn read(&self, path: &str) -> String {
        let path = path.to_owned();
        self.run(move || std::fs::read_to_string(path).unwrap().trim().to_owned())
    }

    pub(crate) fn write(&self, path: &str, value: &'static str) {
        let path = path.to_owned();
        self.run(move || std::fs::write(path, value).unwrap());
    }

    /// A UDP service that answers each datagram with the address that it came from.
    pub(crate) fn serve(&self, address: SocketAddr) {
        // The stock plugin leaves the gateway's IPv6 address to duplicate address detection for a second.
        let socket = self.run(move || {
            let deadline = Instant::now() + REACHABLE_WITHIN;
            loop {
                match UdpSocket::bind(address) {
                    Ok(socket) => return socket,
                    Err(error) if Instant::now() > deadline => panic!("{address}: {error}"),
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
    }

    /// Asks such a service until it answers: the source address that it saw.
    pub(crate) fn ask(&self, server: SocketAddr) -> IpAddr {
        self.run(move || {
            let deadline = Instant::now() + REACHABLE_WITHIN;
            let any: IpAddr = if server.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut buffer = [0; 64];
            while Instant::now() < deadline {
                if socket.send_to(b"?", server).is_ok()
                    && let Ok((length, _)) = socket.recv_from(&mut buffer)
                {
                    return String::from_utf8_lossy(&buffer[..length]).parse().ok();
                }
            }
            None
        })
        .unwrap_or_else(|| panic!("{server} did not answer"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Host {
    /// A configuration that ours and the stock plugins understand.
    pub(crate) fn config(&self, subnet: &str) -> Value {
        let data = self.data.path();
        json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "br0",
            "isDefaultGateway": true, "hairpinMode": true,
            "ipam": { "type": "host-local", "dataDir": data, "ranges": [[{ "subnet": subnet }]] }
        })
    }

    pub(crate) fn ip(&self, words: &str) -> String {
        self.namespace.ip(words)
    }

    /// The names of the veth interfaces of the host.
    pub(crate) fn veths(&self) -> Vec<String> {
        self.links("veth")
    }

    /// The names of all devices of the host that belong to pods.
    pub(crate) fn devices(&self) -> Vec<String> {
        [self.links("veth"), self.links("ifb")].concat()
    }

    fn links(&self, kind: &str) -> Vec<String> {
        let listed = self.ip(&format!("-o link show type {kind}"));
        listed
            .lines()
            .filter_map(|line| Some(line.split([' ', '@']).nth(1)?.to_owned()))
            .collect()
    }

    pub(crate) fn call(&self, command: &str, config: &Value, container: &str, netns: &str) -> Answer {
        self.call_with(
            command,
            &config.to_string(),
            &[("CNI_CONTAINERID", container), ("CNI_NETNS", netns)],
        )
    }

    /// Calls the plugin with this standard input; `variables` replace or add to the usual ones (empty: unset).
    pub(crate) fn call_with(&self, command: &str, stdin: &str, variables: &[(&str, &str)]) -> Answer {
        let plugin = reference().map_or_else(ours, |directory| directory.join("bridge"));
        self.call_plugin(&plugin, command, stdin, variables)
    }

    pub(crate) fn call_plugin(
        &self,
        plugin: &Path,
        command: &str,
        stdin: &str,
        variables: &[(&str, &str)],
    ) -> Answer {
        self.call_process(self.prepare(plugin, command, variables), stdin)
    }

    /// A process for such a call.
    pub(crate) fn prepare(&self, plugin: &Path, command: &str, variables: &[(&str, &str)]) -> Command {
        let mut process = Command::new(plugin);
        let directory = reference().unwrap_or_else(|| PathBuf::from("/nowhere"));
        process
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        process
            .env("CNI_PATH", directory)
            .env("CNI_COMMAND", command)
            .env("CNI_IFNAME", "eth0");
        for (name, value) in variables {
            if value.is_empty() {
                process.env_remove(name)
            } else {
                process.env(name, value)
            };
        }
        process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        process
    }

    /// Runs such a process on the host, from this thread.
    pub(crate) fn call_process(&self, mut process: Command, stdin: &str) -> Answer {
        self.namespace.enter();
        let mut child = process.spawn().unwrap();
        // A plugin that fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Answer {
            ok: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
        }
    }

    pub(crate) fn add(&self, config: &Value, container: &str, pod: &Namespace) -> Value {
        self.call("ADD", config, container, pod.path().to_str().unwrap())
            .result()
    }

    pub(crate) fn del(&self, config: &Value, container: &str, netns: &str) {
        let answer = self.call("DEL", config, container, netns);
        assert!(answer.ok && answer.stdout.is_empty(), "{answer:?}");
    }

    /// A neighbour of the host beyond a link: 192.0.2.1 here, 192.0.2.2 there, and a route back to the pods.
    pub(crate) fn outside(&self, pods: &str) -> Namespace {
        let outside = Namespace::new();
        let name = format!("out{}", unique());
        self.ip(&format!(
            "link add {name} type veth peer name up0 netns {}",
            thread_of(&outside)
        ));
        self.ip(&format!("addr add 192.0.2.1/24 dev {name}"));
        self.ip(&format!("link set {name} up"));
        outside.ip("addr add 192.0.2.2/24 dev up0");
        outside.ip("link set up0 up");
        outside.ip(&format!("route add {pods} via 192.0.2.1"));
        outside
    }
}

impl Answer {
    /// The result of a call that has to succeed.
    pub(crate) fn result(&self) -> Value {
        assert!(self.ok, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The error object of a call that has to fail: exactly one JSON object and a non-zero exit.
    pub(crate) fn error(&self) -> Value {
        assert!(!self.ok, "{}", self.stdout);
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        assert!(error["code"].as_u64().is_some_and(|code| code > 0), "{error}");
        assert!(
            error["msg"].as_str().is_some_and(|msg| !msg.is_empty()),
            "{error}"
        );
        error
    }
}

/// Our binary.
pub(crate) fn ours() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_gantry-cni"))
}

/// The first address of a result, without its prefix length.
pub(crate) fn address(result: &Value) -> IpAddr {
    address_number(result, 0)
}

pub(crate) fn address_number(result: &Value, number: usize) -> IpAddr {
    let text = result["ips"][number]["address"].as_str().unwrap();
    text.split('/').next().unwrap().parse().unwrap()
}

fn thread_of(namespace: &Namespace) -> String {
    namespace
        .path()
        .components()
        .nth(4)
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap()
        .to_owned()
}

fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
