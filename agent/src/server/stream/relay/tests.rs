//! A real client, the relay behind a real HTTP server, and a backend that is a script.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::report::Chain;
use crate::testing::DEADLINE;

const HEAD: &str = "POST /exec/ns/pod/c?command=x HTTP/1.1\r\nHost: node:10250\r\nAuthorization: Bearer secret\r\n\
                    Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
                    Content-Length: 0\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                      X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";

/// The relay's server and the backend; both end with the test.
struct Rig {
    front: SocketAddr,
    /// Connections that arrive at the backend.
    arrivals: mpsc::Receiver<TcpStream>,
    _tasks: JoinSet<()>,
}

impl Rig {
    async fn start() -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/exec/token", backend.local_addr().unwrap());
        let (sender, arrivals) = mpsc::channel(100);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = backend.accept().await {
                sender.send(stream).await.unwrap();
            }
        });
        let front = serve(url, &mut tasks).await;
        Self {
            front,
            arrivals,
            _tasks: tasks,
        }
    }

    /// A client that has sent this.
    async fn client(&self, text: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.front).await.unwrap();
        client.write_all(text.as_bytes()).await.unwrap();
        client
    }

    /// The backend's next connection and the head that came over it.
    async fn arrival(&mut self) -> (TcpStream, String) {
        let mut stream = timeout(DEADLINE, self.arrivals.recv()).await.unwrap().unwrap();
        let head = head(&mut stream).await;
        (stream, head)
    }

    /// Both ends of a session.
    async fn session(&mut self) -> (TcpStream, TcpStream) {
        let mut client = self.client(HEAD).await;
        let (mut backend, _) = self.arrival().await;
        backend.write_all(SWITCH.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        (client, backend)
    }
}

async fn serve(url: String, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let url = url.clone();
            let service = service_fn(move |request| {
                let url = url.clone();
                async move {
                    let answer = relay(request, &url, None).await;
                    let answer = answer.unwrap_or_else(|error| {
                        let mut refused = Response::new(Bytes::from(Chain(&error).to_string()));
                        *refused.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                        refused
                    });
                    Ok::<_, Infallible>(answer.map(Full::new))
                }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connections.spawn(async move {
                // Clients of these tests break off when they like.
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

/// Reads to the end of an HTTP head and not a byte further.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(DEADLINE, stream.read_u8()).await.unwrap();
        head.push(byte.expect("a whole head"));
    }
    String::from_utf8(head).unwrap()
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let read = timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap();
    read.unwrap();
    text
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    timeout(DEADLINE, stream.read_exact(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), text);
}

/// Reads until the connection is over, one way or the other.
async fn over(stream: &mut TcpStream) {
    let mut buffer = [0; 100];
    let read = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    timeout(DEADLINE, read).await.expect("the connection ends");
}

#[tokio::test]
async fn the_upgrade_is_handed_over_without_the_clients_credentials() {
    let mut rig = Rig::start().await;
    let mut client = rig.client(HEAD).await;
    let (mut backend, head_there) = rig.arrival().await;
    let lower = head_there.to_ascii_lowercase();
    assert!(
        head_there.starts_with("POST /exec/token HTTP/1.1\r\n"),
        "{head_there}"
    );
    for header in [
        "connection: upgrade",
        "upgrade: spdy/3.1",
        "x-stream-protocol-version: v4.channel.k8s.io",
    ] {
        assert!(lower.contains(header), "{head_there}");
    }
    assert!(
        !lower.contains("secret") && !lower.contains("authorization"),
        "{head_there}"
    );
    backend.write_all(SWITCH.as_bytes()).await.unwrap();
    let lower = head(&mut client).await.to_ascii_lowercase();
    assert!(lower.contains("upgrade: spdy/3.1"), "{lower}");
    assert!(
        lower.contains("x-stream-protocol-version: v4.channel.k8s.io"),
        "{lower}"
    );
}

#[tokio::test]
async fn bytes_that_come_with_the_heads_are_not_lost() {
    let mut rig = Rig::start().await;
    let mut client = rig.client(&format!("{HEAD}early question")).await;
    let (mut backend, _) = rig.arrival().await;
    backend
        .write_all(format!("{SWITCH}early answer").as_bytes())
        .await
        .unwrap();
    head(&mut client).await;
    expect(&mut client, "early answer").await;
    expect(&mut backend, "early question").await;
}

#[tokio::test]
async fn an_end_of_either_side_is_passed_on_alone() {
    let mut rig = Rig::start().await;
    let (mut client, mut backend) = rig.session().await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut backend).await, "last words");
    backend.write_all(b"answer to them").await.unwrap();
    backend.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "answer to them");
}

