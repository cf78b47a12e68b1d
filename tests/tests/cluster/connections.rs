//! Port 10250 below its paths: versions of TLS, requests that are none, too big ones, connections that say nothing.

use std::io::{Read, Write};
use std::net::TcpStream;

use gantry_tests::cluster::{NetNs, NodeApi, Test, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NODE: &str = "node-1";

/// What is answered to these bytes on an encrypted connection, until it is closed or nothing more comes.
#[track_caller]
fn say(test: &Test, api: &NodeApi, bytes: &[u8]) -> String {
    let mut connection = api.raw().expect("an encrypted connection");
    let mut answer = Vec::new();
    test.cluster.within(secs(5), async {
        // A peer that has heard enough may close while it is still spoken to.
        let _ = connection.write_all(bytes).await;
        let _ = connection.flush().await;
        let _ = connection.read_to_end(&mut answer).await;
    });
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// The first bytes of a TLS conversation with this version and a few suites of its time.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    const SUITES: [u8; 12] = [
        0xc0, 0x09, 0xc0, 0x0a, 0xc0, 0x13, 0xc0, 0x14, 0x00, 0x2f, 0x00, 0x35,
    ];
    const EXTENSIONS: [u8; 14] = [
        0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, // supported groups: P-256
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // uncompressed points
    ];
    // A record with a handshake message, a hello of 67 bytes: version, random, no session.
    let mut hello = vec![22, 3, 1, 0, 71, 1, 0, 0, 67];
    hello.extend(version);
    hello.extend([7; 32]);
    hello.extend([0, 0, 12]);
    hello.extend(SUITES);
    // One compression method, which is none.
    hello.extend([1, 0, 0, 14]);
    hello.extend(EXTENSIONS);
    hello
}

fn connect(api: &NodeApi) -> TcpStream {
    NetNs::outside().connect(api.address()).expect("the port is open")
}

#[test]
fn only_tls_1_2_and_1_3_are_spoken() {
    let test = Test::start("con-tls");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let answer = NodeApi::with_versions(&test, NODE, &[version]).get("/healthz");
        assert_eq!(answer.status, 401, "{version:?}");
    }
    let api = NodeApi::anonymous(&test, NODE);
    for version in [[3, 0], [3, 1], [3, 2]] {
        let mut stream = connect(&api);
        stream.write_all(&client_hello(version)).expect("a hello is sent");
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("an alert comes back");
        // A fatal alert: no such version, or nothing in common at all.
        let (kind, level, reason) = (answer[0], answer[5], answer[6]);
        assert!(
            (kind, level) == (21, 2) && [40, 70].contains(&reason),
            "version {version:?}: {answer:?}"
        );
    }
}

