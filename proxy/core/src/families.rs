//! The address families: which of them have a table on this node, and what is configured that does not fit them.
//!
//! As in the reference, both run wherever the kernel has both, whatever the cluster uses: a cluster may become dual-stack while the
//! program runs. Which family is the primary one decides only what is worth a warning, and what cannot work at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv6() { Self::Ipv6 } else { Self::Ipv4 }
    }

    /// The family of a slice by its `addressType`; other types have none.
    #[must_use]
    pub fn of_type(address_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == address_type)
    }

    /// True for IPv6.
    #[must_use]
    pub fn is_ipv6(self) -> bool {
        self == Self::Ipv6
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Ipv4 => Self::Ipv6,
            Self::Ipv6 => Self::Ipv4,
        }
    }

    /// As the API, health pages and series write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// That of IPv4.
    pub ipv4: T,
    /// That of IPv6.
    pub ipv6: T,
}

impl<T> PerFamily<T> {
    /// What `make` says of each.
    pub fn each(mut make: impl FnMut(Family) -> T) -> Self {
        Self {
            ipv4: make(Family::Ipv4),
            ipv6: make(Family::Ipv6),
        }
    }

    /// That of one.
    #[must_use]
    pub fn of(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// That of one, to be changed.
    #[must_use]
    pub fn of_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// The families that have a table here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Both: the kernel has IPv6.
    Both,
    /// IPv4 alone: it has not, or it is switched off.
    Ipv4Only,
}

impl Families {
    /// What runs on a kernel with or without IPv6; IPv4 it always has.
    #[must_use]
    pub fn on(has_ipv6: bool) -> Self {
        if has_ipv6 { Self::Both } else { Self::Ipv4Only }
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> &'static [Family] {
        match self {
            Self::Both => &Family::ALL,
            Self::Ipv4Only => &[Family::Ipv4],
        }
    }

    /// True if this one has a table.
    #[must_use]
    pub fn has(self, family: Family) -> bool {
        self.all().contains(&family)
    }
}

/// The primary family: that of `bindAddress` when it is one address, else that of the node's first address, else IPv4.
#[must_use]
pub fn primary(bind: Option<IpAddr>, node: &[IpAddr]) -> Family {
    bind.or_else(|| node.first().copied())
        .map_or(Family::Ipv4, Family::of)
}

/// What is configured, and what the node says.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// `clusterCIDR`.
    pub cluster_ranges: &'a [IpNetwork],
    /// Pods are told by it.
    pub by_cluster: bool,
    /// The node's pod ranges, if pods are told by them.
    pub node_ranges: Option<&'a [IpNetwork]>,
    /// Ranges of `nodePortAddresses`, or the node's addresses for `primary`.
    pub node_ports: &'a [IpNetwork],
    /// `healthzBindAddress`.
    pub healthz: Option<SocketAddr>,
    /// `metricsBindAddress`.
    pub metrics: Option<SocketAddr>,
}

/// Something that does not fit the families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The node's first address is of a family that does not run.
    #[error("the node's primary address is of family {0}, which this kernel does not have")]
    Unsupported(Family),
    /// A setting says nothing about the primary family.
    #[error("the primary family is {primary}, but {field} is of {} only", primary.other())]
    OtherFamily {
        /// What is set.
        field: &'static str,
        /// The family that it should name.
        primary: Family,
    },
    /// Node ports are restricted in no family, or not in this one.
    #[error("nodePortAddresses names no address of {0}: node ports are served on all local addresses of it")]
    AllNodePorts(Family),
}

/// Compares a configuration with the families, as the reference does when it starts: the misfits that are worth a warning.
///
/// # Errors
/// The first misfit that leaves nothing that could work.
pub fn check(
    families: Families,
    primary: Family,
    configured: &Configured<'_>,
) -> Result<Vec<Misfit>, Misfit> {
    if !families.has(primary) {
        return Err(Misfit::Unsupported(primary));
    }
    let alone = families == Families::Ipv4Only;
    let other = |field| Misfit::OtherFamily { field, primary };
    let lacks = |ranges: &[IpNetwork]| !ranges.is_empty() && !has(ranges, primary);
    let mut misfits = unrestricted(primary, configured);
    if lacks(configured.cluster_ranges) {
        let misfit = other("clusterCIDR");
        if configured.by_cluster && alone {
            return Err(misfit);
        }
        misfits.push(misfit);
    }
    if configured.node_ranges.is_some_and(lacks) {
        return Err(other("spec.podCIDRs of the node"));
    }
    if alone {
        let pages = [
            ("healthzBindAddress", configured.healthz),
            ("metricsBindAddress", configured.metrics),
        ];
        let foreign = |address: SocketAddr| {
            !address.ip().is_unspecified() && Family::of(address.ip()) == primary.other()
        };
        let set = pages.into_iter().filter(|(_, at)| at.is_some_and(foreign));
        misfits.extend(set.map(|(field, _)| other(field)));
    }
    Ok(misfits)
}

