//! Network policies, with packets between pods on one bridge, from the host, through services and from outside.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use gantry_policy_core as core;
use gantry_policy_core::{
    Attachment, Key, NamedPort, Peer, Pod, Policy, PortMatch, Protocol, Requirement, Rule, Selector,
};
use gantry_proxy::policy::{self, Enforcer};
use gantry_proxy_core::Families;

use crate::host::{Host, Outcome};
use crate::objects::{A, B, endpoints, service, web};
use crate::rig::Rig;

const SERVER: &str = "10.244.1.10:8080";
const SERVER_V6: &str = "[fd00:244::10]:8080";
const NODE_PORT: &str = "192.0.2.1:30080";
const VIP: &str = "10.96.0.1:80";

/// The rig's pods `a`, `b` and `client` in namespace `n`, each with a label of its name.
struct Policed {
    rig: Rig,
    policies: Enforcer,
}

impl Policed {
    fn new() -> Self {
        let rig = Rig::new();
        let policies = rig.node.run(|| Enforcer::open(Families::Both).unwrap());
        let mut policed = Self { rig, policies };
        for (name, last) in [("client", "2"), ("a", "10"), ("b", "11")] {
            policed.tell(pod(name, last, name));
        }
        policed.rig.apply([service(web()), endpoints(&[A, B])]);
        for to in [SERVER, SERVER_V6, "10.244.1.11:8080"] {
            policed.rig.client.reaches(to);
        }
        policed.rig.outside.reaches(SERVER);
        policed
    }

    fn tell(&mut self, event: core::Event) -> usize {
        self.policies.apply(event);
        self.policies.sync().unwrap().unwrap_or(0)
    }

    fn policy(&mut self, policy: Option<Policy>) -> usize {
        self.tell(core::Event::Policy(Key::new("n", "p"), policy))
    }
}

fn pod(name: &str, last: &str, label: &str) -> core::Event {
    let addresses = [format!("10.244.1.{last}"), format!("fd00:244::{last}")];
    let pod = Pod {
        labels: [("pod".into(), label.into())].into(),
        uid: name.into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        local: true,
        ports: [NamedPort {
            name: "web".into(),
            protocol: Protocol::Tcp,
            number: 8080,
        }]
        .into(),
    };
    core::Event::Pod(Key::new("n", name), Some(pod))
}

fn named(label: &str) -> Selector {
    [Requirement::In("pod".into(), [label.into()].into())]
        .into_iter()
        .collect()
}

fn pods(label: &str) -> Peer {
    Peer::Pods {
        namespaces: None,
        pods: named(label),
    }
}

fn rule(peers: &[Peer], ports: &[PortMatch]) -> Rule {
    Rule {
        peers: peers.to_vec(),
        ports: ports.to_vec(),
    }
}

fn to_a(rules: Vec<Rule>) -> Option<Policy> {
    Some(Policy {
        subjects: named("a"),
        ingress: Some(rules),
        egress: None,
    })
}

fn answers(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answer(..) => true,
        Outcome::Nothing => false,
        Outcome::Refused => panic!("refused"),
    }
}

#[test]
fn nft_shows_which_policies_a_chain_is_of() {
    let mut policed = Policed::new();
    policed.policy(to_a(vec![rule(&[pods("client")], &[])]));
    for family in ["ip", "ip6"] {
        let listed = policed
            .rig
            .on_node("nft", &["list", "table", family, policy::TABLE]);
        let (_, chain) = listed.split_once("chain allow-").unwrap();
        let head: Vec<_> = chain.lines().take(2).map(str::trim).collect();
        assert_eq!(head[1], "comment \"n: p\"", "{listed}");
    }
}

#[test]
fn a_pod_takes_what_a_policy_allows_and_nothing_else() {
    let mut policed = Policed::new();
    policed.policy(to_a(vec![rule(&[pods("client")], &[])]));
    let rig = &policed.rig;
    for to in [SERVER, SERVER_V6] {
        assert!(answers(&rig.client.tcp(to)), "allowed: {to}");
        assert!(answers(&rig.client.udp(to)));
        assert!(!answers(&rig.outside.tcp(to)), "from outside: {to}");
        assert!(answers(&rig.node.tcp(to)), "the node reaches its pods");
    }
    policed.policy(to_a(vec![]));
    let rig = &policed.rig;
    assert!(!answers(&rig.client.tcp(SERVER)) && !answers(&rig.client.udp(SERVER_V6)));
    assert!(
        answers(&rig.client.tcp("10.244.1.11:8080")),
        "b is not restricted"
    );
    assert!(answers(&rig.a.tcp("10.244.1.11:8080")), "neither is what a sends");
    assert!(answers(&rig.node.tcp(SERVER)));
    policed.policy(None);
    assert!(answers(&policed.rig.client.tcp(SERVER)));
}

