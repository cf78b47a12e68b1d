//! Does what a plan says, step by step; on failure takes back what was done, last step first. Decides nothing.

use ipnetwork::IpNetwork;
use rustix::io::Errno;

use crate::error::{BridgeMismatch, Failure};
use crate::fault;
use crate::lease::Leases;
use crate::netlink::link::{LinkState, VethPair};
use crate::netlink::{Netlink, NetlinkError};
use crate::netns::Namespace;
use crate::plan::{Step, Undo};
use crate::ports;
use crate::result::Route;
use crate::sysctl::{self, Settings};

mod limits;

/// What steps need beside their own values.
pub(crate) struct Executor<'a> {
    /// A socket in the host's namespace.
    pub(crate) host: &'a mut Netlink,
    /// The container's namespace.
    pub(crate) netns: &'a Namespace,
    /// The bridge's name.
    pub(crate) bridge: &'a str,
    /// The bridge's number, once known.
    pub(crate) bridge_index: Option<u32>,
    /// The interface's name inside.
    pub(crate) ifname: &'a str,
    /// The network's lock, held until there is a veth to show that its leases are in use.
    pub(crate) lock: Option<Leases>,
}

impl Executor<'_> {
    /// Does all steps or, as far as possible, none. The error is that of the step that failed; what could not be taken
    /// back goes to standard error.
    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), Failure> {
        let mut undo = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let done = fault::before(number).and_then(|()| self.step(step));
            if let Err(failure) = done {
                self.undo(undo);
                return Err(failure);
            }
            undo.extend(step.undo());
            if matches!(step, Step::CreateVeth { .. }) {
                self.lock = None;
            }
        }
        fault::before(steps.len()).inspect_err(|_| self.undo(undo))
    }

    fn undo(&mut self, steps: Vec<Undo>) {
        for step in steps.into_iter().rev() {
            let undone = match &step {
                Undo::DeleteLink(name) => self.host.delete_link(name).map(drop).map_err(Failure::from),
                Undo::UnmapPorts { owner, ipv4 } => ports::unmap(*ipv4, *owner).map_err(Failure::from),
            };
            if let Err(error) = undone {
                eprintln!("gantry-cni: could not take back {step:?}: {error}");
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::CreateBridge { mac } => {
                let made = self.host.create_bridge(self.bridge, *mac);
                // Another ADD, of another network, was faster: its bridge does as well.
                unless(made, Errno::EXIST).map_err(|error| without_device("bridge", error))?;
            }
            Step::RefuseAdvertisements => self.set_bridge("ipv6", "accept_ra", 0)?,
            Step::RaiseBridge { promiscuous, mtu } => {
                let index = self.bridge_index()?;
                let (up, promiscuous, mtu) = (true, *promiscuous, *mtu);
                self.host.set_link(index, LinkState { up, promiscuous, mtu })?;
            }
            Step::RemoveAddress(address) => {
                let index = self.bridge_index()?;
                unless(self.host.remove_address(index, *address), Errno::ADDRNOTAVAIL)?;
            }
            Step::AddGateway(address) => {
                let index = self.bridge_index()?;
                let added = unless(self.host.add_address(index, *address), Errno::EXIST);
                added.map_err(|error| without_ipv6(self.bridge, *address, error))?;
            }
            Step::Forward { ipv4 } => self.forward(*ipv4)?,
            Step::Masquerade(table) => table.ensure()?,
            Step::CreateVeth {
                host_name,
                host_mac,
                inner_mac,
                mtu,
            } => {
                let bridge = self.bridge_index()?;
                let made = self.host.create_veth(&VethPair {
                    host_name,
                    host_mac: *host_mac,
                    bridge,
                    inner_name: self.ifname,
                    inner_mac: *inner_mac,
                    netns: self.netns.as_fd(),
                    mtu: *mtu,
                });
                made.map_err(|error| without_device("veth", error))?;
            }
            Step::SetPort {
                host_name,
                hairpin,
                isolated,
            } => self.host.set_port(host_name, *hairpin, *isolated)?,
            Step::CreateIfb { name, mac, mtu } => self.create_ifb(name, *mac, *mtu)?,
            Step::Shape { device, bucket } => self.shape(device, *bucket)?,
            Step::Redirect { from, to } => self.redirect(from, to)?,
            Step::ConfigurePod { addresses, routes } => {
                self.netns
                    .run(|| configure_pod(self.ifname, addresses, routes))??;
            }
            Step::MapPorts(wanted) => ports::map(wanted, self.host)?,
            Step::RouteLoopback => self.set_bridge("ipv4", "route_localnet", 1)?,
        }
        Ok(())
    }

    fn forward(&mut self, ipv4: bool) -> Result<(), Failure> {
        if self.host.forwards(ipv4)? {
            return Ok(());
        }
        let (directory, name) = if ipv4 {
            ("net/ipv4", "ip_forward")
        } else {
            ("net/ipv6/conf/all", "forwarding")
        };
        sysctl::set(directory.to_owned(), name, 1)?;
        Ok(())
    }

    fn set_bridge(&self, family: &str, setting: &str, value: u8) -> Result<(), Failure> {
        sysctl::set(format!("net/{family}/conf/{}", self.bridge), setting, value)?;
        Ok(())
    }

    fn bridge_index(&mut self) -> Result<u32, NetlinkError> {
        if let Some(index) = self.bridge_index {
            return Ok(index);
        }
        let index = self.index(self.bridge)?;
        self.bridge_index = Some(index);
        Ok(index)
    }

    fn index(&mut self, name: &str) -> Result<u32, NetlinkError> {
        self.host.index(name)
    }
}

