//! The fixed part of the table: sets, maps, chains and rules, whose number does not depend on the number of services.
//!
//! ```text
//! prerouting, output ─> dispatch ─ pods and host ─> near ─ services-near, nodeports-near
//!                          │ services ────> lb-N | no-endpoints | drop      (address, protocol, port)
//!                          │ cluster-ips ─> no-endpoints                    (a port that no service has)
//!                          │ service-cidrs ─> drop                          (an address that no service has)
//!                          └ nodeports ───> np-N | no-endpoints | drop      (protocol, port)
//! postrouting ─ translated connections ─> snat-services
//! ```
//!
//! All in nat hooks: only the first packet of a connection pays. `lb-N` draws one of N slots and looks it up in `endpoints`.

use gantry_nft::{
    ChainKind, Family, FibKey, Field, FieldType, Hook, HookPoint, Rule, Set, SetData, Transaction, Verdict,
};
use gantry_proxy_core::chain::{Chain, Target};

/// The table's name: the reference's, so that either program's clean-up removes it and starting one replaces the other's.
pub const TABLE: &str = "kube-proxy";

/// Chains that a complete table has, the hooks last.
pub(super) const FIXED_CHAINS: [&str; 7] = [
    NO_ENDPOINTS,
    NEAR,
    DISPATCH,
    SNAT,
    "prerouting",
    "output",
    "postrouting",
];
const NO_ENDPOINTS: &str = "no-endpoints";
const NEAR: &str = "near";
const DISPATCH: &str = "dispatch";
const SNAT: &str = "snat-services";

/// Names of the sets and maps.
pub(super) mod names {
    pub(crate) const POD_CIDRS: &str = "pod-cidrs";
    pub(crate) const SERVICE_CIDRS: &str = "service-cidrs";
    pub(crate) const NODE_IPS: &str = "node-ips";
    pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
    pub(crate) const HAIRPIN: &str = "hairpin";
    pub(crate) const SERVICES: &str = "services";
    pub(crate) const SERVICES_NEAR: &str = "services-near";
    pub(crate) const NODEPORTS: &str = "nodeports";
    pub(crate) const NODEPORTS_NEAR: &str = "nodeports-near";
    pub(crate) const ENDPOINTS: &str = "endpoints";
    pub(crate) const NP_ENDPOINTS: &str = "np-endpoints";
    pub(crate) const EXT_MASQ: &str = "ext-masq";
    pub(crate) const EXT_LOCAL: &str = "ext-local";
    pub(crate) const NP_MASQ: &str = "np-masq";
    pub(crate) const NP_LOCAL: &str = "np-local";
}

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
    /// Those of sources that are not pods, as far as `pod-cidrs` tells them.
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
}

