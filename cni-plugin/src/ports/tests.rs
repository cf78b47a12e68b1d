use std::collections::HashSet;

use proptest::prelude::*;

use super::plan::{self, Change};
use super::*;

fn tcp(host_port: u16, address: HostAddress) -> Mapping {
    Mapping {
        protocol: Protocol::Tcp,
        address,
        host_port,
        pod_port: 80,
    }
}

fn pod(container: &str, address: &str, list: &[Mapping]) -> PodPorts {
    let holder = Holder::new(Owner::new(container, "eth0"), "net", container);
    let wanted = PortMappings {
        list: list.to_vec(),
        masqueraded: Masqueraded::Near,
    };
    PodPorts::new(holder, address.parse().unwrap(), &wanted).expect("a port of this family")
}

fn nobody() -> HashSet<Owner> {
    HashSet::new()
}

/// The front and the sources of each entry.
fn shown(entries: &[Entry]) -> Vec<String> {
    let show = |entry: &Entry| match (entry.front(), entry.meaning) {
        (Some(front), _) => format!("{front} -> {}", entry.pod()),
        (None, entry::Meaning::Masqueraded { first, last, pod }) => format!("{first}-{last} {pod}"),
        (None, entry::Meaning::Port { .. }) => unreachable!("a port has a front"),
    };
    entries.iter().map(show).collect()
}

#[test]
fn a_pods_entries_are_its_ports_of_the_family_and_its_neighbours() {
    let host: IpAddr = [192, 0, 2, 1].into();
    let list = [
        tcp(8080, HostAddress::Any),
        tcp(8080, HostAddress::AnyOf { ipv4: true }),
        tcp(8081, HostAddress::AnyOf { ipv4: false }),
        tcp(8082, HostAddress::Only(host)),
    ];
    assert_eq!(
        shown(&pod("a", "10.1.0.7/24", &list).entries()),
        [
            "8080/tcp -> 10.1.0.7",
            "192.0.2.1:8082/tcp -> 10.1.0.7",
            "127.0.0.0-127.255.255.255 10.1.0.7",
            "10.1.0.0-10.1.0.255 10.1.0.7",
        ]
    );
    assert_eq!(
        shown(&pod("a", "fd00::7/64", &list).entries()),
        [
            "8080/tcp -> fd00::7",
            "8081/tcp -> fd00::7",
            "fd00::-fd00::ffff:ffff:ffff:ffff fd00::7",
        ]
    );
}

#[test]
fn sources_are_as_asked_for() {
    let mut ports = pod("a", "10.1.0.7/24", &[tcp(80, HostAddress::Any)]);
    ports.masqueraded = Masqueraded::All;
    assert_eq!(shown(&ports.entries())[1..], ["0.0.0.0-255.255.255.255 10.1.0.7"]);
    assert!(ports.serves_loopback());
    ports.masqueraded = Masqueraded::None;
    assert_eq!(ports.entries().len(), 1);
    assert!(!ports.serves_loopback());
}

#[test]
fn a_port_of_a_live_pod_is_refused_and_one_of_a_dead_pod_is_taken_over() {
    let old = pod(
        "old",
        "10.1.0.7/24",
        &[tcp(80, HostAddress::Any), tcp(81, HostAddress::Any)],
    );
    let new = pod("new", "10.1.0.8/24", &[tcp(81, HostAddress::Any)]);
    let found = old.entries();
    assert_eq!(plan::rivals(&new, &found), HashSet::from([old.holder.owner]));
    let conflict = plan::map(&new, &found, &nobody()).unwrap_err();
    assert_eq!(
        (conflict.front.to_string(), conflict.container),
        ("81/tcp".into(), "old".into())
    );
    let change = plan::map(&new, &found, &HashSet::from([old.holder.owner])).unwrap();
    assert_eq!(change.remove, found);
    assert_eq!(change.add, new.entries());
}

#[test]
fn what_leads_to_the_pods_address_is_of_an_earlier_pod() {
    let old = pod("old", "10.1.0.7/24", &[tcp(80, HostAddress::Any)]);
    let new = pod("new", "10.1.0.7/24", &[tcp(81, HostAddress::Any)]);
    let change = plan::map(&new, &old.entries(), &nobody()).unwrap();
    assert_eq!(plan::after(old.entries(), &change), new.entries());
}

