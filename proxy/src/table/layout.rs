//! The fixed part of the table: sets, maps, chains and rules, whose number does not depend on the number of services.
//!
//! ```text
//! prerouting, output ─> dispatch ─ fw-services ─> firewall ─ fw-24, fw-32, ... ─> back, else drop
//!                          │ pods and host ─> near ─ services-near, nodeports-near
//!                          │ services ────> lb-N | no-endpoints | drop      (address, protocol, port)
//!                          │ cluster-ips ─> no-endpoints                    (a port that no service has)
//!                          │ service-cidrs ─> drop                          (an address that no service has)
//!                          └ nodeports ───> np-N | no-endpoints | drop      (protocol, port)
//! input, postrouting ─ translated connections ─> learning ─ learn, np-learn ─> learn-T   (session affinity)
//! postrouting ─ translated connections ─> snat-services
//! ```
//!
//! All in nat hooks: only the first packet of a connection pays. `lb-N` draws one of N slots and looks it up in `endpoints`; `aff-N`
//! first looks the client up in `affinity`, which `learn-T` fills.

use std::num::NonZeroU32;

use gantry_nft::{ChainKind, Family, FibKey, Field, Hook, HookPoint, Rule, Transaction, Verdict};
use gantry_proxy_core::Part;
use gantry_proxy_core::chain::{Chain, Scope, Target};

pub(super) mod names;
mod parts;
mod pods;
mod sets;

pub use pods::{InterfaceName, Pods};

pub(super) use sets::is_learnt;

/// The table's name: the reference's, so that either program's clean-up removes it and starting one replaces the other's.
pub const TABLE: &str = "kube-proxy";

/// Chains that a complete table has, the hooks last.
pub(super) const FIXED_CHAINS: [&str; 10] = [
    NO_ENDPOINTS,
    FIREWALL,
    NEAR,
    DISPATCH,
    LEARNING,
    SNAT,
    "prerouting",
    "output",
    "input",
    "postrouting",
];
const NO_ENDPOINTS: &str = "no-endpoints";
const FIREWALL: &str = "firewall";
const NEAR: &str = "near";
const DISPATCH: &str = "dispatch";
const LEARNING: &str = "learning";
const SNAT: &str = "snat-services";

/// On which addresses node ports are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// Those in `node-ips`.
    Listed,
    /// All addresses of this host but loopback.
    AnyLocal,
}

/// Whose connections to ClusterIPs get this node's address as source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerading {
    /// Everybody's (`masqueradeAll`).
    Everybody,
    /// Those of sources that are not pods, as far as [`Layout::pods`] tells them.
    NotPods,
    /// Nobody's: there is no way to tell pods.
    Nobody,
}

/// What of the fixed part is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The address family.
    pub family: Family,
    /// Addresses for node ports.
    pub node_ports: NodePorts,
    /// Source translation for ClusterIPs.
    pub masquerading: Masquerading,
    /// How pods are told.
    pub pods: Pods,
}

const KEY: [Field; 3] = [Field::Daddr, Field::L4Proto, Field::Dport];
const NODE_PORT_KEY: [Field; 2] = [Field::L4Proto, Field::Dport];
const ORIGINAL: [Field; 3] = [Field::OriginalDaddr, Field::L4Proto, Field::OriginalDport];
const ORIGINAL_NODE_PORT: [Field; 2] = [Field::L4Proto, Field::OriginalDport];

const TCP: u8 = 6;

impl Layout {
    /// What the table says about itself: a fingerprint of the layout, so that a table of another version is never adopted.
    pub(super) fn comment(&self) -> String {
        let mut tx = Transaction::new(self.family, TABLE);
        self.add_objects(&mut tx);
        for target in [Target::Address, Target::NodePort] {
            for scope in [Scope::Cluster, Scope::Local] {
                for sticky in [false, true] {
                    let chain = Chain {
                        target,
                        scope,
                        count: 2,
                        sticky,
                    };
                    self.add_part(&mut tx, Part::Balancer(chain));
                }
            }
            self.add_part(&mut tx, Part::Learner(target, NonZeroU32::MIN));
        }
        self.add_part(&mut tx, Part::Sources(24));
        self.add_hooks(&mut tx);
        // FNV-1a.
        let hash = tx.bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("gantry-proxy layout {hash:016x}")
    }

