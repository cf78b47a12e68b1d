//! How packets of this node's pods are told from others.

use std::fmt;

use gantry_nft::Interface;

/// What pods are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// Their addresses: those in `pod-cidrs`.
    Ranges,
    /// The interface that their packets come in through. Behind the routing decision that is not known any more (on a bridge whose
    /// packets netfilter sees), so packets of others are marked before it.
    Interface {
        /// Its name.
        name: InterfaceName,
        /// False if only the start of the name is given.
        whole: bool,
        /// Which bit of the packet mark says "not from a pod", from 0 to 31.
        mark_bit: u8,
    },
}

/// The name of a network interface: 1 to 15 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InterfaceName {
    bytes: [u8; 15],
    len: usize,
}

impl InterfaceName {
    /// The name, unless no interface can have it.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; 15];
        let valid = !name.is_empty() && !name.contains(|c: char| c == '/' || c == '\0' || c.is_whitespace());
        bytes
            .get_mut(..name.len())
            .filter(|_| valid)?
            .copy_from_slice(name.as_bytes());
        let len = name.len();
        Some(Self { bytes, len })
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Pods {
    /// The interfaces that pods' packets come in through, and the mark of other packets.
    pub(super) fn interface(&self) -> Option<(Interface<'_>, u32)> {
        match self {
            Self::Ranges => None,
            Self::Interface {
                name,
                whole,
                mark_bit,
            } => {
                let name = name.as_str();
                let interface = if *whole {
                    Interface::Named(name)
                } else {
                    Interface::Prefix(name)
                };
                Some((interface, 1 << (mark_bit % 32)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::InterfaceName;

    #[test]
    fn only_possible_names_are_names() {
        for name in ["cni0", "v", "fifteen-letters"] {
            assert_eq!(
                InterfaceName::new(name).map(|n| n.as_str().to_owned()).as_deref(),
                Some(name)
            );
        }
        for name in ["", "sixteen-letters!", "a/b", "a b", "a\0"] {
            assert_eq!(InterfaceName::new(name), None, "{name}");
        }
    }
}
