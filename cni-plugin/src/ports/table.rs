//! The table in the kernel: one for each address family of a host, shared by all networks, made once.
//!
//! ```text
//! table ip gantry-hostports                 comment: a digest of what follows, without the elements
//!   guard (filter, before everything)       IPv4: drop what comes in from or to 127.0.0.0/8, but not through lo
//!   prerouting, output (nat, dstnat)        for an address of this host (IPv6: not ::1) ─> dispatch
//!   dispatch                                in addresses or in ports: set the mark, translate
//!   postrouting (nat, before srcnat)        marked: clear it, masquerade if in masqueraded
//! ```
//!
//! Only elements depend on pods ([`super::entry`]). A change is decided from a listing and taken by the kernel only if
//! nobody changed anything in between (the generation); otherwise it is decided anew. So no lock is needed, whatever
//! networks and lease stores there are.
//!
//! The guard: a bridge with `route_localnet`, without which nothing that 127.0.0.1 asks comes back, would pass what pods
//! send to 127.0.0.1 on to the host's own services (CVE-2020-8558). The fib decides what is for this host, so
//! destinations elsewhere are never taken (CVE-2025-67499). The mark, the bit that the portmap plugin uses, is seen by no
//! other table's postrouting chains: it only tells these connections from those to a service of the same port.

use gantry_nft::{
    ChainKind, CommitError, Family, FibKey, Field, FieldType, Hook, HookPoint, Interface, Nft, OpenError,
    QueryError, Rule, Set, SetData, Transaction, Verdict,
};
use rustix::io::Errno;

use super::entry::{Encoded, SetName};
use super::plan::{self, Change, Conflict};
use super::{Entry, Front, PodPorts};
use crate::netlink::{Netlink, NetlinkError};
use crate::owner::digest;

/// The table's name.
const TABLE: &str = "gantry-hostports";
/// The bit of the mark, counted from 0: as the portmap plugin's default.
pub(crate) const MARK_BIT: u8 = 13;
const MARK: u32 = 1 << MARK_BIT;
/// Before connection tracking and everything else.
const GUARD_PRIORITY: i32 = -300;
/// dstnat, as nft names it.
const DSTNAT: i32 = -100;
/// Just before srcnat (100), so that nobody else sees the mark.
const BEFORE_SRCNAT: i32 = 99;
/// How often a change is decided anew when others change tables all the time.
const ATTEMPTS: u32 = 200;

const DISPATCH: &str = "dispatch";
const PORT_KEY: [Field; 2] = [Field::L4Proto, Field::Dport];
const ADDRESS_KEY: [Field; 3] = [Field::Daddr, Field::L4Proto, Field::Dport];

/// Why ports are not mapped, or still are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// Another pod has the port.
    #[error(
        "the host port {front} is taken by container {container:?}: delete that pod, or use another hostPort"
    )]
    Taken {
        /// The port.
        front: Front,
        /// The container.
        container: String,
    },
    /// No netfilter socket.
    #[error("cannot map host ports: does the kernel have nftables?")]
    Open(#[source] OpenError),
    /// The table could not be listed.
    #[error("cannot list the table {TABLE} of host ports")]
    Query(#[source] QueryError),
    /// The change failed.
    #[error("cannot change the table {TABLE} of host ports")]
    Commit(#[source] CommitError),
    /// Somebody else changed tables all the time.
    #[error(
        "others changed tables during each of {ATTEMPTS} attempts to change the table {TABLE}: try again"
    )]
    Unsteady,
    /// Whether another pod lives could not be found out.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl From<Conflict> for PortError {
    fn from(Conflict { front, container }: Conflict) -> Self {
        Self::Taken { front, container }
    }
}

/// A change that was made.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// What went.
    pub(crate) removed: Vec<Entry>,
    /// All that is there now.
    pub(crate) entries: Vec<Entry>,
}

/// What is in the kernel.
struct Found {
    /// The table's comment, if there is one.
    comment: Option<String>,
    entries: Vec<Entry>,
}

