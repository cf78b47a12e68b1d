//! The handlers behind a real HTTP server, with a runtime that is a model and pods that run there.

use std::convert::Infallible;
use std::net::SocketAddr;

use gantry_agent_core::api::Route;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::config::testing::config;
use crate::metrics::Metrics;
use crate::pods::directory::testing::directory;
use crate::runtime::fake::{FakeRuntime, container_config, sandbox_config};
use crate::stats::Stats;
use crate::testing::DEADLINE;

/// Pod `pod-u` in namespace `ns` runs containers `c` and `t` (on a terminal); `over` has ended.
struct Rig {
    address: SocketAddr,
    fake: FakeRuntime,
    sandbox: String,
    /// The id of `c`, then that of `t`.
    containers: [String; 2],
    _watcher: crate::runtime::Watcher,
    _tasks: JoinSet<()>,
}

impl Rig {
    async fn start() -> Self {
        let fake = FakeRuntime::start().await;
        let runtime = fake.connect();
        let watcher = runtime.watch();
        runtime.pods().synced().await;
        let sandbox = runtime.run_sandbox(sandbox_config("u"), "").await.unwrap().id;
        let mut ids = Vec::new();
        for name in ["c", "t", "over"] {
            let made =
                runtime.create_container(&sandbox, container_config("u", name, 0), sandbox_config("u"));
            let id = made.await.unwrap();
            runtime.start_container("u", &id).await.unwrap();
            ids.push(id);
        }
        runtime
            .stop_container("u", &ids[2], Duration::from_secs(1))
            .await
            .unwrap();
        let pod = json!({
            "metadata": {"name": "pod-u", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [{"name": "c"}, {"name": "t", "tty": true}, {"name": "over"}]},
        });
        let config = Arc::new(config(""));
        let api = Api {
            pods: directory([serde_json::from_value(pod).unwrap()]),
            stats: Stats::new(&config, runtime.clone()),
            runtime,
            logs: crate::server::logs::Logs::new(crate::logs::Tapes::start()),
            metrics: Metrics::new(&config),
            config,
        };
        let (listener, mut tasks) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), JoinSet::new());
        let address = listener.local_addr().unwrap();
        tasks.spawn(serve(listener, api));
        Self {
            address,
            fake,
            sandbox,
            containers: [ids.remove(0), ids.remove(0)],
            _watcher: watcher,
            _tasks: tasks,
        }
    }

    /// The whole answer.
    async fn ask(&self, method: &str, target: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer));
        read.await.unwrap().unwrap();
        answer
    }

    async fn refused(&self, method: &str, target: &str, status: u16, text: &str) {
        let answer = self.ask(method, target, "").await;
        let begins = answer.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(
            begins && answer.ends_with(&format!("\r\n\r\n{text}")),
            "{target}: {answer}"
        );
    }
}

async fn serve(listener: TcpListener, api: Api) {
    while let Ok((stream, _)) = listener.accept().await {
        let api = api.clone();
        let service = service_fn(move |request: Request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(answer_to(&api, request).await) }
        });
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // Clients of these tests break off when they like.
            let _ = connection.with_upgrades().await;
        });
    }
}

/// Routes as the server does.
async fn answer_to(api: &Api, request: Request) -> Answer {
    use gantry_agent_core::api::{Head, Resolution, Surface, resolve};
    let surface = Surface {
        debugging: true,
        ..Surface::READ_ONLY
    };
    let head = Head {
        method: request.method().as_str(),
        path: request.uri().path(),
        accept: "",
    };
    let Resolution::Found { route: Ok(route), .. } = resolve(head, surface) else {
        panic!("no route for {}", request.uri());
    };
    let answer = match route {
        Route::Exec(container) => exec(api, request, &container).await,
        Route::Attach(container) => attach(api, request, &container).await,
        Route::PortForward(pod) => port_forward(api, request, &pod).await,
        Route::Run(container) => run(api, request, &container).await,
        other => panic!("{other:?} is not ours"),
    };
    answer.unwrap_or_else(Refusal::into_answer)
}

