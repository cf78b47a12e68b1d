//! What goes wrong, as the caller sees it: the error object of the CNI specification.
//!
//! Each operation has its own error enum; [`Failure`] joins them and gives each its code. Codes 1 to 99 belong to the
//! specification (section "Error"), from 100 on they are ours.

use std::error::Error as _;

use serde::Serialize;

use crate::announce::AnnounceError;
use crate::commands::check::CheckError;
use crate::config::ConfigError;
use crate::lease::LeaseError;
use crate::masquerade::MasqueradeError;
use crate::netlink::NetlinkError;
use crate::netns::NamespaceError;
use crate::ports::PortError;
use crate::range::RangeSet;
use crate::request::EnvironmentError;
use crate::resolv::ResolvError;
use crate::sysctl::SysctlError;

/// Our own codes: the kernel refused a change that should have worked.
const CODE_KERNEL: u32 = 100;
/// Our own codes: CHECK found that an attachment is not as ADD left it.
const CODE_DAMAGED: u32 = 101;
/// Our own codes: the attachment exists already.
const CODE_ATTACHED: u32 = 102;
/// Our own codes: the bridge is not usable for this network.
const CODE_BRIDGE: u32 = 103;
/// Our own codes: another pod has the host port.
const CODE_PORT: u32 = 104;

/// Any failure of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The environment variables are missing or wrong.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Standard input could not be read.
    #[error("cannot read the network configuration from standard input")]
    Stdin(#[source] std::io::Error),
    /// The network configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The container's network namespace is not usable.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The file of `ipam.resolvConf` is not readable.
    #[error(transparent)]
    Resolv(#[from] ResolvError),
    /// The lease store failed or the range is exhausted.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The kernel refused a change.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The kernel cannot limit bandwidth.
    #[error(
        "the bandwidth of a pod cannot be limited: this kernel has no {modules}; load or install it, or remove the limit"
    )]
    NoModule {
        /// Which modules.
        modules: &'static str,
        /// What the kernel refused.
        #[source]
        source: NetlinkError,
    },
    /// The kernel cannot make a device that every pod needs.
    #[error("a pod cannot be attached: this kernel has no {module}; load or install it")]
    NoDevice {
        /// Which module.
        module: &'static str,
        /// What the kernel refused.
        #[source]
        source: NetlinkError,
    },
    /// A kernel setting could not be read or written.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The masquerade rules could not be made.
    #[error(transparent)]
    Masquerade(#[from] MasqueradeError),
    /// The host's ports could not be led to the pod.
    #[error(transparent)]
    Ports(#[from] PortError),
    /// The bridge exists but does not fit.
    #[error(transparent)]
    Bridge(#[from] BridgeMismatch),
    /// The container has this interface already.
    #[error(
        "container {container:?} already has an interface {ifname:?} from this plugin: DEL it before another ADD"
    )]
    Attached {
        /// The container's identifier.
        container: String,
        /// The name of the interface inside.
        ifname: String,
    },
    /// Network policies do not hold for the pod yet.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The result could not be written.
    #[error("cannot write the result")]
    Stdout(#[source] std::io::Error),
    /// STATUS: no ADD can work here.
    #[error(transparent)]
    Unready(#[from] Unready),
    /// CHECK found a difference.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// What the host lacks for any pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unready {
    /// Who has which address cannot be written down.
    #[error("the network cannot take pods")]
    State(#[source] LeaseError),
    /// It has no IPv6.
    #[error(
        "the network cannot take pods: this kernel has no IPv6, which the range {range} needs; start it without ipv6.disable=1 or remove the range"
    )]
    NoIpv6 {
        /// What the configuration asks for.
        range: RangeSet,
    },
}

/// Why an existing bridge cannot carry this network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BridgeMismatch {
    /// The name belongs to another kind of device.
    #[error("{name:?} exists but is not a bridge: choose another name in \"bridge\" or remove that device")]
    NotABridge {
        /// The name asked for.
        name: String,
    },
    /// It has no port left.
    #[error(
        "bridge {name:?} is full: the kernel gives a bridge 1023 ports, use a second network for more pods"
    )]
    Full {
        /// The bridge.
        name: String,
    },
    /// It cannot have an IPv6 address.
    #[error(
        "bridge {name:?} cannot have the address {wanted}: IPv6 is switched off there; set net.ipv6.conf.{name}.disable_ipv6=0 or remove the IPv6 range"
    )]
    NoIpv6 {
        /// The bridge.
        name: String,
        /// What the configuration asks for.
        wanted: ipnetwork::IpNetwork,
        /// How the kernel says so.
        #[source]
        source: NetlinkError,
    },
    /// No interface can.
    #[error(
        "bridge {name:?} cannot have the address {wanted}: this kernel has no IPv6; start it without ipv6.disable=1 or remove the IPv6 range"
    )]
    KernelWithoutIpv6 {
        /// The bridge.
        name: String,
        /// What the configuration asks for.
        wanted: ipnetwork::IpNetwork,
        /// How the kernel says so.
        #[source]
        source: NetlinkError,
    },
    /// It carries an address that conflicts with the gateway.
    #[error(
        "bridge {name:?} has the address {found}, this network needs {wanted}: choose another \"bridge\", or remove that address"
    )]
    OtherAddress {
        /// The bridge.
        name: String,
        /// What it has.
        found: ipnetwork::IpNetwork,
        /// What the configuration asks for.
        wanted: ipnetwork::IpNetwork,
    },
}

impl Failure {
    /// The code of the CNI specification.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Environment(_) => 4,
            Self::Stdin(_) | Self::Stdout(_) | Self::Resolv(_) => 5,
            // Try again later.
            Self::Announce(_) => 11,
            Self::Unready(_) => 50,
            Self::Config(error) => error.code(),
            Self::Namespace(error) => error.code(),
            Self::Lease(error) => error.code(),
            Self::Sysctl(_) => 5,
            Self::Netlink(_) | Self::NoModule { .. } | Self::NoDevice { .. } | Self::Masquerade(_) => {
                CODE_KERNEL
            }
            Self::Ports(PortError::Taken { .. }) => CODE_PORT,
            Self::Ports(_) => CODE_KERNEL,
            Self::Check(_) => CODE_DAMAGED,
            Self::Attached { .. } => CODE_ATTACHED,
            Self::Bridge(_) => CODE_BRIDGE,
        }
    }

    /// The object to print: the message says what failed, the details say why.
    pub(crate) fn report(&self, cni_version: &str) -> Report {
        let mut details = Vec::new();
        let mut cause = self.source();
        while let Some(error) = cause {
            details.push(error.to_string());
            cause = error.source();
        }
        Report {
            cni_version: cni_version.to_owned(),
            code: self.code(),
            msg: self.to_string(),
            details: details.join(": "),
        }
    }
}

/// The error object of the CNI specification, section "Error".
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(rename = "cniVersion")]
    cni_version: String,
    code: u32,
    msg: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    details: String,
}
