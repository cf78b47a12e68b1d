use gantry_policy_core::Protocol;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(spec: Value) -> Policy {
    let object = json!({"metadata": {"namespace": "a", "name": "p"}, "spec": spec});
    policy(&serde_json::from_value(object).unwrap())
}

#[test]
fn types_default_as_documented() {
    let nothing = read(json!({"podSelector": {}}));
    assert_eq!((nothing.ingress, nothing.egress), (Some(vec![]), None));
    let both = read(json!({"podSelector": {}, "egress": [{}]}));
    assert_eq!(
        (both.ingress, both.egress),
        (Some(vec![]), Some(vec![Rule::default()]))
    );
    let egress = read(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}));
    assert_eq!((egress.ingress, egress.egress), (None, Some(vec![])));
}

#[test]
fn every_kind_of_peer_and_port_is_read() {
    let policy = read(json!({
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{
            "from": [
                {"podSelector": {"matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "NotIn", "values": ["2"]},
                    {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"}]}},
                {"namespaceSelector": {"matchLabels": {"team": "x"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
            ],
            "ports": [
                {"port": 80}, {"protocol": "UDP", "port": 1000, "endPort": 2000},
                {"protocol": "SCTP"}, {"protocol": "TCP", "port": "http"}
            ]
        }]
    }));
    let is = |key: &str, value: &str| Requirement::In(key.into(), [value.into()].into());
    assert_eq!(policy.subjects, [is("app", "web")].into_iter().collect());
    let expressions = [
        is("a", "1"),
        Requirement::NotIn("b".into(), ["2".into()].into()),
        Requirement::Exists("c".into()),
        Requirement::Absent("d".into()),
    ];
    let rule = &policy.ingress.unwrap()[0];
    assert_eq!(
        rule.peers,
        [
            Peer::Pods {
                namespaces: None,
                pods: expressions.into_iter().collect()
            },
            Peer::Pods {
                namespaces: Some([is("team", "x")].into_iter().collect()),
                pods: Selector::default()
            },
            Peer::Block {
                cidr: "10.0.0.0/8".parse().unwrap(),
                except: vec!["10.1.0.0/16".parse().unwrap()]
            },
        ]
    );
    assert_eq!(
        rule.ports,
        [
            PortMatch::Range(Protocol::Tcp, 80, 80),
            PortMatch::Range(Protocol::Udp, 1000, 2000),
            PortMatch::All(Protocol::Sctp),
            PortMatch::Named(Protocol::Tcp, "http".into()),
        ]
    );
}

#[test]
fn what_is_not_understood_allows_nothing() {
    for ingress in [
        json!([{}, {"ports": [{"port": 70000}]}]),
        json!([{}, {"ports": [{"protocol": "QUIC"}]}]),
        json!([{}, {"from": [{"ipBlock": {"cidr": "nowhere"}}]}]),
        json!([{}, {"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}]}]),
    ] {
        let policy = read(json!({"podSelector": {}, "ingress": ingress}));
        assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None), "{ingress}");
    }
}

#[test]
fn only_pods_with_an_address_of_their_own_count_or_about_to_get_one() {
    let pod_of = |spec: Value, status: Value| {
        let object = json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec, "status": status});
        pod(&serde_json::from_value(object).unwrap(), "n1")
    };
    let addresses = json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
    let here = pod_of(json!({"nodeName": "n1"}), addresses.clone()).unwrap();
    assert!(here.local && *here.uid == *"u" && here.addresses.len() == 2);
    let starting = pod_of(json!({"nodeName": "n1"}), json!({"phase": "Pending"})).unwrap();
    assert!(starting.local && starting.addresses.is_empty());
    let there = pod_of(json!({"nodeName": "n2"}), addresses.clone()).unwrap();
    assert!(!there.local && there.uid.is_empty());
    let elsewhere = json!({"nodeName": "n2"});
    assert_eq!(pod_of(elsewhere, json!({"phase": "Pending"})), None);
    assert_eq!(
        pod_of(json!({"nodeName": "n1", "hostNetwork": true}), addresses),
        None
    );
    assert_eq!(pod_of(json!({}), json!({"phase": "Pending"})), None);
    assert_eq!(
        pod_of(
            json!({}),
            json!({"phase": "Failed", "podIPs": [{"ip": "10.0.0.1"}]})
        ),
        None
    );
}

proptest! {
    #[test]
    fn any_rule_is_understood_or_allows_nothing(
        range in "(10|256)\\.0\\.0\\.0/[0-9]{1,3}|[f:]{1,4}/[0-9]{1,3}|.{0,9}",
        word in "In|NotIn|Exists|.{0,5}",
        first: i32,
        last in prop::option::of(any::<i32>()),
        near in 0..70_000_i32,
    ) {
        for (first, last) in [(first, last), (near, Some(near.wrapping_add(first % 3)))] {
            let policy = read(json!({
                "podSelector": {"matchExpressions": [{"key": "k", "operator": word}]},
                "ingress": [{"from": [{"ipBlock": {"cidr": range, "except": [range]}}], "ports": [{"port": first, "endPort": last}]}],
            }));
            for rule in policy.ingress.into_iter().flatten() {
                for port in rule.ports {
                    let PortMatch::Range(_, first, last) = port else { unreachable!("{port:?}") };
                    prop_assert!(first <= last);
                }
            }
        }
    }
}