/// Makes the pod's ports lead to it. `host` tells which other pods live.
pub(crate) fn map(wanted: &PodPorts, host: &mut Netlink) -> Result<Changed, PortError> {
    change(wanted.address.is_ipv4(), |found| {
        let mut dead = plan::rivals(wanted, found);
        for owner in dead.clone() {
            if host.link(&owner.host_ifname())?.is_some() {
                dead.remove(&owner);
            }
        }
        Ok(plan::map(wanted, found, &dead)?)
    })
}

/// Removes the elements that `gone` chooses; none are there without a table, or without nftables.
pub(crate) fn remove<E: From<PortError>>(
    ipv4: bool,
    mut gone: impl FnMut(&Entry) -> Result<bool, E>,
) -> Result<Changed, E> {
    change(ipv4, |found| {
        let mut change = Change::default();
        for entry in found {
            if gone(entry)? {
                change.remove.push(entry.clone());
            }
        }
        Ok(change)
    })
}

/// What of the pod's ports is not in place: all of it in a table that is not ours.
pub(crate) fn missing(wanted: &PodPorts) -> Result<Option<Entry>, PortError> {
    let mut nft = Nft::open().map_err(PortError::Open)?;
    let ipv4 = wanted.address.is_ipv4();
    let found = list(&mut nft, ipv4)?;
    let entries = if found.comment == Some(layout_digest(ipv4)) {
        found.entries
    } else {
        Vec::new()
    };
    Ok(plan::missing(wanted, &entries))
}

/// Decides and changes, until nobody else did in between.
fn change<E: From<PortError>>(
    ipv4: bool,
    mut decide: impl FnMut(&[Entry]) -> Result<Change, E>,
) -> Result<Changed, E> {
    let mut nft = match Nft::open() {
        Ok(nft) => nft,
        Err(error) => {
            // What wants something of a kernel without nftables has to know; what removes has nothing to do.
            if decide(&[])?.add.is_empty() {
                return Ok(Changed::default());
            }
            return Err(PortError::Open(error).into());
        }
    };
    for _ in 0..ATTEMPTS {
        let generation = nft.generation().map_err(PortError::Query);
        let found = generation.and_then(|generation| Ok((generation, list(&mut nft, ipv4)?)));
        let (generation, found) = match found {
            Ok(found) => found,
            Err(error) if is_without_nftables(&error) && decide(&[])?.add.is_empty() => {
                return Ok(Changed::default());
            }
            Err(error) => return Err(error.into()),
        };
        let change = decide(&found.entries)?;
        match nft.commit(transaction(ipv4, generation, &found, &change)) {
            Ok(()) => {
                return Ok(Changed {
                    entries: plan::after(found.entries, &change),
                    removed: change.remove,
                });
            }
            Err(error) if error.is_outdated() => {}
            Err(error) => return Err(PortError::Commit(error).into()),
        }
    }
    Err(PortError::Unsteady.into())
}

fn list(nft: &mut Nft, ipv4: bool) -> Result<Found, PortError> {
    let family = family(ipv4);
    let table = nft.table(family, TABLE).map_err(PortError::Query)?;
    let mut entries = Vec::new();
    if table.is_some() {
        for set in SetName::ALL {
            match nft.elements(family, TABLE, set.name()) {
                Ok(listing) => {
                    entries.extend(
                        listing
                            .labelled()
                            .filter_map(|listed| Entry::decode(set, ipv4, listed)),
                    );
                }
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(PortError::Query(error)),
            }
        }
    }
    Ok(Found {
        comment: table.map(|table| table.comment),
        entries,
    })
}

/// The kernel's answer when it has no nf_tables.
fn is_without_nftables(error: &PortError) -> bool {
    let PortError::Query(QueryError::Io { source, .. }) = error else {
        return false;
    };
    matches!(
        Errno::from_io_error(source),
        Some(Errno::INVAL | Errno::OPNOTSUPP)
    )
}

