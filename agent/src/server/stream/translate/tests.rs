//! A client of v5, the session behind a real HTTP server, and a runtime that is a script.

use std::convert::Infallible;
use std::net::SocketAddr;

use flate2::{Decompress, FlushDecompress};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::server::stream::relay::upgraded;
use crate::testing::DEADLINE;

const SHELL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const HEAD: &str = "GET /exec/ns/pod/c?command=x HTTP/1.1\r\nHost: node:10250\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\
                    Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                      X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

/// The server and where the runtime is expected; the server ends with the test.
struct Rig {
    front: SocketAddr,
    backend: TcpListener,
    _server: JoinSet<()>,
}

impl Rig {
    async fn start(streams: Streams) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/exec/token", backend.local_addr().unwrap());
        let (listener, mut server) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), JoinSet::new());
        let front = listener.local_addr().unwrap();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let url = url.clone();
                let service = service_fn(move |request| {
                    let session = Session {
                        url: url.clone(),
                        streams,
                        idle: None,
                    };
                    async move {
                        let (head, client) = upgraded::<hyper::body::Incoming>(request).unwrap();
                        let answer: Response<Bytes> = websocket::accept(&head, v5::PROTOCOL).unwrap();
                        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
                        tokio::spawn(session.run(client));
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
        Self {
            front,
            backend,
            _server: server,
        }
    }

    /// A client that has its 101 and the first, empty message.
    async fn client(&self, greeting: u8) -> Client {
        let mut client = Client(TcpStream::connect(self.front).await.unwrap());
        client.0.write_all(HEAD.as_bytes()).await.unwrap();
        assert!(head(&mut client.0).await.starts_with("HTTP/1.1 101 "));
        assert_eq!(client.next().await, Some(vec![greeting]));
        client
    }

    /// The runtime's end of the next session: it has its request and has not answered.
    async fn asked(&self) -> Runtime {
        let (mut stream, _) = within(self.backend.accept()).await.unwrap();
        let asked = head(&mut stream).await.to_ascii_lowercase();
        assert!(asked.starts_with("post /exec/token http/1.1\r\n"), "{asked}");
        for line in [
            "upgrade: spdy/3.1\r\n",
            "x-stream-protocol-version: v4.channel.k8s.io\r\n",
        ] {
            assert!(asked.contains(line), "{asked}");
        }
        Runtime(stream)
    }

    /// Both ends of a session whose streams are open.
    async fn session(&self) -> (Client, Runtime) {
        let (client, mut runtime) = (self.client(1).await, self.asked().await);
        runtime.say(SWITCH.as_bytes()).await;
        runtime
            .takes_streams(&["error", "stdin", "stdout", "stderr"])
            .await;
        (client, runtime)
    }
}

struct Client(TcpStream);

impl Client {
    /// A short message, masked with zeros.
    async fn send(&mut self, message: &[u8]) {
        let length = u8::try_from(message.len()).unwrap();
        assert!(length < 126);
        let frame = [&[0x82, 0x80 | length, 0, 0, 0, 0], message].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next message; `None` when the session is closed.
    async fn next(&mut self) -> Option<Vec<u8>> {
        within(async {
            let kind = self.0.read_u8().await.ok()?;
            let length = match self.0.read_u8().await.unwrap() {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                short => short.into(),
            };
            let mut content = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut content).await.unwrap();
            (kind == 0x82).then_some(content)
        })
        .await
    }

    /// The status that ends the session.
    async fn status(&mut self) -> Value {
        let message = self.next().await.expect("a status");
        assert_eq!(message[0], v5::STATUS);
        let status = serde_json::from_slice(&message[1..]).unwrap();
        assert_eq!(self.next().await, None, "it is the last message");
        status
    }
}

struct Runtime(TcpStream);

impl Runtime {
    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Says this on a stream.
    async fn write(&mut self, stream: u32, bytes: &[u8], last: bool) {
        self.say(&spdy::data_head(stream, bytes.len(), last)).await;
        self.say(bytes).await;
    }

    /// The next frame.
    async fn frame(&mut self) -> ([u8; 8], Vec<u8>) {
        within(async {
            let mut head = [0; 8];
            self.0.read_exact(&mut head).await.unwrap();
            let mut body = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
            self.0.read_exact(&mut body).await.unwrap();
            (head, body)
        })
        .await
    }

    /// Reads how streams are opened, as a server does: with zlib.
    async fn takes_streams(&mut self, kinds: &[&str]) {
        let mut zlib = Decompress::new(true);
        for (number, kind) in (0_u32..).zip(kinds) {
            let (head, body) = self.frame().await;
            assert_eq!(head[..5], [0x80, 3, 0, 1, 0], "a stream is opened");
            assert_eq!(body[..4], (number * 2 + 1).to_be_bytes());
            let mut text = Vec::with_capacity(1000);
            zlib.decompress_vec(&body[10..], &mut text, FlushDecompress::Sync)
                .unwrap();
            let value = u8::try_from(kind.len()).unwrap();
            let expected = [
                b"\0\0\0\x01\0\0\0\x0astreamtype\0\0\0",
                &[value][..],
                kind.as_bytes(),
            ]
            .concat();
            assert_eq!(text, expected);
        }
    }

    /// Waits for the end of the connection.
    async fn over(&mut self) {
        within(async { while !matches!(self.0.read(&mut [0; 100]).await, Ok(0) | Err(_)) {} }).await;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens in time")
}

/// Reads to the end of an HTTP head and not a byte further.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.expect("a whole head"));
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_session_is_translated_both_ways_to_its_status() {
    let rig = Rig::start(SHELL).await;
    let (mut client, mut runtime) = rig.session().await;
    client.send(b"\0hello").await;
    let (head, body) = runtime.frame().await;
    assert_eq!(
        (head[..5].to_vec(), body.as_slice()),
        (vec![0, 0, 0, 3, 0], &b"hello"[..])
    );
    // Input ends, output goes on.
    client.send(&[255, 0]).await;
    assert_eq!(runtime.frame().await.0, spdy::data_head(3, 0, true));
    runtime.write(5, b"out", false).await;
    assert_eq!(client.next().await, Some(b"\x01out".to_vec()));
    runtime.write(7, b"err", false).await;
    assert_eq!(client.next().await, Some(b"\x02err".to_vec()));
    let large = vec![b'x'; 200_000];
    runtime.write(5, &large, true).await;
    let mut got = 0;
    while got < large.len() {
        let message = client.next().await.expect("more output");
        assert_eq!(message[0], 1);
        got += message.len() - 1;
    }
    runtime.write(7, b"", true).await;
    runtime.write(1, SUCCESS, true).await;
    assert_eq!(client.status().await["status"], "Success");
    drop(client);
    runtime.over().await;
}

#[tokio::test]
async fn an_exit_code_is_passed_on() {
    let rig = Rig::start(SHELL).await;
    let (mut client, mut runtime) = rig.session().await;
    let status = br#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"37"}]}}"#;
    for (stream, text) in [(1, &status[..]), (5, b""), (7, b"")] {
        runtime.write(stream, text, true).await;
    }
    let status = client.status().await;
    assert_eq!(status["details"]["causes"][0]["message"], "37");
    assert_eq!(
        status["message"],
        "command terminated with non-zero exit code: command terminated with exit code 37"
    );
}

#[tokio::test]
async fn a_runtime_that_asks_whether_we_are_there_is_answered() {
    let rig = Rig::start(SHELL).await;
    let (_client, mut runtime) = rig.session().await;
    runtime.say(&spdy::pong(8)).await;
    assert_eq!(runtime.frame().await.1, 8_u32.to_be_bytes());
}

#[tokio::test]
async fn a_runtime_that_does_not_want_to_is_quoted() {
    let rig = Rig::start(SHELL).await;
    let (mut client, mut runtime) = (rig.client(1).await, rig.asked().await);
    runtime
        .say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
        .await;
    let status = client.status().await;
    assert_eq!(
        status["message"],
        "Internal error occurred: unable to upgrade connection: gone"
    );
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&500.into(), &"InternalError".into())
    );
}