    /// The table with its sets and the chains that no hook reaches yet.
    pub(super) fn add_skeleton(&self, tx: &mut Transaction) {
        tx.add_table(&self.comment());
        self.add_objects(tx);
    }

    fn add_objects(&self, tx: &mut Transaction) {
        sets::add_sets(tx);
        for chain in [NO_ENDPOINTS, FIREWALL, NEAR, DISPATCH, LEARNING, SNAT] {
            tx.add_chain(chain, None);
        }
        // The rules that let a packet return come before it.
        tx.add_rule(FIREWALL, &self.rule().verdict(Verdict::Drop));
        tx.add_rule(NO_ENDPOINTS, &self.rule().l4proto(TCP).reject_tcp_reset());
        tx.add_rule(NO_ENDPOINTS, &self.rule().reject_port_unreachable());
        tx.add_rule(NEAR, &self.rule().on(&KEY).vmap(names::SERVICES_NEAR));
        tx.add_rule(
            NEAR,
            &self.for_node().on(&NODE_PORT_KEY).vmap(names::NODEPORTS_NEAR),
        );
        self.add_dispatch(tx);
        self.add_learning(tx);
        self.add_snat(tx);
    }

    fn add_dispatch(&self, tx: &mut Transaction) {
        let daddr = || self.rule().on(&[Field::Daddr]);
        let restricted = self.rule().on(&KEY).in_set(names::FW_SERVICES);
        tx.add_rule(DISPATCH, &restricted.jump(FIREWALL));
        if let (Some((interface, mark)), Masquerading::NotPods) = (self.pods.interface(), self.masquerading) {
            let elsewhere = daddr().in_set(names::CLUSTER_IPS).came_in_elsewhere(interface);
            tx.add_rule(DISPATCH, &elsewhere.mark(mark, true));
        }
        let from_pod = match self.pods.interface() {
            Some((interface, _)) => self.rule().came_in(interface),
            None => self.rule().on(&[Field::Saddr]).in_set(names::POD_CIDRS),
        };
        tx.add_rule(DISPATCH, &from_pod.jump(NEAR));
        tx.add_rule(DISPATCH, &self.rule().local_address(FibKey::Saddr).jump(NEAR));
        tx.add_rule(DISPATCH, &self.rule().on(&KEY).vmap(names::SERVICES));
        tx.add_rule(DISPATCH, &daddr().in_set(names::CLUSTER_IPS).goto(NO_ENDPOINTS));
        tx.add_rule(
            DISPATCH,
            &daddr().in_set(names::SERVICE_CIDRS).verdict(Verdict::Drop),
        );
        tx.add_rule(
            DISPATCH,
            &self.for_node().on(&NODE_PORT_KEY).vmap(names::NODEPORTS),
        );
    }

    /// What follows in a chain is about node ports only: a service's address may have a port of the same number.
    fn leave_addresses(&self, tx: &mut Transaction, chain: &str) {
        let cluster_ip = self.rule().on(&[Field::OriginalDaddr]).in_set(names::CLUSTER_IPS);
        tx.add_rule(chain, &cluster_ip.verdict(Verdict::Return));
        for set in [names::EXT_MASQ, names::EXT_LOCAL] {
            let external = self.rule().on(&ORIGINAL).in_set(set);
            tx.add_rule(chain, &external.verdict(Verdict::Return));
        }
    }

