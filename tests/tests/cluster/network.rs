//! The pod network and Services: every pod its own address, reached from everywhere, by every way.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use gantry_tests::cluster::{Machine, NetNs, Test, pods, poll, secs, wait::poll_ok};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::ListParams;

/// A server on every node behind one Service with a ClusterIP and a NodePort, TCP and UDP.
struct Hello {
    test: Test,
    pods: Vec<Pod>,
    cluster_ip: IpAddr,
    node_port: u16,
    udp_node_port: u16,
}

const DEPLOYMENT: &str = r"
metadata: {name: hello}
spec:
  replicas: 4
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule,
           labelSelector: {matchLabels: {app: hello}}}
      containers:
        - {name: hello, image: 'hello:1', readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
";

const SERVICE: &str = r"
metadata: {name: hello}
spec:
  type: NodePort
  selector: {app: hello}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: echo, port: 80, targetPort: 8081, protocol: UDP}
";

impl Hello {
    fn start(name: &str) -> Self {
        let test = Test::start(name);
        let service: Service = test.create(SERVICE);
        let pods = deploy(&test);
        let spec = service.spec.as_ref().expect("a Service has a spec");
        let cluster_ip = spec
            .cluster_ip
            .as_deref()
            .unwrap_or_default()
            .parse()
            .expect("a ClusterIP");
        Self {
            node_port: node_port(&service, "TCP"),
            udp_node_port: node_port(&service, "UDP"),
            test,
            pods,
            cluster_ip,
        }
    }

    fn names(&self) -> BTreeSet<String> {
        self.pods.iter().map(ResourceExt::name_any).collect()
    }

    /// Asks over TCP and UDP until every pod has answered each way.
    #[track_caller]
    fn all_answer(&self, from: &NetNs, tcp: SocketAddr, udp: SocketAddr, what: &str) {
        for (protocol, address) in [("TCP", tcp), ("UDP", udp)] {
            let mut seen = BTreeSet::new();
            // The proxies learn of the endpoints when they may.
            let first = poll_ok(secs(20), &format!("{what}, {protocol}"), || {
                ask(from, protocol, address)
            });
            seen.insert(first);
            poll(
                secs(20),
                &format!("every pod answers {what}, {protocol} {address}: {seen:?}"),
                || {
                    seen.insert(ask(from, protocol, address).expect("an answer, now that there were some"));
                    (seen == self.names()).then_some(())
                },
            );
        }
    }

    fn cluster_ip(&self) -> SocketAddr {
        (self.cluster_ip, 80).into()
    }
}

/// Four servers on both nodes, available.
pub(super) fn deploy(test: &Test) -> Vec<Pod> {
    test.create::<Deployment>(DEPLOYMENT);
    test.wait::<Deployment>("hello", "4 replicas available", secs(60), |deployment| {
        deployment
            .status
            .as_ref()
            .is_some_and(|status| status.available_replicas == Some(4))
    });
    let list = ListParams::default().labels("app=hello");
    let pods = test.cluster.request(test.api::<Pod>().list(&list));
    pods.expect("pods are listed").items
}

/// The node port of a Service's port of this protocol.
pub(super) fn node_port(service: &Service, protocol: &str) -> u16 {
    let spec = service.spec.as_ref().expect("a Service has a spec");
    let mut ports = spec.ports.iter().flatten();
    let port = ports.find(|port| port.protocol.as_deref() == Some(protocol));
    port.and_then(|port| u16::try_from(port.node_port?).ok())
        .expect("a NodePort")
}

/// One question, one answer: the name of a pod.
pub(super) fn ask(from: &NetNs, protocol: &str, to: SocketAddr) -> Result<String, String> {
    match protocol {
        "TCP" => from.http_get(to, "/"),
        "UDP" => from
            .udp_ask(to, b"who?")
            .map(|answer| String::from_utf8_lossy(&answer).trim().to_owned()),
        other => Err(format!("no protocol: {other}")),
    }
}

#[test]
fn a_deployment_runs_on_both_nodes_with_an_address_for_each_pod() {
    let hello = Hello::start("net-deployment");
    let addresses: BTreeSet<_> = hello.pods.iter().map(pods::ip).collect();
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    let nodes: BTreeSet<_> = hello.pods.iter().map(pods::node).collect();
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    for pod in &hello.pods {
        let spec = hello.test.node(pods::node(pod)).spec.expect("a node has a spec");
        let range = spec.pod_cidr.expect("a node has a pod range");
        // A range ends where a number of the address does.
        let (prefix, _) = range.rsplit_once(['.', ':']).expect("a range of addresses");
        assert!(
            pods::ip(pod).to_string().starts_with(prefix),
            "{} in {range}",
            pods::ip(pod)
        );
    }
}