/// Runs inside the container's namespace.
fn configure_pod(ifname: &str, addresses: &[IpNetwork], routes: &[Route]) -> Result<(), Failure> {
    let mut inside = Netlink::open()?;
    let index = inside.index(ifname)?;
    let ipv6 = addresses.iter().any(IpNetwork::is_ipv6);
    if let Some(settings) = Settings::open(format!("net/ipv6/conf/{ifname}"))? {
        // Before the interface is up: nobody on the bridge gives this pod a route (CVE-2020-10749).
        settings.set("accept_ra", 0)?;
        // As the stock plugin. The link-local address follows from the hardware address, which no other pod has, and the bridge
        // would show the question whether somebody has it to all other pods.
        settings.set("accept_dad", 0)?;
        if ipv6 {
            // Some runtimes make sandboxes with IPv6 off; the network that was asked for wins.
            settings.set("disable_ipv6", 0)?;
        } else {
            // With a link-local address it would tell all others on the bridge, four times, which groups it listens to.
            inside.no_own_address(index)?;
        }
    }
    inside.set_link(index, LinkState::UP)?;
    for address in addresses {
        inside.add_address(index, *address)?;
    }
    for route in routes {
        inside.add_route(index, route)?;
    }
    Ok(())
}

/// How the kernel refuses an address when IPv6 is switched off on the interface or in the kernel.
fn without_ipv6(bridge: &str, wanted: IpNetwork, source: NetlinkError) -> Failure {
    let name = bridge.to_owned();
    match source.kernel_reason() {
        Some(Errno::ACCESS) if wanted.is_ipv6() => BridgeMismatch::NoIpv6 { name, wanted, source }.into(),
        Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) if wanted.is_ipv6() => {
            BridgeMismatch::KernelWithoutIpv6 { name, wanted, source }.into()
        }
        Some(_) | None => source.into(),
    }
}

/// How the kernel refuses a kind of device that it does not know.
fn without_device(module: &'static str, source: NetlinkError) -> Failure {
    match source.kernel_reason() {
        Some(Errno::OPNOTSUPP) => Failure::NoDevice { module, source },
        Some(_) | None => source.into(),
    }
}

fn unless(outcome: Result<(), NetlinkError>, accepted: Errno) -> Result<(), NetlinkError> {
    match outcome {
        Err(error) if error.kernel_reason() == Some(accepted) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kind_of_device_is_named_and_nothing_else_is() {
        let refused = |reason: Errno| NetlinkError::Refused {
            operation: "make".to_owned(),
            source: reason.into(),
        };
        let missing = without_device("veth", refused(Errno::OPNOTSUPP));
        assert!(missing.to_string().contains("no veth"));
        let other = without_device("veth", refused(Errno::EXIST));
        assert!(matches!(other, Failure::Netlink(_)));
        assert_eq!(missing.code(), other.code());
    }
}