const FRONT: &[FieldType] = &[FieldType::Address, FieldType::Protocol, FieldType::Port];
const NODE_PORT: &[FieldType] = &[FieldType::Protocol, FieldType::Port];
const SLOT: &[FieldType] = &[
    FieldType::Address,
    FieldType::Protocol,
    FieldType::Port,
    FieldType::Number,
];
const NODE_PORT_SLOT: &[FieldType] = &[FieldType::Protocol, FieldType::Port, FieldType::Number];
const BACKEND: SetData<'_> = SetData::Fields(&[FieldType::Address, FieldType::Port]);

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
            for scope in [gantry_proxy_core::Scope::Cluster, gantry_proxy_core::Scope::Local] {
                self.add_balancer(
                    &mut tx,
                    Chain {
                        target,
                        scope,
                        count: 2,
                    },
                );
            }
        }
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
        add_sets(tx);
        for chain in [NO_ENDPOINTS, NEAR, DISPATCH, SNAT] {
            tx.add_chain(chain, None);
        }
        tx.add_rule(NO_ENDPOINTS, &self.rule().l4proto(TCP).reject_tcp_reset());
        tx.add_rule(NO_ENDPOINTS, &self.rule().reject_port_unreachable());
        tx.add_rule(NEAR, &self.rule().on(&KEY).vmap(names::SERVICES_NEAR));
        tx.add_rule(
            NEAR,
            &self.for_node().on(&NODE_PORT_KEY).vmap(names::NODEPORTS_NEAR),
        );
        self.add_dispatch(tx);
        self.add_snat(tx);
    }

    fn add_dispatch(&self, tx: &mut Transaction) {
        let daddr = || self.rule().on(&[Field::Daddr]);
        tx.add_rule(
            DISPATCH,
            &self
                .rule()
                .on(&[Field::Saddr])
                .in_set(names::POD_CIDRS)
                .jump(NEAR),
        );
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

    fn add_snat(&self, tx: &mut Transaction) {
        let to_cluster_ip = || self.rule().on(&[Field::OriginalDaddr]).in_set(names::CLUSTER_IPS);
        let not_cluster_ip = || {
            self.rule()
                .on(&[Field::OriginalDaddr])
                .not_in_set(names::CLUSTER_IPS)
        };
        tx.add_rule(
            SNAT,
            &self
                .rule()
                .on(&[Field::Saddr, Field::Daddr])
                .in_set(names::HAIRPIN)
                .masquerade(),
        );
        match self.masquerading {
            Masquerading::Everybody => tx.add_rule(SNAT, &to_cluster_ip().masquerade()),
            Masquerading::NotPods => {
                let outside = to_cluster_ip().on(&[Field::Saddr]).not_in_set(names::POD_CIDRS);
                tx.add_rule(SNAT, &outside.masquerade());
            }
            Masquerading::Nobody => {}
        }
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
        let node_port = not_cluster_ip().on(&ORIGINAL_NODE_PORT).in_set(names::NP_MASQ);
        tx.add_rule(SNAT, &node_port.masquerade());
        let local = not_cluster_ip().on(&ORIGINAL_NODE_PORT).in_set(names::NP_LOCAL);
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
        tx.add_rule("postrouting", &self.rule().translated().goto(SNAT));
    }

    /// A chain that translates to one of its slots.
    pub(super) fn add_balancer(&self, tx: &mut Transaction, chain: Chain) {
        let name = chain.to_string();
        let offset = chain.scope.first_slot();
        tx.add_chain(&name, None);
        // A packet that looks up its slot just after a change may miss it: the first slot is the next best, and
        // no packet may pass untranslated.
        let moduli: &[u32] = if chain.count > 1 { &[chain.count, 1] } else { &[1] };
        for modulus in moduli {
            let random = Field::Random {
                modulus: *modulus,
                offset,
            };
            let (key, map) = match chain.target {
                Target::Address => (vec![KEY[0], KEY[1], KEY[2], random], names::ENDPOINTS),
                Target::NodePort => (
                    vec![NODE_PORT_KEY[0], NODE_PORT_KEY[1], random],
                    names::NP_ENDPOINTS,
                ),
            };
            tx.add_rule(&name, &self.rule().on(&key).dnat_map(map));
        }
        tx.add_rule(&name, &self.rule().verdict(Verdict::Drop));
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

fn add_sets(tx: &mut Transaction) {
    for name in [names::POD_CIDRS, names::SERVICE_CIDRS] {
        tx.add_set(&Set::intervals(name, &[FieldType::Address]));
    }
    for name in [names::NODE_IPS, names::CLUSTER_IPS] {
        tx.add_set(&Set::new(name, &[FieldType::Address]));
    }
    tx.add_set(&Set::new(
        names::HAIRPIN,
        &[FieldType::Address, FieldType::Address],
    ));
    for name in [names::SERVICES, names::SERVICES_NEAR] {
        tx.add_set(&Set::map(name, FRONT, SetData::Verdict));
    }
    for name in [names::NODEPORTS, names::NODEPORTS_NEAR] {
        tx.add_set(&Set::map(name, NODE_PORT, SetData::Verdict));
    }
    tx.add_set(&Set::map(names::ENDPOINTS, SLOT, BACKEND));
    tx.add_set(&Set::map(names::NP_ENDPOINTS, NODE_PORT_SLOT, BACKEND));
    for name in [names::EXT_MASQ, names::EXT_LOCAL] {
        tx.add_set(&Set::new(name, FRONT));
    }
    for name in [names::NP_MASQ, names::NP_LOCAL] {
        tx.add_set(&Set::new(name, NODE_PORT));
    }
}