#[test]
fn a_service_answers_pods_nodes_and_the_outside() {
    let hello = Hello::start("net-service");
    let client = hello.test.idle_pod("client", "node-1");
    let from_pod = hello.test.net_of(&client);
    hello.all_answer(
        &from_pod,
        hello.cluster_ip(),
        hello.cluster_ip(),
        "a pod through the ClusterIP",
    );
    let from_node = NetNs::of_machine(&Machine::named("node-2"));
    hello.all_answer(
        &from_node,
        hello.cluster_ip(),
        hello.cluster_ip(),
        "a node through the ClusterIP",
    );
    let outside = NetNs::outside();
    for node in hello.test.cluster.node_names() {
        let ip = hello.test.node_ip(&node);
        let (tcp, udp) = ((ip, hello.node_port).into(), (ip, hello.udp_node_port).into());
        for (from, what) in [
            (&from_pod, "a pod"),
            (&from_node, "a node"),
            (&outside, "the outside"),
        ] {
            hello.all_answer(from, tcp, udp, &format!("{what} through the NodePort on {node}"));
        }
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let hello = Hello::start("net-hairpin");
    for pod in &hello.pods[..2] {
        let from = hello.test.net_of(pod);
        hello.all_answer(
            &from,
            hello.cluster_ip(),
            hello.cluster_ip(),
            "a backend through its own Service",
        );
    }
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let test = Test::start("net-empty");
    let service: Service =
        test.create("{metadata: {name: empty}, spec: {selector: {app: none}, ports: [{port: 80}]}}");
    let spec = service.spec.expect("a Service has a spec");
    let ip: IpAddr = spec
        .cluster_ip
        .as_deref()
        .unwrap_or_default()
        .parse()
        .expect("a ClusterIP");
    let from = test.net_of(&test.idle_pod("client", "node-1"));
    poll_ok(secs(20), "a connection is refused", || {
        match from.connect((ip, 80).into()) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn an_unready_pod_leaves_the_service_and_returns() {
    let hello = Hello::start("net-unready");
    let from = hello.test.net_of(&hello.test.idle_pod("client", "node-2"));
    hello.all_answer(&from, hello.cluster_ip(), hello.cluster_ip(), "before");
    let pod = &hello.pods[0];
    let direct = (pods::ip(pod), 8080).into();
    from.http_get(direct, "/healthz/fail").expect("the pod answers");
    hello
        .test
        .wait_pod(&pod.name_any(), "not Ready", secs(30), |pod| {
            !pods::is(pod, "Ready")
        });
    // Twenty answers in a row from the other three: by chance, one in 300.
    let mut without = 0;
    poll(secs(30), "the unready pod gets no requests", || {
        let name = from.http_get(hello.cluster_ip(), "/").expect("the others answer");
        without = if name == pod.name_any() { 0 } else { without + 1 };
        (without == 20).then_some(())
    });
    from.http_get(direct, "/healthz/ok").expect("the pod answers");
    hello.all_answer(&from, hello.cluster_ip(), hello.cluster_ip(), "after");
}

#[test]
fn pods_see_each_others_own_address() {
    let test = Test::start("net-source");
    let (one, two) = (test.idle_pod("one", "node-1"), test.idle_pod("two", "node-2"));
    let neighbour = test.idle_pod("neighbour", "node-1");
    for (from, to) in [(&one, &two), (&two, &one), (&one, &neighbour)] {
        let listener = test.net_of(to).listen(pods::ip(to));
        let address = listener.local_addr().expect("a listener has an address");
        let _stream = test.net_of(from).connect(address).expect("pods reach each other");
        let (_, peer) = listener.accept().expect("the connection");
        assert_eq!(
            peer.ip(),
            pods::ip(from),
            "what {} sees of {}",
            to.name_any(),
            from.name_any()
        );
    }
}

#[test]
fn a_node_reaches_the_pods_of_all_nodes() {
    let test = Test::start("net-node");
    let all = [test.idle_pod("one", "node-1"), test.idle_pod("two", "node-2")];
    for pod in &all {
        let listener = test.net_of(pod).listen(pods::ip(pod));
        let address = listener.local_addr().expect("a listener has an address");
        for machine in ["node-1", "node-2", "control-plane"] {
            let stream = NetNs::of_machine(&Machine::named(machine)).connect(address);
            assert!(stream.is_ok(), "{machine} to {}: {stream:?}", pod.name_any());
        }
    }
}

#[test]
fn what_leaves_the_cluster_has_the_nodes_address() {
    let test = Test::start("net-outside");
    if test.cluster.is_reference("cni") {
        // The bridge plugin can only masquerade everything or nothing, also between pods of two nodes: kind and
        // kubenet add an agent for it, this test bed does not.
        return;
    }
    let pod = test.idle_pod("client", "node-1");
    let gateway = test.cluster.primary("10.77.0.1", "fd00:77::1");
    let listener = NetNs::outside().listen(gateway.parse().expect("an address"));
    let address = listener.local_addr().expect("a listener has an address");
    let _stream = test
        .net_of(&pod)
        .connect(address)
        .expect("a pod reaches the outside");
    let (_, peer) = listener.accept().expect("the connection");
    assert_eq!(peer.ip(), test.node_ip("node-1"));
}

#[test]
fn a_host_network_pod_has_the_nodes_network() {
    let test = Test::start("net-host");
    test.pod(
        "host",
        "{nodeName: node-1, hostNetwork: true, containers: [{name: c, image: 'busybox:1.36', command: [sleep, '1000']}]}",
    );
    let pod = test.wait_ready("host");
    let status = pod.status.clone().expect("a pod has a status");
    assert_eq!(pods::ip(&pod), test.node_ip("node-1"));
    assert_eq!(status.host_ip, status.pod_ip);
    assert_eq!(test.exec(&pod, "c", "hostname"), "node-1");
}