#[test]
fn without_tls_nothing_is_served() {
    let test = Test::start("con-plain");
    let api = NodeApi::anonymous(&test, NODE);
    for request in [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(),
        b"\0\0\0\0\0\0\0\0\0\0",
        &[0xff; 4096],
    ] {
        let mut stream = connect(&api);
        stream.write_all(request).expect("it is sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(" 200 ") && !answer.contains("401"), "{answer}");
    }
    // Nor on other ports.
    let outside = NetNs::outside();
    for port in [10248, 10255] {
        let mut address = api.address();
        address.set_port(port);
        assert!(
            outside.connect(address).is_err(),
            "port {port} is open to everybody"
        );
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let test = Test::start("con-malformed");
    let api = NodeApi::of_api_server(&test, NODE);
    for request in [
        "NONSENSE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        "POST /stats/summary HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /stats/summary HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\nhello",
    ] {
        let answer = say(&test, &api, request.as_bytes());
        assert!(
            answer.is_empty() || matches!(status(&answer), Some(400 | 501 | 505)),
            "{request:?}: {answer:?}"
        );
    }
    assert_eq!(api.get("/healthz").text(), "ok");
}

#[test]
fn headers_that_are_too_big_are_refused() {
    let test = Test::start("con-big");
    let api = NodeApi::of_api_server(&test, NODE);
    let big = |bytes: usize| {
        format!(
            "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Big: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    let many: String = (0..100_000).map(|n| format!("X-{n}: some value\r\n")).collect();
    assert_eq!(status(&say(&test, &api, big(16 * 1024).as_bytes())), Some(200));
    for request in [
        big(4 * 1024 * 1024),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(4 * 1024 * 1024)),
    ] {
        let answer = say(&test, &api, request.as_bytes());
        assert!(
            answer.is_empty() || matches!(status(&answer), Some(400 | 414 | 431)),
            "{} bytes: {answer:?}",
            request.len()
        );
    }
    assert_eq!(api.get("/healthz").text(), "ok");
}

/// The answer to a request that asks for a tunnel, and that to the request behind it on the same connection, which
/// would go to the runtime's own server if it were one.
#[track_caller]
fn smuggle(test: &Test, api: &NodeApi, head: &str) -> (Option<u16>, Option<u16>) {
    let request = format!(
        "{head}Content-Length: 0\r\n\r\nGET /nonsense HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    let answer = say(test, api, request.as_bytes());
    let second = answer.get(1..).and_then(|rest| rest.split_once("HTTP/1.1 "));
    let second = second.and_then(|(_, rest)| rest.get(..3)?.parse().ok());
    (status(&answer), second)
}

#[test]
fn an_upgrade_that_is_none_is_refused_and_nothing_is_smuggled() {
    let test = Test::start("con-upgrade");
    test.idle_pod("idle", NODE);
    let api = NodeApi::of_api_server(&test, NODE);
    let space = test.namespace();
    let spdy = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    let exec = "idle/c?command=id&output=1";
    for (path, headers, statuses) in [
        (format!("/exec/{space}/{exec}"), "", [500].as_slice()),
        (format!("/exec/{space}/{exec}"), "Upgrade: SPDY/3.1\r\n", &[500]),
        (format!("/portForward/{space}/idle"), "", &[500]),
        (
            format!("/exec/{space}/{exec}"),
            "Connection: Upgrade\r\n",
            &[400, 500],
        ),
        (
            format!("/exec/{space}/{exec}"),
            "Connection: Upgrade\r\nUpgrade: nonsense\r\n",
            &[400, 403, 500],
        ),
        (
            format!("/exec/{space}/{exec}"),
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            &[400, 403, 405, 500],
        ),
        (format!("/exec/{space}/{exec}"), spdy, &[400, 403, 500]),
        (format!("/exec/{space}/idle/c?command=id"), spdy, &[400]),
        (format!("/attach/{space}/idle/c"), spdy, &[400]),
        (
            format!("/exec/{space}/nobody/c?command=id&output=1"),
            spdy,
            &[404],
        ),
        (
            format!("/exec/{space}/idle/nobody?command=id&output=1"),
            spdy,
            &[500],
        ),
    ] {
        for method in ["POST", "GET"] {
            let (first, second) = smuggle(
                &test,
                &api,
                &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}"),
            );
            assert!(
                first.is_some_and(|status| statuses.contains(&status)) && matches!(second, None | Some(404)),
                "{method} {path} {headers:?}: {first:?}, then {second:?}"
            );
        }
    }
}

#[test]
fn connections_that_say_nothing_delay_nobody() {
    let test = Test::start("con-idle");
    let api = NodeApi::of_api_server(&test, NODE);
    let nobody = NodeApi::anonymous(&test, NODE);
    // Some have not begun to encrypt, some have, some are in the middle of a request.
    let silent: Vec<_> = (0..400).map(|_| connect(&nobody)).collect();
    let mut encrypted: Vec<_> = (0..150).map(|_| nobody.raw().expect("a connection")).collect();
    let half = test.cluster.within(secs(20), async {
        for connection in encrypted.iter_mut().take(100) {
            connection.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await?;
            connection.flush().await?;
        }
        Ok::<_, std::io::Error>(())
    });
    assert!(matches!(half, Some(Ok(()))), "{half:?}");
    for _ in 0..20 {
        let answered = std::time::Instant::now();
        assert_eq!(api.get("/healthz").text(), "ok");
        assert!(answered.elapsed() < secs(5), "after {:?}", answered.elapsed());
    }
    let kubectl = test.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/healthz")]);
    assert_eq!(kubectl, "ok");
    drop((silent, encrypted));
}
