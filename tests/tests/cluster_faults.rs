//! Faults: programs killed, restarted or gone for a while. Pods and connections must not notice, and everything is as
//! before when the cause is gone.
//!
//! Each test holds the machines that it disturbs; those that need different ones run side by side.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gantry_tests::cluster::{
    Machine, NetNs, Test, exchange_line, pods, poll, secs, wait::holds, wait::poll_ok,
};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

static NODE_1: Mutex<()> = Mutex::new(());
static NODE_2: Mutex<()> = Mutex::new(());

/// The machine is this test's alone, also after another test failed with it.
fn alone(machine: &'static Mutex<()>) -> MutexGuard<'static, ()> {
    machine.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn node_is(node: &Node, ready: &str) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == ready)
}

fn proxy_unit(test: &Test) -> &'static str {
    if test.cluster.is_reference("proxy") {
        "kube-proxy"
    } else {
        "gantry-proxy"
    }
}

/// What must not change on a node while its programs come and go.
struct Bystanders<'a> {
    test: &'a Test,
    node: &'static str,
    service: SocketAddr,
    client: NetNs,
    stream: TcpStream,
    before: BTreeMap<String, Vec<(String, String, i32)>>,
}

impl<'a> Bystanders<'a> {
    /// A server and a client on the node, and a connection between them through a Service.
    fn watch(test: &'a Test, node: &'static str) -> Self {
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
                .filter(|pod| namespace != self.test.namespace() || bystander(pod));
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
    fn stay_connected(&mut self, duration: Duration) {
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
    fn assert_unharmed(&mut self) {
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
        poll_ok(secs(60), "a new Service answers", || {
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

#[test]
fn a_killed_agent_comes_back_and_no_pod_notices() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-agent");
    let mut bystanders = Bystanders::watch(&test, "node-1");
    Machine::named("node-1").kill_unit("kubelet");
    bystanders.stay_connected(secs(3));
    bystanders.assert_unharmed();
}

#[test]
fn a_killed_proxy_comes_back_and_no_connection_breaks() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-proxy");
    let mut bystanders = Bystanders::watch(&test, "node-2");
    Machine::named("node-2").kill_unit(proxy_unit(&test));
    bystanders.stay_connected(secs(5));
    bystanders.assert_unharmed();
}

#[test]
fn agent_and_proxy_killed_together_come_back() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-both");
    let mut bystanders = Bystanders::watch(&test, "node-1");
    let machine = Machine::named("node-1");
    let pids = [
        machine.main_process("kubelet"),
        machine.main_process(proxy_unit(&test)),
    ]
    .map(|pid| pid.to_string());
    machine.run(&["kill", "-KILL", &pids[0], &pids[1]]);
    bystanders.stay_connected(secs(14));
    bystanders.assert_unharmed();
}

#[test]
fn what_changed_while_the_agent_was_away_is_done_when_it_returns() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-away");
    let machine = Machine::named("node-2");
    let mut bystanders = Bystanders::watch(&test, "node-2");
    test.idle_pod("deleted", "node-2");
    let crashed = test.idle_pod("crashed", "node-2");
    let stopped = machine.stop("kubelet");
    test.delete::<Pod>("deleted", None);
    let process = test.process_of(&crashed, "c").to_string();
    machine.run(&["kill", "-KILL", &process]);
    test.pod(
        "created",
        "{nodeName: node-2, containers: [{name: c, image: 'registry.k8s.io/pause:3.10'}]}",
    );
    bystanders.stay_connected(secs(2));
    drop(stopped);
    test.wait_ready("created");
    test.wait_gone::<Pod>("deleted", secs(60));
    let crashed = test.wait_pod("crashed", "restarted", secs(60), |pod| {
        pods::restarts(pod, "c") == 1
    });
    assert_eq!(
        pods::last_terminated(&crashed, "c").map(|last| last.exit_code),
        Some(137)
    );
    bystanders.assert_unharmed();
}

#[test]
fn a_restarted_containerd_restarts_nothing() {
    let _machine = alone(&NODE_1);
    let test = Test::start("flt-containerd");
    let mut bystanders = Bystanders::watch(&test, "node-1");
    Machine::named("node-1").systemctl("restart", "containerd");
    bystanders.stay_connected(secs(3));
    test.wait_node("node-1", "Ready", secs(90), |node| node_is(node, "True"));
    bystanders.assert_unharmed();
}

#[test]
fn a_node_without_its_runtime_says_so_and_recovers() {
    let _machine = alone(&NODE_2);
    let test = Test::start("flt-runtime");
    let mut bystanders = Bystanders::watch(&test, "node-2");
    let machine = Machine::named("node-2");
    let since = Instant::now();
    let stopped = machine.stop("containerd");
    let node = test.wait_node("node-2", "not Ready", secs(120), |node| node_is(node, "False"));
    println!("NotReady after {:?}", since.elapsed());
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .expect("a condition");
    assert_eq!(ready.reason.as_deref(), Some("KubeletNotReady"));
    let message = ready.message.unwrap_or_default();
    assert!(message.contains("container runtime"), "{message}");
    bystanders.stay_connected(secs(3));
    drop(stopped);
    test.wait_node("node-2", "Ready", secs(90), |node| node_is(node, "True"));
    bystanders.assert_unharmed();
}

#[test]
fn a_node_outlives_its_api_server() {
    let (_one, _two) = (alone(&NODE_1), alone(&NODE_2));
    let test = Test::start("flt-api");
    let mut bystanders = Bystanders::watch(&test, "node-1");
    let crashed = test.idle_pod("crashed", "node-2");
    let (one, two) = (Machine::named("node-1"), Machine::named("node-2"));
    let control_plane = Machine::named("control-plane");
    let stopped = control_plane.stop("kube-apiserver");
    // One node's agent starts without an API server; on the other, a container ends meanwhile.
    one.kill_unit("kubelet");
    let process = test.process_of(&crashed, "c").to_string();
    two.run(&["kill", "-KILL", &process]);
    poll(
        secs(30),
        "the container is restarted without an API server",
        || {
            let uid = crashed.uid().unwrap_or_default();
            let filter =
                format!("labels.\"io.kubernetes.pod.uid\"=={uid},labels.\"io.kubernetes.container.name\"==c");
            let containers = two.run(&["ctr", "-n", "k8s.io", "containers", "ls", "-q", &filter]);
            let tasks = two.run(&["ctr", "-n", "k8s.io", "tasks", "ls"]);
            let runs = |id: &str| {
                tasks
                    .lines()
                    .any(|line| line.starts_with(id) && line.contains("RUNNING"))
            };
            containers.lines().any(runs).then_some(())
        },
    );
    bystanders.stay_connected(secs(15));
    drop(stopped);
    let after = test.wait_pod("crashed", "its restart is known", secs(60), |pod| {
        pods::restarts(pod, "c") == 1
    });
    assert_eq!(
        pods::last_terminated(&after, "c").map(|last| last.exit_code),
        Some(137)
    );
    for name in test.cluster.node_names() {
        test.wait_node(&name, "Ready", secs(60), |node| node_is(node, "True"));
    }
    bystanders.assert_unharmed();
}
