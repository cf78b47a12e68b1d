//! A model of the part of the API server that the caches talk to: objects with versions, watches by name, tokens.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The server. Clones share its state.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By collection path and name.
    objects: BTreeMap<(String, String), Value>,
    watches: Vec<Watch>,
    /// `GET path`, `WATCH path name`, `POST path`.
    requests: Vec<String>,
    refusals: usize,
    failing: bool,
}

struct Watch {
    collection: String,
    /// `None`: every object.
    name: Option<String>,
    events: UnboundedSender<String>,
}

impl FakeApi {
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Creates or replaces `<plural>/<name>` of a namespace.
    pub(crate) fn put(&self, plural: &str, namespace: &str, name: &str, content: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let mut object = content;
        object["metadata"] = json!({
            "name": name, "namespace": namespace, "resourceVersion": state.version.to_string(),
            "managedFields": [{"manager": "test"}],
        });
        let key = (
            format!("/api/v1/namespaces/{namespace}/{plural}"),
            name.to_owned(),
        );
        let kind = if state.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.tell(&key, kind, &object);
        state.objects.insert(key, object);
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let key = (
            format!("/api/v1/namespaces/{namespace}/{plural}"),
            name.to_owned(),
        );
        if let Some(mut object) = state.objects.remove(&key) {
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.tell(&key, "DELETED", &object);
        }
    }

    pub(crate) fn config_map(&self, namespace: &str, name: &str, data: Value) {
        self.put(
            "configmaps",
            namespace,
            name,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data}),
        );
    }

    /// The next requests are refused with 403, as before the server knows that a pod is bound to the node.
    pub(crate) fn refuse(&self, times: usize) {
        self.state.lock().unwrap().refusals = times;
    }

    /// All requests fail with 500, or none.
    pub(crate) fn fail(&self, failing: bool) {
        self.state.lock().unwrap().failing = failing;
    }

    pub(crate) fn requests(&self, containing: &str) -> usize {
        self.state
            .lock()
            .unwrap()
            .requests
            .iter()
            .filter(|request| request.contains(containing))
            .count()
    }

    /// Watches that somebody still reads.
    pub(crate) fn open_watches(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.watches.retain(|watch| !watch.events.is_closed());
        state.watches.len()
    }

    /// The server closes all watches, as it does every few minutes.
    pub(crate) fn close_watches(&self) {
        self.state.lock().unwrap().watches.clear();
    }

    async fn answer(&self, request: Request<Body>) -> Reply {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut state = self.state.lock().unwrap();
        if state.failing {
            return status(500, "InternalError");
        }
        if state.refusals > 0 {
            state.refusals -= 1;
            return status(403, "Forbidden");
        }
        if query.contains("watch=true") {
            return state.watch(path, &query);
        }
        state.requests.push(format!("{method} {path}"));
        if path.ends_with("/token") {
            return json_reply(200, &token_reply(&serde_json::from_slice(&body).unwrap()));
        }
        let (collection, name) = path.rsplit_once('/').unwrap();
        if let Some(object) = state.objects.get(&(collection.to_owned(), name.to_owned())) {
            return json_reply(200, object);
        }
        if name == "services" {
            let items: Vec<&Value> = state
                .objects
                .iter()
                .filter(|((path, _), _)| path.ends_with("/services"))
                .map(|(_, o)| o)
                .collect();
            let meta = json!({"resourceVersion": state.version.to_string()});
            return json_reply(
                200,
                &json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": meta, "items": items}),
            );
        }
        status(404, "NotFound")
    }
}

impl State {
    fn watch(&mut self, path: String, query: &str) -> Reply {
        let name = query.split('&').find_map(|pair| {
            let selector = pair.strip_prefix("fieldSelector=metadata.name%3D");
            selector
                .or_else(|| pair.strip_prefix("fieldSelector=metadata.name="))
                .map(str::to_owned)
        });
        self.requests
            .push(format!("WATCH {path} {}", name.as_deref().unwrap_or("*")));
        let (events, receiver) = unbounded_channel();
        if query.contains("resourceVersion=0")
            && let Some(name) = &name
            && let Some(object) = self.objects.get(&(path.clone(), name.clone()))
        {
            events.send(line("ADDED", object)).unwrap();
        }
        self.watches.push(Watch {
            collection: path,
            name,
            events,
        });
        let lines = stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok(Frame::data(Bytes::from(line))), receiver))
        });
        Response::new(UnsyncBoxBody::new(StreamBody::new(lines)))
    }

    fn tell(&self, key: &(String, String), kind: &str, object: &Value) {
        let all = format!("/api/v1/{}", key.0.rsplit('/').next().unwrap());
        for watch in &self.watches {
            let same = watch.collection == key.0 || watch.collection == all;
            if same && watch.name.as_ref().is_none_or(|name| *name == key.1) {
                // A reader that went away needs no events.
                let _ = watch.events.send(line(kind, object));
            }
        }
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn token_reply(request: &Value) -> Value {
    let spec = &request["spec"];
    let now = Timestamp::now();
    let seconds = spec["expirationSeconds"].as_i64().unwrap();
    let expires = Timestamp::from_second(now.as_second() + seconds).unwrap();
    let audiences = if spec["audiences"].is_array() {
        spec["audiences"].clone()
    } else {
        json!(["api"])
    };
    let claims = json!({
        "iat": now.as_second(), "exp": expires.as_second(), "aud": audiences,
        "kubernetes.io": {
            "pod": {"name": spec["boundObjectRef"]["name"], "uid": spec["boundObjectRef"]["uid"]},
            "serviceaccount": {"name": "builder"},
        },
    });
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec,
        "status": {"token": jwt(&claims), "expirationTimestamp": expires.to_string()},
    })
}

/// A token with these claims and a signature that nobody checks.
pub(crate) fn jwt(claims: &Value) -> String {
    let encode = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", encode(&json!({"alg": "none"})), encode(claims))
}

fn status(code: u16, reason: &str) -> Reply {
    json_reply(
        code,
        &json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": reason, "reason": reason, "code": code,
        }),
    )
}

fn json_reply(code: u16, value: &Value) -> Reply {
    let body = Full::new(Bytes::from(value.to_string()));
    Response::builder()
        .status(code)
        .body(UnsyncBoxBody::new(body))
        .unwrap()
}

/// Waits until `done`, which must become true within seconds.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "not within 5 s: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