#[tokio::test]
async fn a_runtime_that_breaks_off_or_talks_rubbish_is_a_failure() {
    let rig = Rig::start(SHELL).await;
    let (mut client, mut runtime) = rig.session().await;
    runtime.write(5, b"half", false).await;
    assert_eq!(client.next().await, Some(b"\x01half".to_vec()));
    drop(runtime);
    assert_eq!(client.status().await["reason"], "InternalError");
    let (mut client, mut runtime) = rig.session().await;
    runtime.say(&[0x80, 9, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(
        client.status().await["message"],
        "Internal error occurred: SPDY version 9"
    );
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_runtimes_connection_with_it() {
    let rig = Rig::start(SHELL).await;
    let (client, mut runtime) = rig.session().await;
    drop(client);
    let (head, _) = runtime.frame().await;
    assert_eq!(head, [0, 0, 0, 3, 1, 0, 0, 0], "its input has ended");
    runtime.over().await;
    // With a last word, and with nonsense.
    for last in [&[0x88, 0x80, 0, 0, 0, 0][..], &[0x82, 0x81, 0, 0, 0, 0, 255]] {
        let (mut client, mut runtime) = rig.session().await;
        client.0.write_all(last).await.unwrap();
        runtime.over().await;
    }
}

#[tokio::test]
async fn a_session_without_output_begins_with_an_empty_status() {
    let rig = Rig::start(Streams {
        stdout: false,
        stderr: false,
        ..SHELL
    })
    .await;
    let (mut client, mut runtime) = (rig.client(3).await, rig.asked().await);
    runtime.say(SWITCH.as_bytes()).await;
    runtime.takes_streams(&["error", "stdin"]).await;
    runtime.write(1, SUCCESS, true).await;
    assert_eq!(client.status().await["status"], "Success");
}