#[tokio::test]
async fn a_refusal_is_passed_on_as_it_is_and_nothing_after_it_is_a_session() {
    let mut rig = Rig::start().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client = rig.client(&format!("{HEAD}{smuggled}")).await;
    let (mut backend, _) = rig.arrival().await;
    let refusal =
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nX-Why: so\r\nContent-Length: 3\r\n\r\nno!";
    backend.write_all(refusal.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\nno!"),
        "{answer}"
    );
    assert!(answer.to_ascii_lowercase().contains("x-why: so\r\n"), "{answer}");
    over(&mut backend).await;
    assert!(
        rig.arrivals.try_recv().is_err(),
        "the second request went nowhere"
    );
}

#[tokio::test]
async fn a_chunked_refusal_arrives_whole() {
    let mut rig = Rig::start().await;
    let mut client = rig.client(HEAD).await;
    let (mut backend, _) = rig.arrival().await;
    let refusal = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n";
    backend.write_all(refusal.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("\r\n\r\ngone"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_answer_that_neither_switches_nor_refuses_is_an_error() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            302,
        ),
    ] {
        let mut rig = Rig::start().await;
        let mut client = rig.client(HEAD).await;
        let (mut backend, _) = rig.arrival().await;
        backend.write_all(answer.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 500 "));
        expect(
            &mut client,
            &format!("invalid upgrade response: status code {status}"),
        )
        .await;
        over(&mut backend).await;
        assert!(rig.arrivals.try_recv().is_err(), "no redirection is followed");
    }
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_never_reaches_the_backend() {
    let plain = "POST / HTTP/1.1\r\nHost: x\r\n\r\n";
    let with_body = HEAD.replace("Content-Length: 0\r\n\r\n", "Content-Length: 4\r\n\r\nbody");
    for (request, why) in [
        (plain, "Upgrade request required"),
        (with_body.as_str(), "an upgrade request must not have a body"),
    ] {
        let mut rig = Rig::start().await;
        let mut client = rig.client(request).await;
        assert!(head(&mut client).await.starts_with("HTTP/1.1 500 "));
        expect(&mut client, why).await;
        assert!(rig.arrivals.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there_or_talks_rubbish_is_an_error() {
    let (mut tasks, url) = (JoinSet::new(), "http://127.0.0.1:1/exec/token".to_owned());
    let front = serve(url, &mut tasks).await;
    let mut client = TcpStream::connect(front).await.unwrap();
    client.write_all(HEAD.as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 500 "));
    expect(&mut client, "error dialing backend: dial tcp 127.0.0.1:1: ").await;

    let mut rig = Rig::start().await;
    let mut client = rig.client(HEAD).await;
    let (mut backend, _) = rig.arrival().await;
    backend
        .write_all(b"\x80\x03\x00\x01 not HTTP\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 500 "));
    expect(&mut client, "the container runtime's streaming server broke off").await;
}

#[tokio::test]
async fn only_http_addresses_are_connected_to() {
    for url in [
        "",
        "not a url",
        "https://127.0.0.1:1/x",
        "unix:///run/x",
        "/exec/token",
    ] {
        let parts = Request::new(()).into_parts().0;
        let answer = backend::ask(url, &parts).await;
        assert!(matches!(answer, Err(BackendError::Address { .. })), "{url}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_backends_connection_with_it() {
    let mut rig = Rig::start().await;
    // Before the answer.
    let client = rig.client(HEAD).await;
    let (mut backend, _) = rig.arrival().await;
    drop(client);
    over(&mut backend).await;
    // In the session.
    let (client, mut backend) = rig.session().await;
    drop(client);
    over(&mut backend).await;
    // Without a word: its machine says reset.
    let (client, mut backend) = rig.session().await;
    client.set_zero_linger().unwrap();
    drop(client);
    over(&mut backend).await;
}

#[tokio::test]
async fn a_backend_that_breaks_ends_the_clients_connection() {
    let mut rig = Rig::start().await;
    let (mut client, backend) = rig.session().await;
    backend.set_zero_linger().unwrap();
    drop(backend);
    over(&mut client).await;
}

#[tokio::test]
async fn many_sessions_do_not_disturb_each_other() {
    let mut rig = Rig::start().await;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(rig.session().await);
    }
    for (number, (client, _)) in sessions.iter_mut().enumerate() {
        client.write_all(format!("{number:04}").as_bytes()).await.unwrap();
    }
    for (number, (client, backend)) in sessions.iter_mut().enumerate() {
        expect(backend, &format!("{number:04}")).await;
        backend
            .write_all(format!("{number:05}").as_bytes())
            .await
            .unwrap();
        expect(client, &format!("{number:05}")).await;
    }
}

#[test]
fn web_socket_upgrades_are_recognised() {
    let of = |connection: &'static str, upgrade: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, hyper::header::HeaderValue::from_static(connection));
        headers.insert(UPGRADE, hyper::header::HeaderValue::from_static(upgrade));
        is_web_socket(&headers)
    };
    assert!(of("keep-alive, Upgrade", "WebSocket"));
    assert!(!of("Upgrade", "SPDY/3.1") && !of("close", "websocket"));
    assert!(!is_web_socket(&HeaderMap::new()));
}
