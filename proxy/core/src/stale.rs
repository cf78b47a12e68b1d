//! UDP flows that must not go on: their backend is gone, or they went past a service that exists now.
//!
//! The kernel translates only the first packet of a flow; a UDP client that keeps sending keeps the flow alive, whatever the table
//! says. TCP ends by itself and is left alone (as the reference does).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::chain::Scope;
use crate::diff::{Changes, Op};
use crate::model::Protocol;
use crate::ruleset::{Element, Front, Ruleset};

/// Flows to be deleted: those to `front` whose replies come from `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleFlows {
    /// What the client addressed.
    pub front: Front,
    /// Where the flow really goes.
    pub from: IpAddr,
    /// At which port; `None` is any.
    pub port: Option<u16>,
}

/// The flows that `changes`, once applied, make stale. `after` is the ruleset with them.
#[must_use]
pub fn stale_flows(changes: &Changes, after: &Ruleset) -> BTreeSet<StaleFlows> {
    // A front that only changes its verdict was there before: nothing went past it.
    let there_before: BTreeSet<Front> = changes
        .iter()
        .filter_map(|op| match op {
            Op::Delete(Element::Front(front, _)) => Some(*front),
            Op::Delete(_) | Op::Add(_) => None,
        })
        .collect();
    let stale = changes.iter().flat_map(|op| stale_by(op, after));
    stale
        .filter(|stale| stale.port.is_some() || !there_before.contains(&stale.front))
        .collect()
}

fn stale_by(op: &Op, after: &Ruleset) -> Vec<StaleFlows> {
    match *op {
        Op::Delete(Element::Slot(front, _, backend)) if front.protocol() == Protocol::Udp => {
            let used = after.fronts.get(&front).is_some_and(|owned| {
                [Scope::Cluster, Scope::Local]
                    .iter()
                    .any(|s| owned.program.slots(*s).contains(&backend))
            });
            let stale = StaleFlows {
                front,
                from: backend.address,
                port: Some(backend.port),
            };
            if used { vec![] } else { vec![stale] }
        }
        // Before the front existed, its packets went to the address itself.
        Op::Add(Element::Front(front @ Front::Address(address, Protocol::Udp, _), _)) => {
            vec![StaleFlows {
                front,
                from: address,
                port: None,
            }]
        }
        Op::Add(Element::Front(front @ Front::NodePort(Protocol::Udp, _), _)) => {
            let nodes = after.facts.node_addresses.iter();
            nodes
                .map(|address| StaleFlows {
                    front,
                    from: *address,
                    port: None,
                })
                .collect()
        }
        Op::Delete(_) | Op::Add(_) => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Chain, Target, Verdict};

    fn balance(count: u32) -> Verdict {
        Verdict::Balance(Chain {
            target: Target::Address,
            scope: Scope::Cluster,
            count,
            sticky: false,
        })
    }

    #[test]
    fn only_flows_of_gone_backends_and_of_new_fronts_are_stale() {
        let address = IpAddr::from([10, 96, 0, 10]);
        let backend = |last: u8| Backend {
            address: [10, 244, 0, last].into(),
            port: 53,
        };
        let of = |protocol| {
            let front = Front::Address(address, protocol, 53);
            let ops = vec![
                Op::Delete(Element::Front(front, balance(2))),
                Op::Delete(Element::Slot(front, 1, backend(2))),
                Op::Add(Element::Front(front, balance(1))),
            ];
            stale_flows(
                &Changes {
                    ops,
                    ..Changes::default()
                },
                &Ruleset::default(),
            )
        };
        let front = Front::Address(address, Protocol::Udp, 53);
        let gone = StaleFlows {
            front,
            from: backend(2).address,
            port: Some(53),
        };
        assert_eq!(of(Protocol::Udp), [gone].into());
        assert_eq!(of(Protocol::Tcp), [].into(), "TCP ends by itself");
        let ops = vec![Op::Add(Element::Front(front, balance(1)))];
        let new = stale_flows(
            &Changes {
                ops,
                ..Changes::default()
            },
            &Ruleset::default(),
        );
        assert_eq!(
            new,
            [StaleFlows {
                front,
                from: address,
                port: None
            }]
            .into()
        );
    }
}
