//! The whole server: a real TLS client outside, a mock API server behind.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, header::LOCATION};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::{
    testing::{Authority, Pair, client_config},
    *,
};
use crate::{
    config::testing::config,
    metrics::Metrics,
    pods::directory::testing::directory,
    testing::{ApiServer, DEADLINE},
};

/// A server that runs.
struct Rig {
    authority: Authority,
    address: SocketAddr,
    api_server: ApiServer,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// Status, one header, body.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: hyper::HeaderMap,
    body: String,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rig {
    /// With these fields on top of the defaults, on the secured port or the open one.
    async fn new(yaml: &str, secured: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let authorities = dir.path().join("ca.crt");
        std::fs::write(&authorities, authority.pem()).unwrap();
        let yaml = format!(
            "authentication: {{x509: {{clientCAFile: {}}}}}\n{yaml}",
            authorities.display()
        );
        let config = Arc::new(Config {
            cert_dir: dir.path().to_owned(),
            ..config(&yaml)
        });
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "c"}]},
        }))
        .unwrap();
        let (client, api_server) = ApiServer::new();
        let runtime = Runtime::connect("/nonexistent/cri.sock", DEADLINE).unwrap();
        let api = Api {
            pods: directory([pod]),
            stats: Stats::new(&config, runtime.clone()),
            runtime,
            config: config.clone(),
            logs: logs::Logs::new(crate::logs::Tapes::start()),
            metrics: Metrics::new(&config),
        };
        let auth = Auth::new(&config, &client).unwrap();
        let tls = tls::config(&config.kubelet, Arc::new(Serving::new(&config).unwrap()), true).unwrap();
        let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener = Listener::bind(anywhere).await.unwrap();
        let address = listener.address().unwrap();
        let service = Service {
            api,
            auth: secured.then(|| Arc::new(auth)),
            surface: if secured {
                surface(&config.kubelet)
            } else {
                Surface::READ_ONLY
            },
        };
        let tls = secured.then(|| TlsAcceptor::from(Arc::new(tls)));
        let task = tokio::spawn(listener.serve(service, tls));
        Self {
            authority,
            address,
            api_server,
            task,
            _dir: dir,
        }
    }

    async fn tls(&self, identity: Option<&Pair>, protocol: &str) -> impl AsyncStream + use<> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(identity, protocol)));
        let name = "node-1".try_into().unwrap();
        timeout(DEADLINE, connector.connect(name, tcp))
            .await
            .unwrap()
            .unwrap()
    }

    async fn ask(&self, identity: Option<&Pair>, request: hyper::Request<Empty<Bytes>>) -> Got {
        let stream = self.tls(identity, "http/1.1").await;
        exchange(stream, request).await
    }

    async fn get(&self, identity: Option<&Pair>, path: &str) -> Got {
        self.ask(identity, request(Method::GET, path)).await
    }
}

trait AsyncStream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> AsyncStream for S {}

fn request(method: Method, path: &str) -> hyper::Request<Empty<Bytes>> {
    let builder = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "node-1");
    builder.body(Empty::new()).unwrap()
}

async fn exchange(stream: impl AsyncStream, request: hyper::Request<Empty<Bytes>>) -> Got {
    let asked = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.unwrap();
        let got = got(answer).await;
        connection.abort();
        got
    };
    timeout(DEADLINE, asked).await.unwrap()
}

async fn got(answer: hyper::Response<Incoming>) -> Got {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

const OPEN: &str = "authorization: {mode: AlwaysAllow}";

#[tokio::test]
async fn strangers_are_refused_and_known_clients_are_served() {
    let rig = Rig::new(OPEN, true).await;
    let stranger = rig.get(None, "/pods").await;
    assert_eq!((stranger.status, stranger.body.as_str()), (401, "Unauthorized"));
    let foreign = Authority::new().client("alice", &[]);
    assert_eq!(rig.get(Some(&foreign), "/pods").await.status, 401);
    let alice = rig.authority.client("alice", &["devs"]);
    let pods = rig.get(Some(&alice), "/pods").await;
    assert_eq!(pods.status, 200, "{pods:?}");
    assert_eq!(pods.headers["content-type"], "application/json");
    let list: Value = serde_json::from_str(&pods.body).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], "p");
}

#[tokio::test]
async fn paths_and_methods_are_answered_as_by_the_reference() {
    let rig = Rig::new(OPEN, true).await;
    let alice = rig.authority.client("alice", &[]);
    let unknown = rig.get(None, "/nothing").await;
    assert_eq!(
        (unknown.status, unknown.body.as_str()),
        (404, "404 page not found\n")
    );
    let redirect = rig.get(None, "/logs?x=1").await;
    assert_eq!(
        (redirect.status, &redirect.headers[LOCATION]),
        (307, &"/logs/?x=1".parse().unwrap())
    );
    assert_eq!(
        rig.get(None, "/pods/x").await.status,
        401,
        "strangers are told nothing"
    );
    let below = rig.get(Some(&alice), "/pods/x").await;
    assert_eq!((below.status, below.body.as_str()), (404, "404: Page Not Found"));
    let method = rig.ask(Some(&alice), request(Method::DELETE, "/pods")).await;
    assert_eq!(
        (method.status, method.body.as_str()),
        (405, "405: Method Not Allowed")
    );
    assert_eq!(method.headers["allow"], "GET");
}