    fn add_learning(&self, tx: &mut Transaction) {
        tx.add_rule(LEARNING, &self.rule().on(&ORIGINAL).vmap(names::LEARN));
        self.leave_addresses(tx, LEARNING);
        tx.add_rule(
            LEARNING,
            &self.rule().on(&ORIGINAL_NODE_PORT).vmap(names::NP_LEARN),
        );
    }

    fn add_snat(&self, tx: &mut Transaction) {
        let to_cluster_ip = || self.rule().on(&[Field::OriginalDaddr]).in_set(names::CLUSTER_IPS);
        match (self.masquerading, self.pods.interface()) {
            (Masquerading::Everybody, _) => tx.add_rule(SNAT, &to_cluster_ip().masquerade()),
            (Masquerading::NotPods, None) => {
                let outside = to_cluster_ip().on(&[Field::Saddr]).not_in_set(names::POD_CIDRS);
                tx.add_rule(SNAT, &outside.masquerade());
            }
            (Masquerading::NotPods, Some((_, mark))) => {
                let outside = self.rule().marked(mark).mark(mark, false);
                tx.add_rule(SNAT, &outside.masquerade());
            }
            (Masquerading::Nobody, _) => {}
        }
        tx.add_rule(
            SNAT,
            &self
                .rule()
                .on(&[Field::Saddr, Field::Daddr])
                .in_set(names::HAIRPIN)
                .masquerade(),
        );
        tx.add_rule(
            SNAT,
            &self.rule().on(&ORIGINAL).in_set(names::EXT_MASQ).masquerade(),
        );
        let local = self
            .rule()
            .on(&ORIGINAL)
            .in_set(names::EXT_LOCAL)
            .local_address(FibKey::Saddr);
        tx.add_rule(SNAT, &local.masquerade());
        self.leave_addresses(tx, SNAT);
        let node_port = || self.rule().on(&ORIGINAL_NODE_PORT);
        tx.add_rule(SNAT, &node_port().in_set(names::NP_MASQ).masquerade());
        let local = node_port().in_set(names::NP_LOCAL);
        tx.add_rule(SNAT, &local.local_address(FibKey::Saddr).masquerade());
    }

    /// The hooks: what makes packets see the table.
    pub(super) fn add_hooks(&self, tx: &mut Transaction) {
        let nat = |point, priority| {
            Some(Hook {
                kind: ChainKind::Nat,
                point,
                priority,
            })
        };
        tx.add_chain("prerouting", nat(HookPoint::Prerouting, -100));
        tx.add_chain("output", nat(HookPoint::Output, -100));
        // Before the usual 100, so that no other table's masquerading of pods comes first.
        tx.add_chain("postrouting", nat(HookPoint::Postrouting, 90));
        tx.add_rule("prerouting", &self.rule().goto(DISPATCH));
        tx.add_rule("output", &self.rule().goto(DISPATCH));
        // Connections to backends on the host's own addresses do not get to postrouting.
        tx.add_chain("input", nat(HookPoint::Input, 90));
        for chain in ["input", "postrouting"] {
            tx.add_rule(chain, &self.rule().translated().jump(LEARNING));
        }
        tx.add_rule("postrouting", &self.rule().translated().goto(SNAT));
    }

    fn rule(&self) -> Rule {
        Rule::new(self.family)
    }

    /// Matches what is addressed to the node in the sense of node ports.
    fn for_node(&self) -> Rule {
        match (self.node_ports, self.family) {
            (NodePorts::Listed, _) => self.rule().on(&[Field::Daddr]).in_set(names::NODE_IPS),
            (NodePorts::AnyLocal, Family::Ipv4) => self.rule().local_address(FibKey::Daddr).outside(
                Field::Daddr,
                &[127, 0, 0, 0],
                &[255, 0, 0, 0],
            ),
            (NodePorts::AnyLocal, Family::Ipv6) => {
                let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
                self.rule()
                    .local_address(FibKey::Daddr)
                    .outside(Field::Daddr, &loopback, &[255; 16])
            }
        }
    }
}
