//! Requests against listeners on loopback.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

/// A server that answers each connection with the next of the answers, and shows what it was asked.
pub(crate) async fn server(answers: Vec<String>) -> (u16, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, requests) = unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Neither the test nor the client must wait for the end.
            let _ = seen.send(asked(&mut stream).await);
            let _ = stream
                .write_all(answer.replace("PORT", &port.to_string()).as_bytes())
                .await;
        }
    });
    (port, requests)
}

async fn asked<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await.unwrap() {
            0 => break,
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn request(action: Value) -> Request {
    let action = serde_json::from_value(action).unwrap();
    let container =
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
            .unwrap();
    Request::new(&action, &container, "127.0.0.1", "kube-probe/1.36").unwrap()
}

#[tokio::test]
async fn a_request_looks_like_the_references() {
    let (port, mut seen) = server(vec![answer("200 OK", "", "fine")]).await;
    let response = get(request(json!({"port": port, "path": "/healthz?full=1"})))
        .await
        .unwrap();
    assert_eq!(
        (response.status, response.body.as_slice()),
        (200, b"fine".as_slice())
    );
    let mut lines: Vec<String> = seen.recv().await.unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "GET /healthz?full=1 HTTP/1.1");
    lines.retain(|line| !line.is_empty());
    lines.sort();
    let host = format!("host: 127.0.0.1:{port}");
    assert_eq!(
        lines,
        [
            "accept: */*",
            "connection: close",
            &host,
            "user-agent: kube-probe/1.36"
        ]
    );
}

#[tokio::test]
async fn headers_of_the_spec_win() {
    let (port, mut seen) = server(vec![answer("200 OK", "", "")]).await;
    let headers = json!([
        {"name": "Host", "value": "web.example"}, {"name": "User-Agent", "value": "me"},
        {"name": "Accept", "value": ""}, {"name": "X-Twice", "value": "1"}, {"name": "X-Twice", "value": "2"},
    ]);
    get(request(json!({"port": port, "httpHeaders": headers})))
        .await
        .unwrap();
    let text = seen.recv().await.unwrap();
    assert!(text.contains("host: web.example\r\n"), "{text}");
    assert!(text.contains("user-agent: me\r\n"), "{text}");
    assert!(
        text.contains("x-twice: 1\r\n") && text.contains("x-twice: 2\r\n"),
        "{text}"
    );
    assert!(!text.contains("accept"), "{text}");
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let to = |location: &str| answer("302 Found", &format!("location: {location}\r\n"), "elsewhere");
    let good = answer("200 OK", "", "");
    let (port, mut seen) = server(vec![
        to("/one"),
        to("two?x"),
        to("http://127.0.0.1:PORT/three"),
        to("//127.0.0.1:PORT/four"),
        good,
    ])
    .await;
    assert_eq!(
        get(request(json!({"port": port, "path": "/a/b"})))
            .await
            .unwrap()
            .status,
        200
    );
    for path in ["/a/b", "/one", "/two?x", "/three", "/four"] {
        let text = seen.recv().await.unwrap();
        assert!(text.starts_with(&format!("GET {path} ")), "{path}: {text}");
    }
    let (port, _) = server(vec![to("http://example.com/")]).await;
    let response = get(request(json!({"port": port}))).await.unwrap();
    assert_eq!(
        (response.status, response.body.as_slice()),
        (302, b"elsewhere".as_slice())
    );
    let (port, _) = server((0..10).map(|_| to("/again")).collect()).await;
    let error = get(request(json!({"port": port}))).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!("Get \"http://127.0.0.1:{port}/again\": stopped after 10 redirects")
    );
}

#[tokio::test]
async fn a_long_body_is_cut() {
    let (port, _) = server(vec![answer("200 OK", "", &"x".repeat(100_000))]).await;
    let response = get(request(json!({"port": port}))).await.unwrap();
    assert_eq!(response.body.len(), 10 * 1024);
}

#[tokio::test]
async fn failures_read_like_the_references() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = get(request(json!({"port": port, "path": "/x"})))
        .await
        .unwrap_err();
    let expected =
        format!("Get \"http://127.0.0.1:{port}/x\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(error.message(), expected);
    let (port, _) = server(vec!["SSH-2.0-x\r\n\r\n".to_owned()]).await;
    assert!(matches!(
        get(request(json!({"port": port}))).await,
        Err(HttpError::Exchange { .. })
    ));
}

#[tokio::test]
async fn https_takes_any_certificate_and_knows_plain_http() {
    let key = rcgen::generate_simple_self_signed(vec!["somebody.else".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        asked(&mut stream).await;
        stream
            .write_all(answer("204 No Content", "", "").as_bytes())
            .await
            .unwrap();
        stream.flush().await.unwrap();
    });
    let secure = request(json!({"port": port, "scheme": "HTTPS", "path": "/"}));
    assert_eq!(secure.url(), format!("https://127.0.0.1:{port}/"));
    assert_eq!(get(secure).await.unwrap().status, 204);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(answer("400 Bad Request", "", "").as_bytes())
            .await
            .unwrap();
        // The client decides when it has seen enough.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = get(request(json!({"port": port, "scheme": "HTTPS"})))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::NotTls { .. }), "{}", error.message());
}

#[test]
fn urls_are_made_of_what_users_write() {
    let cases = [
        (json!({"port": 80}), "http://127.0.0.1:80/"),
        (
            json!({"port": "web", "path": "healthz"}),
            "http://127.0.0.1:8080/healthz",
        ),
        (
            json!({"port": "81", "host": "::1", "path": "/a b#part"}),
            "http://[::1]:81/a%20b",
        ),
        (
            json!({"port": 80, "path": "/é?q=%20"}),
            "http://127.0.0.1:80/%C3%A9?q=%20",
        ),
    ];
    for (action, url) in cases {
        assert_eq!(request(action).url(), url);
    }
}

#[test]
fn ports_are_numbers_or_names_of_the_container() {
    let container =
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
            .unwrap();
    let text = |name: &str| IntOrString::String(name.to_owned());
    assert_eq!(port(&text("web"), &container), Ok(8080));
    assert_eq!(port(&text("90"), &container), Ok(90));
    assert_eq!(port(&IntOrString::Int(90), &container), Ok(90));
    assert_eq!(
        port(&text("none"), &container),
        Err("port none not found".to_owned())
    );
    assert_eq!(
        port(&IntOrString::Int(0), &container),
        Err("invalid port number: 0".to_owned())
    );
    assert_eq!(
        port(&IntOrString::Int(70000), &container),
        Err("invalid port number: 70000".to_owned())
    );
}
