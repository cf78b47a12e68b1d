//! ADD: lease, plan, execute, answer.
//!
//! The network's lock is held from the lease to the veth: a lease without a veth is then known to be dead (see `lease`). The daemon is
//! told afterwards, because others need not wait for its answer; a refusal takes everything back.

use std::path::Path;

use rustix::io::Errno;

use crate::announce;
use crate::chain;
use crate::config::{Ipam, Network};
use crate::error::{BridgeMismatch, Failure};
use crate::execute::Executor;
use crate::lease::{Lease, LeaseError, Leases};
use crate::masquerade::Masquerade;
use crate::netlink::Netlink;
use crate::netns::Namespace;
use crate::owner::Owner;
use crate::plan::{BridgeFacts, HostFacts, Wanted, masquerade, plan};
use crate::ports;
use crate::request::Attachment;
use crate::resolv;

/// Attaches the container; answers the result object.
pub(crate) fn run(stdin: &[u8], attachment: &Attachment, path: &Path) -> Result<String, Failure> {
    let mut network = Network::parse(stdin, &attachment.args)?;
    if let Some(file) = network
        .ipam
        .resolv_conf
        .as_ref()
        .filter(|_| network.dns.is_empty())
    {
        network.dns = resolv::read(file)?;
    }
    if let Some(previous) = &network.previous {
        chain::check(previous, &attachment.ifname)?;
    }
    let netns = Namespace::open(path)?;
    let mut host = Netlink::open()?;
    let facts = host_facts(&mut host, &network)?;
    let mut leases = Leases::open(&network.ipam.data_dir, &network.name)?;
    let owner = attachment.owner();
    if host.has_link(&owner.host_ifname()) {
        return Err(attached(attachment));
    }
    let wanted = Wanted {
        network: &network,
        owner,
        container: &attachment.container,
        ifname: &attachment.ifname,
        netns: path,
    };
    let outcome = match lease_all(&network.ipam, attachment, &mut host, &mut leases) {
        Ok(given) => {
            let executor = Executor {
                host: &mut host,
                netns: &netns,
                bridge: &network.bridge.name,
                bridge_index: facts.bridge.as_ref().map(|bridge| bridge.link.index),
                ifname: &attachment.ifname,
                lock: Some(leases),
            };
            attach(&wanted, &given, &facts, executor).map(|answer| (answer, given))
        }
        Err(failure) => {
            drop(leases);
            Err(failure)
        }
    };
    if outcome.is_err() {
        free(&network, attachment, &host);
    }
    let (answer, given) = outcome.map_err(|failure| explain(failure, attachment, &network))?;
    let addresses = given.iter().map(|lease| lease.address.ip());
    if let Err(error) = announce::attached(&network, attachment, addresses) {
        if let Err(failure) = super::del::run(stdin, attachment) {
            eprintln!(
                "gantry-cni: could not take back {}: {failure}",
                attachment.container
            );
        }
        return Err(error.into());
    }
    Ok(answer)
}

/// What the kernel means when it refuses the veth pair.
fn explain(failure: Failure, attachment: &Attachment, network: &Network) -> Failure {
    let reason = if let Failure::Netlink(error) = &failure {
        error.kernel_reason()
    } else {
        None
    };
    match reason {
        // Both names of the pair were asked for; ours was free, so the one inside is taken.
        Some(Errno::EXIST) => attached(attachment),
        Some(Errno::XFULL) => BridgeMismatch::Full {
            name: network.bridge.name.clone(),
        }
        .into(),
        Some(_) | None => failure,
    }
}

fn attach(
    wanted: &Wanted<'_>,
    leases: &[Lease],
    facts: &HostFacts,
    mut executor: Executor<'_>,
) -> Result<String, Failure> {
    let mut plan = plan(wanted, leases, facts)?;
    if let Some(previous) = &wanted.network.previous {
        chain::pass_on(previous, &mut plan.outcome);
    }
    executor.run(&plan.steps)?;
    plan.outcome
        .to_json(wanted.network.version)
        .map_err(|source| Failure::Stdout(source.into()))
}

/// Frees the addresses of an ADD that failed. Meanwhile somebody else may have seen that they are dead, and have freed them.
fn free(network: &Network, attachment: &Attachment, host: &Netlink) {
    let owner = attachment.owner();
    let leases = Leases::open_existing(&network.ipam.data_dir, &network.name);
    let freed = leases.and_then(|leases| match leases {
        Some(mut leases) if !host.has_link(&owner.host_ifname()) => leases.release(owner),
        Some(_) | None => Ok(()),
    });
    if let Err(error) = freed {
        let container = &attachment.container;
        eprintln!("gantry-cni: could not free the addresses of {container}: {error}");
    }
}

fn attached(attachment: &Attachment) -> Failure {
    Failure::Attached {
        container: attachment.container.clone(),
        ifname: attachment.ifname.clone(),
    }
}

/// One address of each set.
fn lease_all(
    ipam: &Ipam,
    attachment: &Attachment,
    host: &mut Netlink,
    leases: &mut Leases,
) -> Result<Vec<Lease>, Failure> {
    let owner = attachment.owner();
    let mut given = Vec::new();
    for set in &ipam.sets {
        let wanted = ipam
            .requested
            .iter()
            .copied()
            .find(|address| set.range_of(*address).is_some());
        let lease = match leases.allocate(set, owner, &attachment.container, wanted) {
            Err(LeaseError::Exhausted { .. } | LeaseError::Taken { .. }) => {
                reclaim(host, leases, owner)?;
                leases.allocate(set, owner, &attachment.container, wanted)?
            }
            other => other?,
        };
        given.push(lease);
    }
    Ok(given)
}

fn host_facts(host: &mut Netlink, network: &Network) -> Result<HostFacts, Failure> {
    let mut facts = HostFacts {
        masqueraded: Masquerade::are_in_place(&masquerade(network))?,
        ..HostFacts::default()
    };
    if let Some(link) = host.link(&network.bridge.name)? {
        let mut addresses = Vec::new();
        for ipv4 in gateway_families(network) {
            addresses.extend(host.addresses_of(link.index, ipv4)?);
        }
        facts.bridge = Some(BridgeFacts { link, addresses });
    } else if let Some(uplink) = host.uplink()? {
        facts.uplink_mtu = host.link_number(uplink)?.map(|link| link.mtu);
    }
    Ok(facts)
}

/// The families in which the bridge has to have an address.
fn gateway_families(network: &Network) -> impl Iterator<Item = bool> {
    let sets = network.ipam.sets.iter().filter(|_| network.bridge.gateway);
    let subnets: Vec<_> = sets.flat_map(|set| &set.0).map(|range| range.subnet).collect();
    [true, false]
        .into_iter()
        .filter(move |ipv4| subnets.iter().any(|subnet| subnet.is_ipv4() == *ipv4))
}

/// Frees the leases whose veth is gone: of killed ADDs, and of namespaces that vanished without DEL. `own` is kept.
fn reclaim(host: &mut Netlink, leases: &mut Leases, own: Owner) -> Result<(), Failure> {
    leases.retain(|holder| {
        if holder == own || host.link(&holder.host_ifname())?.is_some() {
            return Ok(true);
        }
        // Unlike the veth these do not go with the namespace.
        ports::remove(|port| Ok::<_, Failure>(port.owner == holder))?;
        host.delete_link(&holder.ifb_name())?;
        Ok(false)
    })
}
