//! The parts of the table that are made when first needed: their number depends on how different services are, not on how many.
//!
//! Chains that translate, one for each distinct number of backends: `lb-3` picks one of three slots of an address-and-port front,
//! `npl-2` one of the two local slots of a node port, `aff-3` first asks where the client went before. Chains that learn this,
//! one for each distinct time-out: `learn-10800`. Sets of allowed sources, one for each distinct length of a prefix: `fw-24`.

use std::fmt;
use std::num::NonZeroU32;
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
    /// A client that is remembered goes to the same backend again.
    pub sticky: bool,
}

/// A part that is made when first needed. The names are the layout's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A chain that translates.
    Balancer(Chain),
    /// A chain that remembers clients for so many seconds.
    Learner(Target, NonZeroU32),
    /// The set of sources that are ranges of so many bits, and the rule that looks them up.
    Sources(u8),
}

impl Part {
    /// True for a part that may be deleted once nothing needs it. The sets of sources stay: they are few, and one set for each
    /// length that was ever used is the most.
    #[must_use]
    pub fn is_given_up(self) -> bool {
        match self {
            Self::Balancer(_) | Self::Learner(..) => true,
            Self::Sources(_) => false,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balancer(chain) => chain.fmt(f),
            Self::Learner(Target::Address, secs) => write!(f, "learn-{secs}"),
            Self::Learner(Target::NodePort, secs) => write!(f, "np-learn-{secs}"),
            Self::Sources(bits) => write!(f, "fw-{bits}"),
        }
    }
}

impl FromStr for Part {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let learner = |target, secs: &str| number(secs).map(|secs| Self::Learner(target, secs));
        if let Some(bits) = name.strip_prefix("fw-") {
            number(bits).map(Self::Sources)
        } else if let Some(secs) = name.strip_prefix("learn-") {
            learner(Target::Address, secs)
        } else if let Some(secs) = name.strip_prefix("np-learn-") {
            learner(Target::NodePort, secs)
        } else {
            name.parse().map(Self::Balancer)
        }
    }
}

/// A number as it is written here: another spelling (`+1`, `01`) is the name of something else.
fn number<T: FromStr + fmt::Display>(text: &str) -> Result<T, ()> {
    let number: T = text.parse().map_err(drop)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(())
    }
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

    /// The scope that a slot belongs to.
    #[must_use]
    pub fn of_slot(slot: u32) -> Self {
        if slot < LOCAL_SLOTS {
            Self::Cluster
        } else {
            Self::Local
        }
    }
}

impl Chain {
    fn prefix(self) -> &'static str {
        match (self.target, self.scope, self.sticky) {
            (Target::Address, Scope::Cluster, false) => "lb",
            (Target::Address, Scope::Local, false) => "lbl",
            (Target::NodePort, Scope::Cluster, false) => "np",
            (Target::NodePort, Scope::Local, false) => "npl",
            (Target::Address, Scope::Cluster, true) => "aff",
            (Target::Address, Scope::Local, true) => "affl",
            (Target::NodePort, Scope::Cluster, true) => "npaff",
            (Target::NodePort, Scope::Local, true) => "npaffl",
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
        let (target, scope, sticky) = match prefix {
            "lb" => (Target::Address, Scope::Cluster, false),
            "lbl" => (Target::Address, Scope::Local, false),
            "np" => (Target::NodePort, Scope::Cluster, false),
            "npl" => (Target::NodePort, Scope::Local, false),
            "aff" => (Target::Address, Scope::Cluster, true),
            "affl" => (Target::Address, Scope::Local, true),
            "npaff" => (Target::NodePort, Scope::Cluster, true),
            "npaffl" => (Target::NodePort, Scope::Local, true),
            _ => return Err(()),
        };
        let count = number(count)?;
        if count == 0 {
            Err(())
        } else {
            Ok(Self {
                target,
                scope,
                count,
                sticky,
            })
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
                for sticky in [false, true] {
                    let part = Part::Balancer(Chain {
                        target,
                        scope,
                        count: 17,
                        sticky,
                    });
                    assert_eq!(part.to_string().parse(), Ok(part));
                }
            }
            let part = Part::Learner(target, NonZeroU32::MIN);
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        assert_eq!("fw-24".parse(), Ok(Part::Sources(24)));
        for other in ["fw-services", "learn-0", "np-learn-", "learn"] {
            assert_eq!(other.parse::<Part>(), Err(()), "{other}");
        }
        for other in ["lb-", "lb-0", "lb", "prerouting", "no-endpoints", "xx-1", "lb--1"] {
            assert_eq!(other.parse::<Chain>(), Err(()), "{other}");
        }
    }

    proptest::proptest! {
        /// Another spelling is another chain in the kernel, and not ours.
        #[test]
        fn only_the_name_that_is_written_is_read(
            name in "(lb|npl|aff|npaffl|learn|np-learn|fw)-[-+ 0-9]{0,11}|.{0,12}",
        ) {
            if let Ok(part) = name.parse::<Part>() {
                proptest::prop_assert_eq!(part.to_string(), name);
            }
        }
    }
}
