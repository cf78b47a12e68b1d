//! What is known of the cluster: pods, namespaces and policies, cut to what policies look at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gantry_proxy_core::Protocol;
use ipnetwork::IpNetwork;

use crate::selector::{Labels, Selector};

/// A namespaced object's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
}

impl Key {
    /// A key of its parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// A pod with an address of its own, or of this node and about to get one: one that uses the host's network, or has ended, is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.uid` of a pod of this node; of others nobody asks.
    pub uid: Box<str>,
    /// `status.podIPs`.
    pub addresses: BTreeSet<IpAddr>,
    /// It runs on this node, so that its policies are enforced here.
    pub local: bool,
    /// Container ports that have a name.
    pub ports: BTreeSet<NamedPort>,
}

/// A named port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// Its name.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// A `networking.k8s.io/v1` `NetworkPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `spec.podSelector`: whose traffic it restricts, in its own namespace.
    pub subjects: Selector,
    /// `spec.ingress`, if it is a policy of type `Ingress`.
    pub ingress: Option<Vec<Rule>>,
    /// `spec.egress`, if it is a policy of type `Egress`.
    pub egress: Option<Vec<Rule>>,
}

/// What one rule allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `from` or `to`; without any, everybody.
    pub peers: Vec<Peer>,
    /// `ports`; without any, every port and every protocol.
    pub ports: Vec<PortMatch>,
}

/// The other side of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Pods.
    Pods {
        /// `namespaceSelector`; without one, the policy's own namespace.
        namespaces: Option<Selector>,
        /// `podSelector`; an absent one selects all.
        pods: Selector,
    },
    /// `ipBlock`.
    Block {
        /// `cidr`.
        cidr: IpNetwork,
        /// `except`.
        except: Vec<IpNetwork>,
    },
}

/// Destination ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortMatch {
    /// All of a protocol.
    All(Protocol),
    /// From `port` to `endPort`, both included.
    Range(Protocol, u16, u16),
    /// Those that the destination pod calls so.
    Named(Protocol, Box<str>),
}
