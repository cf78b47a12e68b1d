//! What must not notice a fault: pods that run in peace, and a connection between two of them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use gantry_tests::cluster::{NetNs, Test, exchange_line, pods, secs, wait::holds, wait::poll_ok};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

/// What must not change on a node while its programs come and go.
pub(crate) struct Bystanders<'a> {
    test: &'a Test,
    node: &'static str,
    service: SocketAddr,
    client: NetNs,
    stream: TcpStream,
    /// Something is done to the proxy: where it is a pod, that pod is no bystander.
    proxy_is_victim: bool,
    before: BTreeMap<String, Vec<(String, String, i32)>>,
}

impl<'a> Bystanders<'a> {
    /// A server and a client on the node, and a connection between them through a Service.
    pub(crate) fn watch(test: &'a Test, node: &'static str) -> Self {
        Self::beside(test, node, false)
    }

    /// The same when something is to be done to the node's proxy.
    pub(crate) fn of_the_proxy(test: &'a Test, node: &'static str) -> Self {
        Self::beside(test, node, true)
    }

    fn beside(test: &'a Test, node: &'static str, proxy_is_victim: bool) -> Self {
        test.note_machine(node);
        let (server, client) = (test.idle_pod("server", node), test.idle_pod("client", node));
        let listener = test
            .net_of(&server)
            .run(|| TcpListener::bind((pods::ip(&server), 9000)));
        std::thread::spawn(|| echo(&listener.expect("a listener in the server's pod")));
        let service = service_for(test, "server");
        let client = test.net_of(&client);
        let stream = poll_ok(secs(30), "the Service answers", || {
            client.connect(service).map_err(|error| error.to_string())
        });
        let mut watched = Self {
            test,
            node,
            service,
            client,
            stream,
            proxy_is_victim,
            before: BTreeMap::new(),
        };
        watched.before = watched.identities();
        watched.assert_connected();
        watched
    }

    /// Ids and restart counts of every container on the node that runs in peace: of this test and of the system.
    fn identities(&self) -> BTreeMap<String, Vec<(String, String, i32)>> {
        let mut all = BTreeMap::new();
        for namespace in [self.test.namespace(), "kube-system", "default"] {
            let api: Api<Pod> = Api::namespaced(self.test.cluster.client(), namespace);
            let list = ListParams::default().fields(&format!("spec.nodeName={}", self.node));
            let found = poll_ok(secs(30), "pods are listed", || {
                self.test.cluster.request(api.list(&list))
            });
            let owned = found
                .into_iter()
                .filter(|pod| namespace != self.test.namespace() || bystander(pod))
                .filter(|pod| !(self.proxy_is_victim && is_daemon(pod)));
            all.extend(owned.map(|pod| (pod.name_any(), pods::identities(&pod))));
        }
        all
    }

    /// The old connection still carries data.
    #[track_caller]
    fn assert_connected(&mut self) {
        let answer = exchange_line(&mut self.stream, "still there?");
        assert_eq!(
            answer.ok().as_deref(),
            Some("still there?"),
            "the connection through the Service broke"
        );
    }

    /// As `assert_connected`, for as long as `duration`, and new connections work as well.
    #[track_caller]
    pub(crate) fn stay_connected(&mut self, duration: Duration) {
        let (client, service, stream) = (&self.client, self.service, &mut self.stream);
        holds(duration, "connections through the Service", || {
            for (what, connection) in [("old", stream.try_clone()), ("new", client.connect(service))] {
                let answer = connection.and_then(|mut connection| exchange_line(&mut connection, "hello"));
                if answer.as_deref().ok() != Some("hello") {
                    return Err(format!("{what} connection: {answer:?}"));
                }
            }
            Ok(())
        });
    }

    /// Nothing was restarted, the connection lives, and the node does new work.
    #[track_caller]
    pub(crate) fn assert_unharmed(&mut self) {
        self.assert_connected();
        assert_eq!(self.identities(), self.before, "containers on {}", self.node);
        let fresh = format!("fresh-{:04x}", rand::random::<u16>());
        let pod = self.test.idle_pod(&fresh, self.node);
        let listener = self
            .test
            .net_of(&pod)
            .run(|| TcpListener::bind((pods::ip(&pod), 9000)));
        std::thread::spawn(|| echo(&listener.expect("a listener in the new pod")));
        let service = service_for(self.test, &fresh);
        poll_ok(secs(120), "a new Service answers", || {
            let answer = self
                .client
                .connect(service)
                .and_then(|mut stream| exchange_line(&mut stream, "new"));
            answer.map_err(|error| error.to_string())
        });
        self.test.delete::<Pod>(&fresh, None);
        self.test.wait_gone::<Pod>(&fresh, secs(40));
    }
}

/// Pods of the test that nothing was done to.
fn bystander(pod: &Pod) -> bool {
    ["server", "client"].contains(&pod.name_any().as_str())
}

/// Gantry's daemon.
fn is_daemon(pod: &Pod) -> bool {
    let name = pod.labels().get("app.kubernetes.io/name");
    pod.namespace().as_deref() == Some("kube-system") && name.is_some_and(|name| name == "gantry")
}

/// Answers every line with itself, on every connection.
fn echo(listener: &TcpListener) {
    for stream in listener.incoming().map_while(Result::ok) {
        std::thread::spawn(move || {
            let (mut from, mut to) = (&stream, &stream);
            std::io::copy(&mut from, &mut to)
        });
    }
}

/// The ClusterIP and port of a new Service in front of port 9000 of a pod.
fn service_for(test: &Test, pod: &str) -> SocketAddr {
    let service: Service = test.create(&format!(
        "{{metadata: {{name: {pod}}}, spec: {{selector: {{app: {pod}}}, ports: [{{port: 9000}}]}}}}"
    ));
    let ip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    SocketAddr::new(ip.parse().expect("a ClusterIP"), 9000)
}