/// Families that seem to be in use and whose node ports everybody may reach at every address.
fn unrestricted(primary: Family, configured: &Configured<'_>) -> Vec<Misfit> {
    let lists = [
        configured.cluster_ranges,
        configured.node_ports,
        configured.node_ranges.unwrap_or_default(),
    ];
    let is_dual = |list: &&[IpNetwork]| Family::ALL.iter().all(|family| has(list, *family));
    let dual = lists.iter().any(is_dual);
    let in_use = [Some(primary), dual.then_some(primary.other())];
    let open = |family: &Family| !has(configured.node_ports, *family);
    in_use
        .into_iter()
        .flatten()
        .filter(open)
        .map(Misfit::AllNodePorts)
        .collect()
}

fn has(ranges: &[IpNetwork], family: Family) -> bool {
    ranges.iter().any(|range| range.is_ipv6() == family.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[&str]) -> Vec<IpNetwork> {
        list.iter().map(|range| range.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A configuration for tests; the ranges are cluster's, node's and node ports'.
    fn checked(
        families: Families,
        primary: Family,
        cluster: &[&str],
        node: Option<&[&str]>,
        ports: &[&str],
    ) -> Result<Vec<Misfit>, Misfit> {
        let node = node.map(ranges);
        let configured = Configured {
            cluster_ranges: &ranges(cluster),
            by_cluster: node.is_none(),
            node_ranges: node.as_deref(),
            node_ports: &ranges(ports),
            healthz: Some("[fd00::1]:10256".parse().unwrap()),
            metrics: Some("0.0.0.0:10249".parse().unwrap()),
        };
        check(families, primary, &configured)
    }

    #[test]
    fn the_first_address_names_the_primary_family_unless_one_is_bound() {
        let (four, six) = (ip("192.0.2.1"), ip("fd00::1"));
        assert_eq!(primary(None, &[]), Family::Ipv4);
        assert_eq!(primary(None, &[six, four]), Family::Ipv6);
        assert_eq!(primary(None, &[four, six]), Family::Ipv4);
        assert_eq!(primary(Some(six), &[four]), Family::Ipv6);
    }

    #[test]
    fn both_run_where_the_kernel_has_both() {
        assert_eq!(Families::on(true).all(), [Family::Ipv4, Family::Ipv6]);
        assert_eq!(Families::on(false).all(), [Family::Ipv4]);
        assert_eq!(Family::of_type("IPv6"), Some(Family::Ipv6));
        assert_eq!(Family::of_type("FQDN"), None);
    }

    #[test]
    fn a_family_that_does_not_run_cannot_be_the_primary_one() {
        let refused = checked(Families::Ipv4Only, Family::Ipv6, &[], None, &[]);
        assert_eq!(refused, Err(Misfit::Unsupported(Family::Ipv6)));
        assert!(checked(Families::Both, Family::Ipv6, &[], None, &[]).is_ok());
    }

    #[test]
    fn cluster_ranges_of_the_other_family_alone_are_final_only_without_it() {
        let other = |field| Misfit::OtherFamily {
            field,
            primary: Family::Ipv4,
        };
        let (v6, here): (&[&str], &[&str]) = (&["fd00:244::/56"], &["192.0.2.1/32"]);
        assert_eq!(
            checked(Families::Both, Family::Ipv4, v6, None, here),
            Ok(vec![other("clusterCIDR")])
        );
        assert_eq!(
            checked(Families::Ipv4Only, Family::Ipv4, v6, None, here),
            Err(other("clusterCIDR"))
        );
        let both: &[&str] = &["fd00:244::/56", "10.244.0.0/16"];
        assert_eq!(
            checked(
                Families::Both,
                Family::Ipv4,
                both,
                None,
                &["192.0.2.1/32", "fd00::1/128"]
            ),
            Ok(vec![])
        );
        assert_eq!(
            checked(Families::Both, Family::Ipv4, &[], Some(v6), here),
            Err(other("spec.podCIDRs of the node")),
            "always final when pods are told by them"
        );
    }

    #[test]
    fn a_page_on_an_address_of_a_family_that_does_not_run_is_told() {
        let field = "healthzBindAddress";
        let primary = Family::Ipv4;
        assert_eq!(
            checked(Families::Ipv4Only, primary, &[], None, &["192.0.2.1/32"]),
            Ok(vec![Misfit::OtherFamily { field, primary }])
        );
    }

    #[test]
    fn node_ports_on_all_addresses_are_told() {
        let open = Misfit::AllNodePorts;
        let told = |cluster, ports| checked(Families::Both, Family::Ipv4, cluster, None, ports);
        let dual: &[&str] = &["10.244.0.0/16", "fd00:244::/56"];
        assert_eq!(told(&[], &[]), Ok(vec![open(Family::Ipv4)]));
        assert_eq!(told(&[], &["fd00::/64"]), Ok(vec![open(Family::Ipv4)]));
        assert_eq!(told(&[], &["192.0.2.0/24"]), Ok(vec![]));
        assert_eq!(told(dual, &["192.0.2.0/24"]), Ok(vec![open(Family::Ipv6)]));
        assert_eq!(told(dual, &["192.0.2.0/24", "fd00::/64"]), Ok(vec![]));
    }
}