#[test]
fn ports_by_number_range_and_name() {
    let mut policed = Policed::new();
    for (port, tcp, udp) in [
        (PortMatch::Range(Protocol::Tcp, 8080, 8080), true, false),
        (PortMatch::Range(Protocol::Udp, 8000, 9000), false, true),
        (PortMatch::Range(Protocol::Tcp, 8081, 9000), false, false),
        (PortMatch::Range(Protocol::Tcp, 1, 8079), false, false),
        (PortMatch::Named(Protocol::Tcp, "web".into()), true, false),
        (PortMatch::Named(Protocol::Udp, "web".into()), false, false),
        (PortMatch::All(Protocol::Udp), false, true),
    ] {
        policed.policy(to_a(vec![rule(&[], std::slice::from_ref(&port))]));
        for to in [SERVER, SERVER_V6] {
            assert_eq!(answers(&policed.rig.client.tcp(to)), tcp, "{port:?} {to}");
            assert_eq!(answers(&policed.rig.client.udp(to)), udp, "{port:?} {to}");
        }
    }
}

#[test]
fn egress_is_judged_where_a_service_leads() {
    let mut policed = Policed::new();
    let only_to = |label: &str| Policy {
        subjects: named("client"),
        ingress: None,
        egress: Some(vec![rule(
            &[pods(label)],
            &[PortMatch::Named(Protocol::Tcp, "web".into())],
        )]),
    };
    policed.policy(Some(only_to("b")));
    policed.rig.apply([endpoints(&[B])]);
    assert_eq!(policed.rig.client.tcp(VIP).backend(), "b");
    assert!(!answers(&policed.rig.client.tcp(SERVER)));
    assert!(
        !answers(&policed.rig.client.udp(VIP)),
        "the port's name is one of TCP"
    );
    policed.rig.apply([endpoints(&[A])]);
    assert!(!answers(&policed.rig.client.tcp(VIP)));
    assert!(
        answers(&policed.rig.a.tcp(VIP)),
        "a pod reaches itself through a service"
    );
    policed.policy(to_a(vec![]));
    assert!(answers(&policed.rig.a.tcp(VIP)), "restricted or not");
}

#[test]
fn a_block_is_compared_with_the_real_source_of_a_node_ports_client() {
    let mut policed = Policed::new();
    policed.rig.apply([endpoints(&[A])]);
    let block = |cidr: &str, except: &[&str]| Peer::Block {
        cidr: cidr.parse().unwrap(),
        except: except.iter().map(|hole| hole.parse().unwrap()).collect(),
    };
    for (peer, allowed) in [
        (block("192.0.2.0/24", &[]), true),
        (block("192.0.2.0/24", &["192.0.2.100/32"]), false),
        (block("10.0.0.0/8", &[]), false),
        (block("0.0.0.0/0", &["10.0.0.0/8"]), true),
    ] {
        policed.policy(to_a(vec![rule(std::slice::from_ref(&peer), &[])]));
        assert_eq!(answers(&policed.rig.outside.tcp(NODE_PORT)), allowed, "{peer:?}");
    }
    policed.policy(to_a(vec![rule(&[block("fd00:192::/64", &[])], &[])]));
    assert!(answers(&policed.rig.outside.tcp(SERVER_V6)));
    assert!(!answers(&policed.rig.client.tcp(SERVER_V6)));
}

