//! Single runs of probes.

use std::sync::Mutex;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::probes::http::tests::{answer, server};
use crate::runtime::ExecOutput;

/// A runtime that knows one answer, and keeps what it was asked.
pub(crate) struct FakeExec {
    answer: Result<ExecOutput, RuntimeError>,
    pub(crate) asked: Mutex<Vec<(String, Vec<String>, Duration)>>,
}

impl FakeExec {
    pub(crate) fn new(answer: Result<ExecOutput, RuntimeError>) -> Arc<Self> {
        Arc::new(Self {
            answer,
            asked: Mutex::default(),
        })
    }

    pub(crate) fn exits(exit_code: i32) -> Arc<Self> {
        Self::new(Ok(ExecOutput {
            stdout: b"out ".to_vec(),
            stderr: b"err".to_vec(),
            exit_code,
        }))
    }
}

impl ContainerExec for FakeExec {
    fn exec(
        &self,
        container_id: &str,
        command: Vec<String>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<ExecOutput, RuntimeError>> {
        self.asked
            .lock()
            .unwrap()
            .push((container_id.to_owned(), command, limit));
        Box::pin(std::future::ready(self.answer.clone()))
    }
}

async fn run(exec: Arc<FakeExec>, probe: Value, limit: Duration) -> Answer {
    let container: Container = serde_json::from_value(json!({
        "name": "c", "env": [{"name": "WHO", "value": "me"}, {"name": "IP", "valueFrom": {}}],
        "ports": [{"name": "web", "containerPort": 8080}],
    }))
    .unwrap();
    let target = Target {
        pod: Arc::new(Pod::default()),
        container: "c".to_owned(),
        container_id: "id".to_owned(),
        pod_ip: Some([127, 0, 0, 1].into()),
        started_at: jiff::Timestamp::now(),
        started: true,
        adopted: false,
    };
    let probe = serde_json::from_value(probe).unwrap();
    Checker::new(exec).check(&probe, &container, &target, limit).await
}

const SECOND: Duration = Duration::from_secs(1);

async fn refused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test]
async fn commands_answer_by_their_exit_code() {
    let command = json!({"exec": {"command": ["check", "$(WHO)", "$(IP)", "$$(WHO)", "$5", "$(WHO"]}});
    let exec = FakeExec::exits(0);
    assert_eq!(
        run(Arc::clone(&exec), command.clone(), SECOND).await,
        Answer::Success
    );
    let asked = exec.asked.lock().unwrap().clone();
    let words = ["check", "me", "$(IP)", "$(WHO)", "$5", "$(WHO"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(asked, [("id".to_owned(), words, SECOND)]);
    assert_eq!(
        run(FakeExec::exits(2), command, SECOND).await,
        Answer::Failure("out err".to_owned())
    );
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_a_failure_and_a_runtime_that_fails_is_none() {
    let command = json!({"exec": {"command": ["sleep", "9"]}});
    let late = FakeExec::new(Err(RuntimeError::Timeout {
        operation: "ExecSync",
        limit: SECOND,
    }));
    assert_eq!(
        run(Arc::clone(&late), command.clone(), SECOND).await,
        Answer::Failure("command timed out: \"sleep 9\" timed out after 1s".to_owned())
    );
    assert_eq!(late.asked.lock().unwrap().len(), 1);
    let broken = FakeExec::new(Err(RuntimeError::Unreachable {
        operation: "ExecSync",
        message: "gone".to_owned(),
    }));
    assert!(matches!(
        run(Arc::clone(&broken), command, SECOND).await,
        Answer::Error(_)
    ));
    assert_eq!(broken.asked.lock().unwrap().len(), 3, "tried again at once");
}

#[tokio::test]
async fn http_answers_by_its_status() {
    let redirect = answer("301 Moved", "location: http://example.com/\r\n", "moved");
    let cases = [
        (answer("200 OK", "", ""), Answer::Success),
        (
            answer("399 Odd", "", "x"),
            Answer::Warning("Probe terminated redirects, Response body: x".to_owned()),
        ),
        (
            redirect,
            Answer::Warning("Probe terminated redirects, Response body: moved".to_owned()),
        ),
        (
            answer("500 Oops", "", "secret"),
            Answer::Failure("HTTP probe failed with statuscode: 500".to_owned()),
        ),
        (
            answer("404 No", "", ""),
            Answer::Failure("HTTP probe failed with statuscode: 404".to_owned()),
        ),
    ];
    for (reply, expected) in cases {
        let (port, _seen) = server(vec![reply]).await;
        assert_eq!(
            run(FakeExec::exits(0), json!({"httpGet": {"port": port}}), SECOND).await,
            expected
        );
    }
}

#[tokio::test]
async fn silence_is_a_failure_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = json!({"httpGet": {"port": port, "path": "/x"}});
    let expected = format!(
        "Get \"http://127.0.0.1:{port}/x\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    );
    assert_eq!(
        run(FakeExec::exits(0), probe, Duration::from_millis(50)).await,
        Answer::Failure(expected)
    );
}

#[tokio::test]
async fn tcp_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(
        run(FakeExec::exits(0), json!({"tcpSocket": {"port": port}}), SECOND).await,
        Answer::Success
    );
    let port = refused_port().await;
    let expected = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let refused = run(FakeExec::exits(0), json!({"tcpSocket": {"port": port}}), SECOND).await;
    assert_eq!(refused, Answer::Failure(expected));
    let nameless = run(FakeExec::exits(0), json!({"tcpSocket": {"port": "none"}}), SECOND).await;
    assert_eq!(nameless, Answer::Error("port none not found".to_owned()));
}

#[tokio::test]
async fn grpc_speaks_the_health_protocol() {
    let port = health_server().await;
    let probe = |service: &str| json!({"grpc": {"port": port, "service": service}});
    assert_eq!(
        run(FakeExec::exits(0), probe("up"), SECOND).await,
        Answer::Success
    );
    assert_eq!(
        run(FakeExec::exits(0), probe("down"), SECOND).await,
        Answer::Failure("service unhealthy (responded with \"NOT_SERVING\")".to_owned())
    );
    let Answer::Failure(message) = run(FakeExec::exits(0), probe("none"), SECOND).await else {
        panic!("no failure")
    };
    assert_eq!(
        message,
        "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"
    );
    let port = refused_port().await;
    let refused = run(FakeExec::exits(0), json!({"grpc": {"port": port}}), SECOND).await;
    let expected = format!("error: failed to connect service at \"127.0.0.1:{port}\"");
    assert!(
        matches!(&refused, Answer::Failure(text) if text.starts_with(&expected)),
        "{refused:?}"
    );
}

/// `grpc.health.v1.Health` by hand: HTTP/2, one message in a five byte frame each way.
async fn health_server() -> u16 {
    use http_body_util::BodyExt as _;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = |request: hyper::Request<hyper::body::Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        assert!(
            request.headers()["user-agent"]
                .to_str()
                .unwrap()
                .starts_with("kube-probe/1.36")
        );
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let (status, data) = match asked.get(7..).unwrap_or_default() {
            b"up" => (0, vec![0, 0, 0, 0, 2, 8, 1]),
            b"down" => (0, vec![0, 0, 0, 0, 2, 8, 2]),
            _ => (5, vec![]),
        };
        let mut response = hyper::Response::builder().header("content-type", "application/grpc");
        if status != 0 {
            response = response
                .header("grpc-status", status)
                .header("grpc-message", "unknown service");
        }
        let mut trailers = hyper::HeaderMap::new();
        trailers.insert("grpc-status", status.into());
        let body = http_body_util::Full::new(bytes::Bytes::from(data));
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
        Ok::<_, std::convert::Infallible>(response.body(body).unwrap())
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer);
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    port
}
