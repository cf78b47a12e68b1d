//! The network configuration from standard input: the fields of the stock `bridge` and `host-local` plugins where the
//! meaning is the same, and a short form.
//!
//! Input: JSON. Output: [`Network`], validated to the last field, before anything is touched. Fields that nobody here
//! knows are ignored, as the specification asks; a known field that we cannot honour is refused with the way out.
//!
//! Short form: `"subnet": "10.1.2.0/24"` (or a list, one for each family) instead of `ipam`, which also turns on what every
//! Kubernetes node needs, unless it is given: `isDefaultGateway`, `ipMasq`, `hairpinMode`.
//! `"clusterCIDRs": [...]` are destinations that are never masqueraded, besides the network's own subnets. `"policySocket"` is where
//! the daemon listens that enforces network policies (see `announce`).

use std::path::PathBuf;

use ipnetwork::IpNetwork;

use crate::bandwidth::Bandwidth;
use crate::owner::Mac;
use crate::ports::PortMappings;
use crate::range::{RangeError, RangeSet};
use crate::request::CniArgs;
use crate::result::{Dns, PreviousResult, Route};
use crate::version::Version;

mod ports;
mod raw;
mod refuse;
mod validate;

/// A valid network configuration.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// The version that the result has to have.
    pub(crate) version: Version,
    /// The network's name, safe as a path element.
    pub(crate) name: String,
    /// The bridge and its ports.
    pub(crate) bridge: Bridge,
    /// The addresses.
    pub(crate) ipam: Ipam,
    /// Destinations that pods reach with their own address; `None`: no masquerade at all.
    pub(crate) unmasqueraded: Option<Vec<IpNetwork>>,
    /// A hardware address asked for by the runtime.
    pub(crate) mac: Option<Mac>,
    /// The pod's limits.
    pub(crate) bandwidth: Bandwidth,
    /// Ports of the host that the runtime wants to lead to the container.
    pub(crate) ports: PortMappings,
    /// Passed on into the result.
    pub(crate) dns: Dns,
    /// The result of the last ADD, at CHECK and DEL.
    pub(crate) previous: Option<PreviousResult>,
    /// Where the node's daemon is told of pods, so that network policies hold for them before they run.
    pub(crate) policy_socket: Option<PathBuf>,
    /// At GC: what is still valid, as container identifier and interface name.
    pub(crate) valid_attachments: Option<Vec<(String, String)>>,
}

/// How the bridge and its ports are set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Its name.
    pub(crate) name: String,
    /// The MTU in bytes of bridge and pods; `None` leaves the kernel's.
    pub(crate) mtu: Option<u32>,
    /// The bridge has the gateway addresses and the host forwards.
    pub(crate) gateway: bool,
    /// Another address that is in the way of a gateway's is removed.
    pub(crate) force_address: bool,
    /// Pods get a default route through the bridge.
    pub(crate) default_gateway: bool,
    /// A pod can reach itself through a service address.
    pub(crate) hairpin: bool,
    /// The bridge is promiscuous.
    pub(crate) promiscuous: bool,
    /// Pods cannot reach each other directly.
    pub(crate) isolated: bool,
}

/// Which addresses, and where leases are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ipam {
    /// Each container gets one address of each set.
    pub(crate) sets: Vec<RangeSet>,
    /// Routes of the pods.
    pub(crate) routes: Vec<Route>,
    /// The directory above the network's own.
    pub(crate) data_dir: PathBuf,
    /// A file to take name resolution from, unless the configuration has its own.
    pub(crate) resolv_conf: Option<PathBuf>,
    /// Addresses asked for by the runtime.
    pub(crate) requested: Vec<std::net::IpAddr>,
}

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Not the JSON that we expect.
    #[error("the network configuration is not valid JSON for this plugin")]
    Decode(#[source] serde_json::Error),
    /// A version that we do not speak.
    #[error("cniVersion {0:?} is not supported: use 0.3.1, 0.4.0, 1.0.0 or 1.1.0")]
    Version(String),
    /// The command is newer than the configuration's version.
    #[error("{command} needs cniVersion {needed} or later, the configuration says {found}")]
    CommandVersion {
        /// The command.
        command: &'static str,
        /// The first version that has it.
        needed: Version,
        /// The configuration's.
        found: Version,
    },
    /// A field that means something we cannot do.
    #[error("{field} {value} is not supported: {fix}")]
    Unsupported {
        /// The field, with its path.
        field: &'static str,
        /// Its value; the specification wants it in the message.
        value: String,
        /// The way out.
        fix: &'static str,
    },
    /// A field has a value outside of its rules.
    #[error("{field}: {why}")]
    Invalid {
        /// The field, with its path.
        field: &'static str,
        /// What is wrong and what is allowed.
        why: String,
    },
    /// A range is wrong.
    #[error("the range {field} is not usable")]
    Range {
        /// The field, with its path.
        field: &'static str,
        /// What is wrong.
        #[source]
        source: RangeError,
    },
}

impl ConfigError {
    /// The code of the CNI specification.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Version(_) | Self::CommandVersion { .. } => 1,
            Self::Unsupported { .. } => 2,
            Self::Decode(_) => 6,
            Self::Invalid { .. } | Self::Range { .. } => 7,
        }
    }
}

/// The part of a configuration that every command and every plugin type has.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// The version spoken.
    pub(crate) version: Version,
    /// The plugin type asked for.
    pub(crate) plugin_type: String,
    /// The earlier result, as it came.
    pub(crate) previous: Option<serde_json::Value>,
}

impl Header {
    /// Reads the common part; [`Network::parse`] reads the rest.
    pub(crate) fn parse(stdin: &[u8]) -> Result<Self, ConfigError> {
        // A sequence would do for the decoder: the fields in order.
        if stdin.trim_ascii_start().first() != Some(&b'{') {
            return Err(ConfigError::Decode(serde::de::Error::custom(
                "it is not a JSON object",
            )));
        }
        let header: raw::Header = serde_json::from_slice(stdin).map_err(ConfigError::Decode)?;
        validate::name(&header.name)?;
        let version = Version::parse(&header.cni_version).ok_or(ConfigError::Version(header.cni_version))?;
        Ok(Self {
            version,
            plugin_type: header.plugin_type,
            previous: header.prev_result,
        })
    }

    /// Refuses a command that the version does not have.
    pub(crate) fn require(&self, command: &'static str, needed: Version) -> Result<(), ConfigError> {
        if self.version < needed {
            return Err(ConfigError::CommandVersion {
                command,
                needed,
                found: self.version,
            });
        }
        Ok(())
    }
}

impl Network {
    /// Reads and validates everything. `args` are the runtime's wishes from the environment.
    pub(crate) fn parse(stdin: &[u8], args: &CniArgs) -> Result<Self, ConfigError> {
        let config: raw::Config = serde_json::from_slice(stdin).map_err(ConfigError::Decode)?;
        validate::network(config, args)
    }

    /// The network without what the runtime wishes for one container, for commands that need no wish: a container whose
    /// wishes ADD refused can be deleted.
    pub(crate) fn parse_without_wishes(stdin: &[u8]) -> Result<Self, ConfigError> {
        let mut config: raw::Config = serde_json::from_slice(stdin).map_err(ConfigError::Decode)?;
        config.args = raw::Args::default();
        // The ranges are the network's: it may have no others.
        config.runtime_config = raw::RuntimeConfig {
            ip_ranges: config.runtime_config.ip_ranges,
            ..raw::RuntimeConfig::default()
        };
        validate::network(config, &CniArgs::default())
    }
}

#[cfg(test)]
mod tests;
