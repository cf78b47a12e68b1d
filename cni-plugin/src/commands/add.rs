//! ADD: lease, plan, execute, answer.
//!
//! The network's lock is held from the lease to the veth: a lease without a veth is then known to be dead (see `lease`). The daemon is
//! told afterwards, because others need not wait for its answer; a refusal takes everything back.

use std::path::Path;

use rustix::io::Errno;

use crate::announce;
use crate::commands::reclaim;
use crate::config::{Ipam, Network};
use crate::error::{BridgeMismatch, Failure};
use crate::execute::Executor;
use crate::lease::{Lease, LeaseError, Leases};
use crate::netlink::Netlink;
use crate::netns::Namespace;
use crate::plan::{BridgeFacts, HostFacts, Wanted, plan};
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
    let netns = Namespace::open(path)?;
    let mut host = Netlink::open()?;
    let mut leases = Leases::open(&network.ipam.data_dir, &network.name)?;
    let owner = attachment.owner();
    if host.link(&owner.host_ifname())?.is_some() {
        return Err(attached(attachment));
    }
    let wanted = Wanted {
        network: &network,
        owner,
        container: &attachment.container,
        ifname: &attachment.ifname,
        netns: path,
    };
    let outcome = lease_all(&network.ipam, attachment, &mut host, &mut leases)
        .and_then(|given| Ok((attach(&wanted, &given, &netns, &mut host)?, given)));
    if outcome.is_err()
        && let Err(error) = leases.release(owner)
    {
        eprintln!(
            "gantry-cni: could not free the addresses of {}: {error}",
            attachment.container
        );
    }
    drop(leases);
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
    netns: &Namespace,
    host: &mut Netlink,
) -> Result<String, Failure> {
    let name = &wanted.network.bridge.name;
    let facts = host_facts(host, name)?;
    let plan = plan(wanted, leases, &facts)?;
    let bridge_index = facts.bridge.map(|bridge| bridge.link.index);
    Executor {
        host,
        netns,
        bridge: name,
        bridge_index,
        ifname: wanted.ifname,
    }
    .run(&plan.steps)?;
    plan.outcome
        .to_json(wanted.network.version)
        .map_err(|source| Failure::Stdout(source.into()))
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
                reclaim(host, leases, Some(owner))?;
                leases.allocate(set, owner, &attachment.container, wanted)?
            }
            other => other?,
        };
        given.push(lease);
    }
    Ok(given)
}

fn host_facts(host: &mut Netlink, bridge: &str) -> Result<HostFacts, Failure> {
    if let Some(link) = host.link(bridge)? {
        let addresses = host.addresses(link.index)?;
        return Ok(HostFacts {
            bridge: Some(BridgeFacts { link, addresses }),
            uplink_mtu: None,
        });
    }
    let Some(uplink) = host.uplink()? else {
        return Ok(HostFacts::default());
    };
    let uplink_mtu = host.link_number(uplink)?.map(|link| link.mtu);
    Ok(HostFacts {
        bridge: None,
        uplink_mtu,
    })
}
