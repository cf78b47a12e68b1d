//! Network policies between pods of both nodes. kube-proxy and the bridge plugin enforce none, so there is no reference to try.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use gantry_tests::cluster::{Machine, NetNs, Test, pods, poll, secs};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::network::ask;

const ONLY_FRIENDS: &str = r"
metadata: {name: only-friends}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
    - from: [{podSelector: {matchLabels: {role: friend}}}]
      ports: [{port: http}]
";

const STAYS_AT_HOME: &str = r"
metadata: {name: stays-at-home}
spec:
  podSelector: {matchLabels: {role: friend}}
  policyTypes: [Egress]
  egress:
    - to: [{namespaceSelector: {matchLabels: {team: nobody}}}]
";

/// A server on node-1 with a probe, and clients on both nodes.
struct Party {
    test: Test,
    server: Pod,
    friends: Vec<NetNs>,
    strangers: Vec<NetNs>,
}

impl Party {
    fn start(name: &str) -> Self {
        let test = Test::start(name);
        let pod = |name: &str, node: &str, labels: &str, ports: &str| {
            test.create::<Pod>(&format!(
                "{{metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{nodeName: {node}, \
                 terminationGracePeriodSeconds: 1, containers: [{{name: c, image: 'hello:1', ports: [{ports}], \
                 readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}}}]}}}}"
            ));
        };
        let clients = [("node-1", "one"), ("node-2", "two")];
        pod(
            "server",
            "node-1",
            "app: server",
            "{name: http, containerPort: 8080}",
        );
        for (node, suffix) in clients {
            pod(&format!("friend-{suffix}"), node, "role: friend", "");
            pod(&format!("stranger-{suffix}"), node, "role: stranger", "");
        }
        let ready = |name: &str| test.wait_ready(name);
        let server = ready("server");
        let nets = |role: &str| {
            clients
                .map(|(_, suffix)| test.net_of(&ready(&format!("{role}-{suffix}"))))
                .into()
        };
        Self {
            friends: nets("friend"),
            strangers: nets("stranger"),
            server,
            test,
        }
    }

    fn server(&self) -> SocketAddr {
        (pods::ip(&self.server), 8080).into()
    }

    /// Waits until these are answered or not, and looks a second time.
    #[track_caller]
    fn are_answered(&self, clients: &[NetNs], answered: bool, what: &str) {
        for client in clients {
            let is_so = || (ask(client, "TCP", self.server()).is_ok() == answered).then_some(());
            poll(secs(20), what, is_so);
            assert!(is_so().is_some(), "{what}: not for long");
        }
    }
}

/// Asks over a connection that is open already.
fn goes_on(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_exact(&mut [0])
}

#[test]
fn a_policy_decides_who_reaches_a_pod() {
    let party = Party::start("policy-ingress");
    if party.test.cluster.is_reference("proxy") {
        return;
    }
    party.are_answered(&party.strangers, true, "without a policy strangers are answered");
    let opened = |client: &NetNs| client.connect(party.server()).expect("a connection opens");
    let (mut stranger, mut friend) = (opened(&party.strangers[0]), opened(&party.friends[0]));
    party.test.create::<NetworkPolicy>(ONLY_FRIENDS);
    party.are_answered(&party.strangers, false, "strangers are refused");
    let late = goes_on(&mut stranger);
    assert!(late.is_err(), "a stranger's connection has ended: {late:?}");
    goes_on(&mut friend).expect("a friend's connection stays");
    party.are_answered(&party.friends, true, "friends are answered");
    for client in &party.friends {
        let udp = ask(client, "UDP", (pods::ip(&party.server), 8081).into());
        assert!(udp.is_err(), "the rule names one port: {udp:?}");
    }
    // Its probes come from the node, which is never restricted.
    let from_node = NetNs::of_machine(&Machine::named("node-1"));
    ask(&from_node, "TCP", party.server()).expect("the node reaches its pods");
    let server = party.test.get::<Pod>("server");
    assert!(pods::ready(&server), "the server stays ready");
    party.test.delete::<NetworkPolicy>("only-friends", None);
    party.are_answered(&party.strangers, true, "strangers are answered again");
}

#[test]
fn a_policy_decides_whom_a_pod_reaches() {
    let party = Party::start("policy-egress");
    if party.test.cluster.is_reference("proxy") {
        return;
    }
    party.test.create::<NetworkPolicy>(STAYS_AT_HOME);
    party.are_answered(&party.friends, false, "friends stay at home");
    party.are_answered(&party.strangers, true, "strangers do not");
    let out = "{spec: {egress: [{to: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: Exists}]}}]}]}}";
    party.test.patch::<NetworkPolicy>("stays-at-home", out);
    party.are_answered(&party.friends, true, "friends may go to any namespace");
}

const STRANGERS_REACH_NOBODY: &str = r"
metadata: {name: strangers-reach-nobody}
spec: {podSelector: {matchLabels: {role: stranger}}, policyTypes: [Egress]}
";

#[test]
fn a_policy_holds_for_a_pods_first_packet() {
    let test = Test::start("policy-first");
    if test.cluster.is_reference("proxy") {
        return;
    }
    let server = |name: &str| {
        test.create::<Pod>(&format!(
            "{{metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{nodeName: node-1, terminationGracePeriodSeconds: 1, \
             containers: [{{name: c, image: 'hello:1', ports: [{{name: http, containerPort: 8080}}]}}]}}}}"
        ));
        pods::ip(&test.wait_ready(name))
    };
    let (open, guarded) = (server("open"), server("server"));
    test.create::<NetworkPolicy>(STRANGERS_REACH_NOBODY);
    test.create::<NetworkPolicy>(ONLY_FRIENDS);
    // What each does first is one attempt to connect, and how that goes is its exit code.
    let first_act = |name: &str, role: &str, to: SocketAddr, patience: u32| {
        test.create::<Pod>(&format!(
            "{{metadata: {{name: {name}, labels: {{role: {role}}}}}, spec: {{nodeName: node-1, restartPolicy: Never, \
             terminationGracePeriodSeconds: 1, containers: [{{name: c, image: 'busybox:1.36', \
             command: [sh, -c, 'echo | nc -w {patience} {} {} | grep HTTP']}}]}}}}",
            to.ip(),
            to.port()
        ));
    };
    let outsider = || {
        ask(
            &NetNs::of_machine(&Machine::named("node-2")),
            "TCP",
            (guarded, 8080).into(),
        )
    };
    poll(secs(20), "the servers' policy is in force", || {
        outsider().is_err().then_some(())
    });
    let names =
        |role: &str, count: usize| -> Vec<String> { (0..count).map(|n| format!("{role}-{n}")).collect() };
    let (strangers, friends) = (names("stranger", 20), names("friend", 10));
    for stranger in &strangers {
        first_act(stranger, "stranger", (open, 8080).into(), 1);
    }
    for friend in &friends {
        first_act(friend, "friend", (guarded, 8080).into(), 10);
    }
    for (names, phase) in [(strangers, "Failed"), (friends, "Succeeded")] {
        for name in names {
            let pod = test.wait_pod(&name, "ended", secs(120), |pod| {
                ["Failed", "Succeeded"].contains(&pods::phase(pod))
            });
            assert_eq!(pods::phase(&pod), phase, "{name}: {}", test.log(&pod, "c"));
        }
    }
}
