//! Session affinity: what the kernel remembers of clients, and which of it must not stay.
//!
//! The kernel learns a client's backend when its first connection leaves, and sends the next ones there without asking whether the
//! backend still serves. So whatever takes a backend away, or sends a client elsewhere, has entries deleted.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diff::{Changes, Op};
use crate::ruleset::{Backend, Element, Front, Program, Ruleset, Verdict};

/// A client's backend, as the kernel learnt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remembered {
    /// The client.
    pub client: IpAddr,
    /// What it addressed.
    pub front: Front,
    /// Where its connections go.
    pub backend: Backend,
}

/// Fronts whose remembered clients have to be looked through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects(BTreeSet<Front>);

impl Suspects {
    /// The fronts of which `changes`, once applied, leave something to forget. `after` is the ruleset with them.
    #[must_use]
    pub fn of(changes: &Changes, after: &Ruleset) -> Self {
        let deleted = changes.iter().filter_map(|op| match op {
            Op::Delete(element) => Some(element),
            Op::Add(_) => None,
        });
        Self(deleted.filter_map(|element| suspect(element, after)).collect())
    }

    /// True if there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes others in.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// True if a client must be forgotten, as things are now.
    #[must_use]
    pub fn is_stale(&self, entry: &Remembered, now: &Ruleset) -> bool {
        if !self.0.contains(&entry.front) {
            return false;
        }
        let Some(program) = sticky(entry.front, now) else {
            return true;
        };
        let facts = &now.facts;
        let near = facts.pod_ranges.iter().any(|range| range.contains(entry.client))
            || facts.node_addresses.contains(&entry.client)
            || facts.node_ip == Some(entry.client);
        let allowed = |verdict: Verdict| {
            let chain = verdict.chain();
            chain.is_some_and(|chain| program.slots(chain.scope).contains(&entry.backend))
        };
        // Another client may still be this host, with an address that is not known here.
        !allowed(program.near_verdict()) || !(near || allowed(program.verdict))
    }
}

/// The front of a deleted element, if its clients may be remembered wrongly now.
fn suspect(deleted: &Element, after: &Ruleset) -> Option<Front> {
    let moved = |front: &Front, old: &Verdict, now: fn(&Program) -> Verdict| {
        let scope = |verdict: Verdict| verdict.chain().map(|chain| chain.scope);
        sticky(*front, after).is_some_and(|program| scope(*old) != scope(now(program)))
    };
    let (front, wrong) = match deleted {
        Element::Learn(front, _) => (front, sticky(*front, after).is_none()),
        Element::Slot(front, slot, backend) => {
            let scope = crate::chain::Scope::of_slot(*slot);
            let gone = |program: &Program| !program.slots(scope).contains(backend);
            (front, sticky(*front, after).is_some_and(gone))
        }
        Element::Front(front, old) => (front, moved(front, old, |program| program.verdict)),
        Element::Near(front, old) => (front, moved(front, old, Program::near_verdict)),
        Element::PodRange(_)
        | Element::ServiceRange(_)
        | Element::NodeAddress(_)
        | Element::ClusterIp(_)
        | Element::Hairpin(_)
        | Element::Masquerade(..)
        | Element::Source(..)
        | Element::Restricted(_) => return None,
    };
    wrong.then_some(*front)
}

/// A front's program, if its clients are remembered.
fn sticky(front: Front, ruleset: &Ruleset) -> Option<&Program> {
    let program = &ruleset.fronts.get(&front)?.program;
    program.learn.map(|_| program)
}