/// The change; a table of another layout is made anew with the elements that stay.
fn transaction(ipv4: bool, generation: u32, found: &Found, change: &Change) -> Transaction {
    let mut tx = Transaction::at_generation(family(ipv4), TABLE, generation);
    let layout = layout_digest(ipv4);
    let in_place = found.comment.as_ref() == Some(&layout);
    if in_place {
        for_sets(&change.remove, |set, encoded| {
            tx.delete_elements(set, encoded.iter().map(Encoded::key));
        });
    }
    if !in_place && (found.comment.is_some() || !change.add.is_empty()) {
        tx.delete_table();
        tx.add_table(&layout);
        add_layout(&mut tx, ipv4);
        let stay = found
            .entries
            .iter()
            .filter(|entry| !change.remove.contains(entry));
        let stay: Vec<_> = stay.cloned().collect();
        for_sets(&stay, |set, encoded| {
            tx.create_elements(set, encoded.iter().map(Encoded::whole));
        });
    }
    for_sets(&change.add, |set, encoded| {
        tx.create_elements(set, encoded.iter().map(Encoded::whole));
    });
    tx
}

/// The entries of each set that has some.
fn for_sets(entries: &[Entry], mut take: impl FnMut(&'static str, &[Encoded])) {
    for set in SetName::ALL {
        let of_set = entries.iter().filter(|entry| entry.set() == set);
        let encoded: Vec<_> = of_set.map(Entry::encode).collect();
        if !encoded.is_empty() {
            take(set.name(), &encoded);
        }
    }
}

fn family(ipv4: bool) -> Family {
    if ipv4 { Family::Ipv4 } else { Family::Ipv6 }
}

fn layout_digest(ipv4: bool) -> String {
    let mut tx = Transaction::new(family(ipv4), TABLE);
    add_layout(&mut tx, ipv4);
    format!("gantry-cni host ports, layout {:032x}", digest(&[tx.bytes()]))
}

fn add_layout(tx: &mut Transaction, ipv4: bool) {
    let (ports, addresses) = (SetName::Ports.name(), SetName::Addresses.name());
    let masquerade = SetName::Masquerade.name();
    let target = SetData::Fields(&[FieldType::Address, FieldType::Port]);
    tx.add_set(&Set::map(ports, &[FieldType::Protocol, FieldType::Port], target));
    let one_address = [FieldType::Address, FieldType::Protocol, FieldType::Port];
    tx.add_set(&Set::map(addresses, &one_address, target));
    tx.add_set(&Set::ranges(
        masquerade,
        &[FieldType::Address, FieldType::Address],
    ));

    let rule = || Rule::new(family(ipv4));
    tx.add_chain(DISPATCH, None);
    let one = rule().on(&ADDRESS_KEY).in_map(addresses).mark(MARK, true);
    tx.add_rule(DISPATCH, &one.on(&ADDRESS_KEY).dnat_map(addresses));
    let all = rule().on(&PORT_KEY).in_map(ports).mark(MARK, true);
    tx.add_rule(DISPATCH, &all.on(&PORT_KEY).dnat_map(ports));

    let hook = |kind, point, priority| {
        Some(Hook {
            kind,
            point,
            priority,
        })
    };
    if ipv4 {
        tx.add_chain(
            "guard",
            hook(ChainKind::Filter, HookPoint::Prerouting, GUARD_PRIORITY),
        );
        for field in [Field::Saddr, Field::Daddr] {
            let loopback = rule().inside(field, &[127, 0, 0, 0], &[255, 0, 0, 0]);
            tx.add_rule(
                "guard",
                &loopback
                    .came_in_elsewhere(Interface::Named("lo"))
                    .verdict(Verdict::Drop),
            );
        }
    }
    for (name, point) in [
        ("prerouting", HookPoint::Prerouting),
        ("output", HookPoint::Output),
    ] {
        tx.add_chain(name, hook(ChainKind::Nat, point, DSTNAT));
        let here = rule().local_address(FibKey::Daddr);
        let here = if ipv4 {
            here
        } else {
            // The kernel lets nothing from ::1 leave the host.
            let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
            here.outside(Field::Daddr, &loopback, &[255; 16])
        };
        tx.add_rule(name, &here.goto(DISPATCH));
    }
    tx.add_chain(
        "postrouting",
        hook(ChainKind::Nat, HookPoint::Postrouting, BEFORE_SRCNAT),
    );
    let near = rule().marked(MARK).mark(MARK, false);
    let near = near.on(&[Field::Saddr, Field::Daddr]).in_set(masquerade);
    tx.add_rule("postrouting", &near.masquerade());
}
