//! As much of an API server as a kube-proxy asks for: lists and watches of what a test puts there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    EndpointSlice,
    Node,
    ServiceCidr,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::ServiceCidr];

    /// The group and version, and the name of one.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Service => ("v1", "Service"),
            Self::EndpointSlice => ("discovery.k8s.io/v1", "EndpointSlice"),
            Self::Node => ("v1", "Node"),
            Self::ServiceCidr => ("networking.k8s.io/v1", "ServiceCIDR"),
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Service => "/api/v1/services",
            Self::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Node => "/api/v1/nodes",
            Self::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs",
        }
    }
}

/// A server of its own for each test. It ends with the process; its watches end with this value.
#[derive(Debug)]
pub(crate) struct Api {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct Shared {
    store: Mutex<Store>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Store {
    objects: BTreeMap<(Kind, String), Value>,
    /// All changes; a resource version is how many of them came before.
    log: Vec<(Kind, Value)>,
    /// Events for users, as they came.
    events: Vec<Value>,
    closed: bool,
}

impl Store {
    fn tell(&mut self, kind: Kind, what: &str, object: &mut Value) {
        let version = (self.log.len() + 1).to_string();
        object["metadata"]["resourceVersion"] = version.into();
        self.log.push((kind, json!({"type": what, "object": object})));
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        let all = self.objects.iter().filter(move |((k, _), _)| *k == kind);
        all.map(|(_, object)| object)
    }
}

impl Api {
    /// To be called in the namespace of the client.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&all);
                // A client that has gone is no concern of the server.
                std::thread::spawn(move || shared.serve(&stream).unwrap_or_default());
            }
        });
        Self { shared, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes an object or puts it in the place of the one of the same name.
    pub(crate) fn put(&self, kind: Kind, name: &str, mut object: Value) {
        let (version, of_kind) = kind.names();
        object["apiVersion"] = version.into();
        object["kind"] = of_kind.into();
        let (namespace, short) = name.split_once('/').unwrap_or(("", name));
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["name"] = short.into();
        object["metadata"]["uid"] = name.into();
        let mut store = self.shared.lock();
        let key = (kind, name.to_owned());
        let what = if store.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        store.tell(kind, what, &mut object);
        store.objects.insert(key, object);
        self.shared.news.notify_all();
    }

    pub(crate) fn remove(&self, kind: Kind, name: &str) {
        let mut store = self.shared.lock();
        if let Some(mut object) = store.objects.remove(&(kind, name.to_owned())) {
            store.tell(kind, "DELETED", &mut object);
            self.shared.news.notify_all();
        }
    }

    /// The first event for users with this reason, once it is there.
    #[allow(dead_code, reason = "the packet tests do not look at them")]
    pub(crate) fn event(&self, reason: &str) -> Option<Value> {
        let store = self.shared.lock();
        let mut all = store.events.iter();
        all.find(|event| event["reason"] == reason).cloned()
    }

    /// The names of all objects of a kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        let store = self.shared.lock();
        let names = store.objects.keys().filter(|(k, _)| *k == kind);
        names.map(|(_, name)| name.clone()).collect()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request after the other, until there is a watch.
    fn serve(&self, stream: &TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            let kind = Kind::ALL.into_iter().find(|kind| kind.path() == request.path);
            match kind {
                Some(kind) if request.has("watch=1") || request.has("watch=true") => {
                    return self.watch(kind, &request, stream);
                }
                Some(kind) => answer(stream, "200 OK", &self.list(kind))?,
                None if request.method == "POST" => {
                    answer(stream, "201 Created", &request.body)?;
                    self.lock().events.push(request.body);
                }
                None => {
                    let absent = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
                    answer(stream, "404 Not Found", &absent)?;
                }
            }
        }
        Ok(())
    }

    fn list(&self, kind: Kind) -> Value {
        let store = self.lock();
        let (version, name) = kind.names();
        let items: Vec<&Value> = store.of(kind).collect();
        json!({
            "apiVersion": version,
            "kind": format!("{name}List"),
            "metadata": {"resourceVersion": store.log.len().to_string()},
            "items": items,
        })
    }

    fn watch(&self, kind: Kind, request: &Request, mut stream: &TcpStream) -> Result<()> {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )?;
        let mut next = request.resource_version();
        let mut first = Vec::new();
        if request.has("sendInitialEvents=true") {
            let store = self.lock();
            next = store.log.len();
            let (version, name) = kind.names();
            first.extend(
                store
                    .of(kind)
                    .map(|object| json!({"type": "ADDED", "object": object})),
            );
            let end = json!({"resourceVersion": next.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
            let mark = json!({"apiVersion": version, "kind": name, "metadata": end});
            first.push(json!({"type": "BOOKMARK", "object": mark}));
        }
        loop {
            for event in &first {
                let text = format!("{event}\n");
                write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
            }
            let mut store = self.lock();
            while store.log.len() <= next && !store.closed {
                store = self.news.wait(store).unwrap_or_else(PoisonError::into_inner);
            }
            if store.closed {
                return Ok(());
            }
            let news = store.log.get(next..).unwrap_or_default();
            first = news
                .iter()
                .filter(|(k, _)| *k == kind)
                .map(|(_, event)| event.clone())
                .collect();
            next = store.log.len();
        }
    }
}

fn answer(mut stream: &TcpStream, status: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
    )
}

/// What of a request is looked at.
struct Request {
    method: String,
    path: String,
    query: Vec<String>,
    body: Value,
}

impl Request {
    /// The next one; none when the client has gone.
    fn read(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut len = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Ok(Some(Self {
            method,
            path: path.to_owned(),
            query: query.split('&').map(str::to_owned).collect(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }))
    }

    fn has(&self, part: &str) -> bool {
        self.query.iter().any(|p| p == part)
    }

    fn resource_version(&self) -> usize {
        let version = self.query.iter().find_map(|p| p.strip_prefix("resourceVersion="));
        version.and_then(|version| version.parse().ok()).unwrap_or(0)
    }
}
