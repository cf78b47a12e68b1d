//! The sets and maps, and the types of their keys.

use gantry_nft::{FieldType, Set, SetData, Transaction};

use super::names;

const FRONT: &[FieldType] = &[FieldType::Address, FieldType::Protocol, FieldType::Port];
const NODE_PORT: &[FieldType] = &[FieldType::Protocol, FieldType::Port];
const SLOT: &[FieldType] = &[
    FieldType::Address,
    FieldType::Protocol,
    FieldType::Port,
    FieldType::Number,
];
const NODE_PORT_SLOT: &[FieldType] = &[FieldType::Protocol, FieldType::Port, FieldType::Number];
/// Keys of the sets of allowed sources.
pub(super) const SOURCE: &[FieldType] = &[
    FieldType::Address,
    FieldType::Protocol,
    FieldType::Port,
    FieldType::Address,
];
const CLIENT: &[FieldType] = &[
    FieldType::Address,
    FieldType::Address,
    FieldType::Protocol,
    FieldType::Port,
];
const NODE_PORT_CLIENT: &[FieldType] = &[FieldType::Address, FieldType::Protocol, FieldType::Port];
const BACKEND: SetData<'_> = SetData::Fields(&[FieldType::Address, FieldType::Port]);

/// Clients that are remembered at most, for each of the two kinds of fronts. More of them go where chance sends them.
const MAX_CLIENTS: u32 = 1 << 20;

/// True for maps that the kernel fills.
pub(in crate::table) fn is_learnt(set: &str) -> bool {
    [names::AFFINITY, names::NP_AFFINITY].contains(&set)
}

pub(super) fn add_sets(tx: &mut Transaction) {
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
    tx.add_set(&Set::map(names::LEARN, FRONT, SetData::Verdict));
    tx.add_set(&Set::map(names::NP_LEARN, NODE_PORT, SetData::Verdict));
    tx.add_set(&Set::learnt(names::AFFINITY, CLIENT, BACKEND, MAX_CLIENTS));
    tx.add_set(&Set::learnt(
        names::NP_AFFINITY,
        NODE_PORT_CLIENT,
        BACKEND,
        MAX_CLIENTS,
    ));
    tx.add_set(&Set::map(names::ENDPOINTS, SLOT, BACKEND));
    tx.add_set(&Set::map(names::NP_ENDPOINTS, NODE_PORT_SLOT, BACKEND));
    for name in [names::FW_SERVICES, names::EXT_MASQ, names::EXT_LOCAL] {
        tx.add_set(&Set::new(name, FRONT));
    }
    for name in [names::NP_MASQ, names::NP_LOCAL] {
        tx.add_set(&Set::new(name, NODE_PORT));
    }
}