#[tokio::test]
async fn rights_are_asked_for_with_the_certificates_name() {
    let mut rig = Rig::new("", true).await;
    let alice = rig.authority.client("alice", &["devs"]);
    let stream = rig.tls(Some(&alice), "http/1.1").await;
    let asked = exchange(stream, request(Method::GET, "/exec/ns/p/c"));
    let answer = async {
        let call = rig.api_server.next().await;
        assert_eq!(
            call.line(),
            "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
        );
        let spec = call.body["spec"].clone();
        call.answer(
            201,
            &json!({"metadata": {}, "spec": {}, "status": {"allowed": false}}),
        );
        spec
    };
    let (got, spec) = tokio::join!(asked, answer);
    assert_eq!(spec["user"], "alice");
    assert_eq!(spec["groups"], json!(["devs", "system:authenticated"]));
    assert_eq!(spec["resourceAttributes"]["verb"], "create");
    let text = "Forbidden (user=alice, verb=create, resource=nodes, subresource(s)=[proxy])\n";
    assert_eq!((got.status, got.body.as_str()), (403, text));
}

#[tokio::test]
async fn http2_is_spoken_and_requests_share_a_connection() {
    let rig = Rig::new(OPEN, true).await;
    let alice = rig.authority.client("alice", &[]);
    let stream = rig.tls(Some(&alice), "h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let ask = |sender: &mut hyper::client::conn::http2::SendRequest<Empty<Bytes>>| {
        let request = hyper::Request::get("https://node-1/pods")
            .body(Empty::new())
            .unwrap();
        sender.send_request(request)
    };
    let both = futures::future::join(ask(&mut sender), ask(&mut sender));
    let (first, second) = timeout(DEADLINE, both).await.unwrap();
    assert_eq!(
        (
            first.unwrap().status().as_u16(),
            second.unwrap().status().as_u16()
        ),
        (200, 200)
    );
    let head = hyper::Request::head("https://node-1/healthz");
    let answer = sender.send_request(head.body(Empty::new()).unwrap());
    let (head, body) = timeout(DEADLINE, answer).await.unwrap().unwrap().into_parts();
    let body = timeout(DEADLINE, body.collect()).await.unwrap().unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-length"], "2");
    assert!(body.to_bytes().is_empty());
    connection.abort();
}

#[tokio::test]
async fn rubbish_and_oversized_heads_are_refused_and_others_are_served() {
    let rig = Rig::new(OPEN, true).await;
    let alice = rig.authority.client("alice", &[]);
    let mut tcp = TcpStream::connect(rig.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    // An alert or a reset: no TLS, no answer.
    let _ = timeout(DEADLINE, tcp.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    for bytes in [
        b"\0\0\0\r\n\r\n".to_vec(),
        format!("GET /pods HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(300 * 1024)).into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish-rubbish-rubbish".to_vec(),
    ] {
        let mut stream = rig.tls(Some(&alice), "http/1.1").await;
        // The server may close before all is written.
        let _ = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(
            !rest.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&rest)
        );
    }
    assert_eq!(rig.get(Some(&alice), "/pods").await.status, 200);
}

#[tokio::test]
async fn the_open_port_has_a_few_paths_and_asks_nobody() {
    let rig = Rig::new("", false).await;
    let get = async |path: &str| {
        let tcp = TcpStream::connect(rig.address).await.unwrap();
        exchange(tcp, request(Method::GET, path)).await
    };
    assert_eq!(get("/pods").await.status, 200);
    let exec = get("/exec/ns/p/c").await;
    assert_eq!(
        (exec.status, exec.body.as_str()),
        (405, "Debug endpoints are disabled.\n")
    );
    assert_eq!(get("/configz").await.status, 404);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let taken = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.address().unwrap();
    let error = Listener::bind(address).await.err().unwrap();
    assert!(error.to_string().contains(&address.to_string()));
}

#[tokio::test]
async fn pages_about_the_agent_itself() {
    let rig = Rig::new(OPEN, true).await;
    let alice = rig.authority.client("alice", &[]);
    let get = async |path: &str| rig.get(Some(&alice), path).await;
    let health = get("/healthz?verbose").await;
    assert_eq!(
        health.body,
        "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n"
    );
    assert_eq!(get("/healthz/syncloop").await.body, "ok");
    let configz: Value = serde_json::from_str(&get("/configz").await.body).unwrap();
    assert_eq!(configz["kubeletconfig"]["authorization"]["mode"], "AlwaysAllow");
    assert!(get("/flagz").await.body.starts_with("\nkubelet flagz\nWarning: "));
    assert!(get("/statusz").await.body.contains("Binary version: 1.36.3"));
    assert_eq!(get("/debug/pprof/heap").await.body, "Unknown profile\n");
    assert!(get("/debug/pprof/cmdline").await.body.contains("gantry"));
    assert_eq!(get("/debug/flags/v").await.status, 406);
    let bad = rig
        .ask(Some(&alice), request(Method::PUT, "/debug/flags/v"))
        .await;
    assert_eq!(
        (bad.status, bad.body.as_str()),
        (400, "strconv.ParseUint: parsing \"\": invalid syntax\n")
    );
    let checkpoint = rig
        .ask(Some(&alice), request(Method::POST, "/checkpoint/ns/x/c"))
        .await;
    assert_eq!(
        (checkpoint.status, checkpoint.body.as_str()),
        (404, "pod does not exist")
    );
    let checkpoint = rig
        .ask(Some(&alice), request(Method::POST, "/checkpoint/ns/p/x"))
        .await;
    assert_eq!(
        (checkpoint.status, checkpoint.body.as_str()),
        (404, "container x does not exist")
    );
    let checkpoint = rig
        .ask(Some(&alice), request(Method::POST, "/checkpoint/ns/p/c"))
        .await;
    let text = "checkpointing of ns/p/c failed (container c not found)";
    assert_eq!((checkpoint.status, checkpoint.body.as_str()), (500, text));
}