#[tokio::test]
async fn refusals_have_the_status_and_text_of_the_reference() {
    let rig = Rig::start().await;
    let none = "you must specify at least 1 of stdin, stdout, stderr";
    for (target, status, text) in [
        ("/exec/ns/pod-u/c?command=x", 400, none),
        ("/attach/ns/pod-u/c?tty=1&error=1", 400, none),
        ("/exec/ns/none/c?output=1", 404, "pod does not exist"),
        ("/attach/ns/none/c?output=1", 404, "pod does not exist"),
        ("/portForward/ns/none", 404, "pod does not exist"),
        ("/run/ns/none/c", 404, "pod does not exist"),
        ("/portForward/ns/pod-u/other", 404, "pod not found"),
        (
            "/exec/ns/pod-u/over?output=1",
            500,
            "container not found (\"over\")",
        ),
        ("/run/ns/pod-u/over", 500, "container not found (\"over\")"),
        (
            "/attach/ns/pod-u/over?output=1",
            500,
            "container over not found in pod pod-u_ns",
        ),
        ("/attach/ns/pod-u/other/c?output=1", 500, "pod pod-u_ns not found"),
    ] {
        rig.refused("POST", target, status, text).await;
    }
    assert!(rig.fake.model().sessions.is_empty(), "the runtime was not asked");
}

#[tokio::test]
async fn a_runtime_with_too_much_to_do_says_when_to_come_back() {
    let rig = Rig::start().await;
    let answer = rig.ask("POST", "/exec/ns/pod-u/c?output=1", "").await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("retry-after: 60\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("rpc error: code = ResourceExhausted desc = too many sessions"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_runtime_is_asked_for_what_the_client_wants() {
    let rig = Rig::start().await;
    rig.fake.model().stream_url = "http://127.0.0.1:1/x".into();
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (target, headers) in [
        ("/exec/ns/pod-u/c?input=1&error=1&command=sh&command=-c", ""),
        ("/exec/ns/pod-u/u/c?output=1&tty=1", ""),
        // The container's own specification says whether it has a terminal.
        ("/attach/ns/pod-u/c?output=1&tty=1", ""),
        ("/attach/ns/pod-u/t?output=1", ""),
        ("/portForward/ns/pod-u", ""),
        ("/portForward/ns/pod-u/u?port=80,81", socket),
    ] {
        let answer = rig.ask("POST", target, headers).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{target}: {answer}");
        let why = if headers.is_empty() {
            "\r\n\r\nUpgrade request required\n"
        } else {
            "\r\n\r\nerror dialing backend: dial tcp 127.0.0.1:1: "
        };
        assert!(answer.contains(why), "{target}: {answer}");
    }
    let [c, t] = &rig.containers;
    let sandbox = &rig.sandbox;
    assert_eq!(
        rig.fake.model().sessions,
        [
            format!("exec {c} [\"sh\", \"-c\"] (true, false, true, false)"),
            format!("exec {c} [] (false, true, false, true)"),
            format!("attach {c} (false, true, false, false)"),
            format!("attach {t} (false, true, false, true)"),
            format!("forward {sandbox} []"),
            format!("forward {sandbox} [80, 81]"),
        ]
    );
}

#[tokio::test]
async fn a_web_socket_port_forward_names_its_ports() {
    let rig = Rig::start().await;
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let answer = rig.ask("GET", "/portForward/ns/pod-u", socket).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.ends_with("query parameter \"port\" is required"),
        "{answer}"
    );
}

#[tokio::test]
async fn run_tells_how_a_command_failed() {
    let rig = Rig::start().await;
    // The model's commands always end with 1.
    rig.refused(
        "POST",
        "/run/ns/pod-u/c?cmd=a+b",
        500,
        "command 'a b' exited with 1: ",
    )
    .await;
}
