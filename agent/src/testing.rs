//! An API server for tests: requests come out one by one, the test answers each when it likes.

use std::{pin::pin, time::Duration};

use hyper::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse, pair};

/// No test waits longer than this for something that should happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The server's side.
pub(crate) struct ApiServer {
    handle: Handle<Request<Body>, Response<Body>>,
}

/// A request that waits for its answer.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: String,
    /// Null when there is none.
    pub(crate) body: Value,
    respond: SendResponse<Response<Body>>,
}

impl ApiServer {
    pub(crate) fn new() -> (Client, Self) {
        let (service, handle) = pair();
        (Client::new(service, "default"), Self { handle })
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Call {
        let next = tokio::time::timeout(DEADLINE, self.handle.next_request());
        let (request, respond) = next.await.expect("no request came").expect("the client is gone");
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        Call {
            method: head.method,
            path: head.uri.path().to_owned(),
            content_type: head
                .headers
                .get("content-type")
                .map_or_else(String::new, |value| value.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            respond,
        }
    }

    /// Nothing was asked within `time`.
    pub(crate) async fn stays_quiet(&mut self, time: Duration) {
        let next = pin!(self.handle.next_request());
        if let Ok(Some((request, _))) = tokio::time::timeout(time, next).await {
            panic!("unexpected request {} {}", request.method(), request.uri());
        }
    }
}

impl Call {
    /// `METHOD path`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn answer(self, code: u16, body: &Value) {
        let body = serde_json::to_vec(body).unwrap();
        self.respond
            .send_response(Response::builder().status(code).body(Body::from(body)).unwrap());
    }

    /// Answer with what was sent.
    pub(crate) fn echo(self) {
        let body = self.body.clone();
        self.answer(200, &body);
    }

    /// Answer with an API status.
    pub(crate) fn refuse(self, code: u16) {
        let reason = match code {
            404 => "NotFound",
            409 => "Conflict",
            _ => "InternalError",
        };
        self.answer(
            code,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "refused"}),
        );
    }
}
