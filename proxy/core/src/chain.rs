//! The chains that translate, one for each distinct number of backends.
//!
//! Their names are part of the table's layout: `lb-3` picks one of three slots of an address-and-port front, `npl-2` one of the two
//! local slots of a node port.

use std::fmt;
use std::str::FromStr;

/// Which map a chain's random number is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Keyed by address, protocol and port.
    Address,
    /// Keyed by protocol and port, for node ports.
    NodePort,
}

/// Which of a front's slots are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All usable endpoints: slots from 0.
    Cluster,
    /// Those on this node: slots from [`LOCAL_SLOTS`].
    Local,
}

/// Where the local slots of a front start.
pub const LOCAL_SLOTS: u32 = 65536;

/// The most backends that one scope of a front uses.
pub const MAX_BACKENDS: usize = 65536;

/// A chain that translates to one of `count` slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// The map.
    pub target: Target,
    /// The slots.
    pub scope: Scope,
    /// How many slots there are; at least 1.
    pub count: u32,
}

impl Scope {
    /// The number of the scope's first slot.
    #[must_use]
    pub fn first_slot(self) -> u32 {
        match self {
            Self::Cluster => 0,
            Self::Local => LOCAL_SLOTS,
        }
    }
}

impl Chain {
    fn prefix(self) -> &'static str {
        match (self.target, self.scope) {
            (Target::Address, Scope::Cluster) => "lb",
            (Target::Address, Scope::Local) => "lbl",
            (Target::NodePort, Scope::Cluster) => "np",
            (Target::NodePort, Scope::Local) => "npl",
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.prefix(), self.count)
    }
}

impl FromStr for Chain {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let (prefix, count) = name.split_once('-').ok_or(())?;
        let (target, scope) = match prefix {
            "lb" => (Target::Address, Scope::Cluster),
            "lbl" => (Target::Address, Scope::Local),
            "np" => (Target::NodePort, Scope::Cluster),
            "npl" => (Target::NodePort, Scope::Local),
            _ => return Err(()),
        };
        let count = count.parse().map_err(drop)?;
        if count == 0 {
            Err(())
        } else {
            Ok(Self { target, scope, count })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for target in [Target::Address, Target::NodePort] {
            for scope in [Scope::Cluster, Scope::Local] {
                let chain = Chain {
                    target,
                    scope,
                    count: 17,
                };
                assert_eq!(chain.to_string().parse(), Ok(chain));
            }
        }
        for other in ["lb-", "lb-0", "lb", "prerouting", "no-endpoints", "xx-1", "lb--1"] {
            assert_eq!(other.parse::<Chain>(), Err(()), "{other}");
        }
    }
}
