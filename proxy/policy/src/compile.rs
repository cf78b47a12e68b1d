//! From a policy's rules to matches over numbered sets.

use std::collections::BTreeSet;

use gantry_proxy_core::Protocol;

use crate::blocks::{Range, ranges};
use crate::input::{Peer, PortMatch, Rule};
use crate::intern::Interned;
use crate::selector::{Labels, Selector};
use crate::table::{Match, PortTest, SetName};

/// The pods that a peer selects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) namespaces: Scope,
    pub(crate) pods: Selector,
}

/// In which namespaces a peer looks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    One(Box<str>),
    Selected(Selector),
}

impl Group {
    /// True if it selects pods of a namespace with these labels, if any.
    pub(crate) fn looks_into(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        match &self.namespaces {
            Scope::One(name) => **name == *namespace,
            Scope::Selected(selector) => labels.is_some_and(|labels| selector.matches(labels)),
        }
    }
}

/// The sets that policies share.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    pub(crate) groups: Interned<Group>,
    pub(crate) blocks: Interned<BTreeSet<Range>>,
    pub(crate) names: Interned<(Protocol, Box<str>)>,
}

/// A set that has just got its first user.
#[derive(Clone, Debug)]
pub(crate) enum Fresh {
    Group(SetName, Group),
    Blocks(SetName, BTreeSet<Range>),
    Name(SetName, Protocol, Box<str>),
}

/// A policy's rules for one direction, and what they use.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) allowed: BTreeSet<Match>,
    /// One entry for each use.
    pub(crate) uses: Vec<SetName>,
    pub(crate) fresh: Vec<Fresh>,
}

impl Sets {
    /// Takes the sets that the rules of a policy in this namespace need.
    pub(crate) fn compile(&mut self, namespace: &str, rules: &[Rule]) -> Compiled {
        let mut compiled = Compiled::default();
        for rule in rules {
            let peers = self.peers(namespace, &rule.peers, &mut compiled);
            let ports = self.ports(&rule.ports, &mut compiled);
            let product = peers.iter().flat_map(|peer| {
                ports.iter().map(|port| Match {
                    peer: *peer,
                    port: *port,
                })
            });
            compiled.allowed.extend(product);
        }
        compiled
    }

    fn peers(&mut self, namespace: &str, peers: &[Peer], compiled: &mut Compiled) -> Vec<Option<SetName>> {
        if peers.is_empty() {
            return vec![None];
        }
        let mut blocks = Vec::new();
        let mut sets = Vec::new();
        for peer in peers {
            match peer {
                Peer::Pods { namespaces, pods } => {
                    let group = Group {
                        namespaces: match namespaces {
                            Some(selector) => Scope::Selected(selector.clone()),
                            None => Scope::One(namespace.into()),
                        },
                        pods: pods.clone(),
                    };
                    let (id, is_new) = self.groups.add(group.clone());
                    let name = SetName::Pods(id);
                    compiled.take(name, is_new.then_some(Fresh::Group(name, group)));
                    sets.push(Some(name));
                }
                Peer::Block { cidr, except } => blocks.push((*cidr, except.as_slice())),
            }
        }
        let ranges = ranges(blocks);
        if !ranges.is_empty() {
            let (id, is_new) = self.blocks.add(ranges.clone());
            let name = SetName::Blocks(id);
            compiled.take(name, is_new.then_some(Fresh::Blocks(name, ranges)));
            sets.push(Some(name));
        }
        sets
    }

    fn ports(&mut self, ports: &[PortMatch], compiled: &mut Compiled) -> Vec<Option<PortTest>> {
        if ports.is_empty() {
            return vec![None];
        }
        ports
            .iter()
            .map(|port| {
                Some(match port {
                    PortMatch::All(protocol) => PortTest::All(*protocol),
                    PortMatch::Range(protocol, first, last) => PortTest::Range(*protocol, *first, *last),
                    PortMatch::Named(protocol, port) => {
                        let (id, is_new) = self.names.add((*protocol, port.clone()));
                        let name = SetName::Named(id);
                        compiled.take(name, is_new.then(|| Fresh::Name(name, *protocol, port.clone())));
                        PortTest::Named(*protocol, name)
                    }
                })
            })
            .collect()
    }

    /// Gives back one use; true if it was the last.
    pub(crate) fn release(&mut self, name: SetName) -> bool {
        match name {
            SetName::Pods(id) => self.groups.release(id),
            SetName::Blocks(id) => self.blocks.release(id),
            SetName::Named(id) => self.names.release(id),
            SetName::Subjects(_) | SetName::Own => false,
        }
    }
}

impl Compiled {
    fn take(&mut self, name: SetName, fresh: Option<Fresh>) {
        self.uses.push(name);
        self.fresh.extend(fresh);
    }
}