#[test]
fn a_port_on_one_address_stands_beside_the_same_port_on_all() {
    let host: IpAddr = [192, 0, 2, 1].into();
    let udp = |address| Mapping {
        protocol: Protocol::Udp,
        ..tcp(53, address)
    };
    let all = pod("all", "10.1.0.7/24", &[udp(HostAddress::Any)]);
    let one = pod("one", "10.1.0.8/24", &[udp(HostAddress::Only(host))]);
    let change = plan::map(&one, &all.entries(), &nobody()).unwrap();
    let entries = plan::after(all.entries(), &change);
    let of = |address| plan::resolve(&entries, address, 53).map(Entry::pod);
    assert_eq!(of(host), Some([10, 1, 0, 8].into()));
    assert_eq!(of([192, 0, 2, 9].into()), Some([10, 1, 0, 7].into()));
    assert_eq!(plan::resolve(&entries, host, 54), None);
}

#[test]
fn a_flow_is_told_by_both_of_its_ends() {
    let udp = Mapping {
        protocol: Protocol::Udp,
        ..tcp(53, HostAddress::Any)
    };
    let entry = &pod("a", "10.1.0.7/24", &[udp]).entries()[0];
    let (host, pod, other): (IpAddr, IpAddr, IpAddr) =
        ([192, 0, 2, 1].into(), [10, 1, 0, 7].into(), [10, 1, 0, 8].into());
    assert!(plan::leads(entry, (host, 53), (pod, 80)));
    assert!(!plan::leads(entry, (host, 54), (pod, 80)));
    assert!(!plan::leads(entry, (host, 53), (other, 80)));
    assert!(!plan::leads(entry, (host, 53), (pod, 81)));
    assert!(
        !plan::leads(entry, (pod, 53), (pod, 53)),
        "addressed to the pod itself"
    );
}

#[test]
fn protocols_have_names_in_any_case() {
    for protocol in Protocol::ALL {
        assert_eq!(Protocol::named(protocol.name()), Some(protocol));
        assert_eq!(Protocol::named(&protocol.name().to_uppercase()), Some(protocol));
        assert_eq!(Protocol::numbered(protocol.number()), Some(protocol));
    }
    assert_eq!(Protocol::named(""), None);
    assert_eq!(Protocol::numbered(1), None);
}

#[test]
fn long_identifiers_are_cut() {
    let holder = Holder::new(Owner::new("a", "eth0"), "net", &"é".repeat(100));
    assert_eq!(holder.container, "é".repeat(32));
}

/// What may happen to one of a few pods on one of a few addresses.
#[derive(Debug, Clone)]
enum Op {
    /// The pod comes, with these ports.
    Add(u8, Vec<u16>),
    /// The pod goes as it should.
    Del(u8),
    /// The pod's namespace vanishes.
    Vanish(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0_u8..5, prop::collection::vec(1_u16..6, 1..4)).prop_map(|(pod, ports)| Op::Add(pod, ports)),
        (0_u8..5).prop_map(Op::Del),
        (0_u8..5).prop_map(Op::Vanish),
    ]
}

proptest! {
    /// A port leads to one pod, which is the live one that asked for it last, and an address has one holder.
    #[test]
    fn the_table_is_right_whatever_happens(ops in prop::collection::vec(op(), 0..60)) {
        let mut table: Vec<Entry> = Vec::new();
        let mut live: Vec<PodPorts> = Vec::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                // A pod of this number has this address, whichever container it is.
                Op::Add(pod_number, ports) if live.iter().all(|pod| pod.address.ip() != address(pod_number)) => {
                    let list: Vec<_> = ports.iter().map(|port| tcp(*port, HostAddress::Any)).collect();
                    let new = pod(&format!("c{number}"), &format!("{}/24", address(pod_number)), &list);
                    let mut dead = plan::rivals(&new, &table);
                    dead.retain(|owner| live.iter().all(|pod| pod.holder.owner != *owner));
                    if let Ok(change) = plan::map(&new, &table, &dead) {
                        table = plan::after(table, &change);
                        prop_assert_eq!(plan::map(&new, &table, &dead), Ok(Change::default()));
                        live.push(new);
                    }
                }
                Op::Add(..) => {}
                Op::Del(number) => {
                    let gone = live.iter().position(|pod| pod.address.ip() == address(number));
                    if let Some(gone) = gone.map(|at| live.remove(at)) {
                        table.retain(|entry| entry.holder != gone.holder);
                    }
                }
                Op::Vanish(number) => live.retain(|pod| pod.address.ip() != address(number)),
            }
            for pod in &live {
                prop_assert_eq!(plan::missing(pod, &table), None);
            }
            let keys: HashSet<_> = table.iter().filter_map(Entry::front).collect();
            prop_assert_eq!(keys.len(), table.iter().filter_map(Entry::front).count());
        }
    }
}

fn address(pod: u8) -> IpAddr {
    [10, 1, 0, pod + 2].into()
}