#[test]
fn a_connection_ends_when_it_is_denied_and_others_stay() {
    let mut policed = Policed::new();
    let listener = policed.rig.a.run(|| TcpListener::bind(("::", 9090)).unwrap());
    let connect = |host: &Host| {
        let mut far = host.run(|| TcpStream::connect("10.244.1.10:9090").unwrap());
        let (mut near, _) = listener.accept().unwrap();
        for stream in [&far, &near] {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        exchange(&mut far, &mut near).unwrap();
        (far, near)
    };
    let (mut denied, mut denied_near) = connect(&policed.rig.client);
    let (mut allowed, mut allowed_near) = connect(&policed.rig.outside);
    let outside = Peer::Block {
        cidr: "192.0.2.0/24".parse().unwrap(),
        except: vec![],
    };
    let ended = policed.policy(to_a(vec![rule(&[outside], &[])]));
    assert!(ended >= 1, "{ended} connections ended");
    exchange(&mut allowed, &mut allowed_near).unwrap();
    // The server speaks first: what it may send must not open the way back.
    let from_server = exchange(&mut denied_near, &mut denied);
    assert!(from_server.is_err(), "{from_server:?}");
    assert!(exchange(&mut denied, &mut denied_near).is_err());
    assert!(!answers(&policed.rig.client.tcp(SERVER)));
    exchange(&mut allowed, &mut allowed_near).unwrap();
}

fn exchange(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    from.write_all(b"x")?;
    to.read_exact(&mut byte)?;
    to.write_all(b"y")?;
    from.read_exact(&mut byte)
}

#[test]
fn labels_decide_at_once() {
    let mut policed = Policed::new();
    policed.policy(to_a(vec![rule(&[pods("client")], &[])]));
    assert!(!answers(&policed.rig.outside.tcp(SERVER)));
    policed.tell(pod("client", "2", "other"));
    assert!(!answers(&policed.rig.client.tcp(SERVER)));
    policed.tell(pod("client", "2", "client"));
    assert!(answers(&policed.rig.client.tcp(SERVER)));
    policed.tell(pod("a", "10", "free"));
    assert!(answers(&policed.rig.outside.tcp(SERVER)));
}

#[test]
fn a_pods_interface_counts_before_its_status_and_another_pods_claim() {
    let mut policed = Policed::new();
    let core::Event::Pod(key, Some(pod)) = pod("client", "2", "client") else {
        panic!("a pod is a pod")
    };
    policed.policy(to_a(vec![rule(&[pods("client")], &[])]));
    // A new pod has the address of the client, whose status still says so.
    let starting = Pod {
        uid: "new".into(),
        labels: [("pod".into(), "a".into())].into(),
        addresses: [].into(),
        ..pod.clone()
    };
    policed.tell(core::Event::Pod(Key::new("n", "new"), Some(starting)));
    let attachment = Attachment {
        pod: Key::new("n", "new"),
        uid: Some("new".into()),
        addresses: pod.addresses.clone(),
    };
    policed.policies.state_mut().attach("sandbox:eth0", attachment);
    policed.policies.sync().unwrap();
    for to in [SERVER, SERVER_V6] {
        assert!(!answers(&policed.rig.client.tcp(to)), "not as the client's: {to}");
    }
    policed.rig.client.serve("new", 8080);
    assert!(answers(&policed.rig.node.tcp("10.244.1.2:8080")));
    assert!(
        !answers(&policed.rig.outside.tcp("10.244.1.2:8080")),
        "the policy's subject"
    );
    policed.policies.state_mut().detach("sandbox:eth0");
    policed.tell(core::Event::Pod(key, Some(pod)));
    assert!(answers(&policed.rig.client.tcp(SERVER)));
}

#[test]
fn tables_are_adopted_repaired_and_removed() {
    let mut policed = Policed::new();
    policed.policy(to_a(vec![]));
    let tables = |policed: &Policed| policed.rig.on_node("nft", &["list", "ruleset"]);
    let text = tables(&policed);
    assert!(
        text.contains("table ip gantry-policy") && text.contains("table ip6 gantry-policy"),
        "{text}"
    );
    // Another program throws everything away.
    policed.rig.on_node("nft", &["flush", "ruleset"]);
    assert!(policed.rig.node.run(|| policed.policies.check().unwrap()));
    policed.policies.sync().unwrap();
    assert!(!answers(&policed.rig.client.tcp(SERVER)));
    // The program starts again: the table of before stays until the lists are complete, and is then replaced.
    policed.policies = policed.rig.node.run(|| Enforcer::open(Families::Both).unwrap());
    assert!(!answers(&policed.rig.client.tcp(SERVER)));
    policed.policies.apply(pod("a", "10", "a"));
    policed.policy(to_a(vec![rule(&[pods("client")], &[])]));
    assert!(
        !answers(&policed.rig.client.tcp(SERVER)),
        "the client is not known yet"
    );
    policed.tell(pod("client", "2", "client"));
    assert!(answers(&policed.rig.client.tcp(SERVER)));
    // The last policy goes, and with it the tables.
    policed.policy(None);
    assert!(!tables(&policed).contains("gantry-policy"));
    policed.policy(to_a(vec![]));
    policed.rig.node.run(|| policy::remove().unwrap());
    assert!(!tables(&policed).contains("gantry-policy"));
}
