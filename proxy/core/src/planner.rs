//! The present state, what the table holds, and the steps between them.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::{Chain, Scope};
use crate::compile::{Slots, compile};
use crate::diff::{Changes, Op, diff};
use crate::facts::NodeFacts;
use crate::model::Key;
use crate::ruleset::{Backend, Element, Front, Owned, Program, Ruleset};
use crate::state::{Event, State};

/// Owner of the state of one address family.
///
/// After [`Planner::plan`], [`Planner::rebuild`] or [`Planner::adopt`] the ruleset is what the table holds once the answer is
/// applied. If it cannot be applied, [`Planner::rebuild`] and load all of it.
#[derive(Debug, Default)]
pub struct Planner {
    state: State,
    wanted_facts: NodeFacts,
    ruleset: Ruleset,
    /// The fronts that each service claims.
    claims: BTreeMap<Key, Box<[Front]>>,
    /// Services that claim a front of another one. The first in order of names has it.
    waiting: BTreeMap<Front, BTreeSet<Key>>,
    /// How many programs contribute each shared element.
    shared: BTreeMap<Element, usize>,
    /// How many programs go to each chain.
    chain_users: BTreeMap<Chain, usize>,
    /// Chains in the kernel.
    chains: BTreeSet<Chain>,
    /// Slots found in the kernel at the start; empty after it.
    adopted: BTreeMap<(Front, Scope), Vec<Backend>>,
}

/// What was there before, for everything that an update touched.
#[derive(Debug, Default)]
struct Touched {
    fronts: BTreeMap<Front, Option<Program>>,
    shared: BTreeMap<Element, bool>,
}

impl Planner {
    /// Takes an event in.
    pub fn apply(&mut self, event: Event) {
        self.state.apply(event);
    }

    /// Sets the addresses.
    pub fn set_facts(&mut self, facts: NodeFacts) {
        self.wanted_facts = facts;
    }

    /// The services and slices.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the table holds.
    #[must_use]
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// True if [`Planner::plan`] has something to do.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.state.has_changes() || self.wanted_facts != self.ruleset.facts
    }

    /// The changes since the last call. Only what changed is compiled and compared.
    pub fn plan(&mut self) -> Changes {
        let old_facts = std::mem::replace(&mut self.ruleset.facts, self.wanted_facts.clone());
        let mut touched = Touched::default();
        self.update(&mut Some(&mut touched));
        let mut old: BTreeSet<Element> = old_facts.elements().collect();
        let mut new: BTreeSet<Element> = self.ruleset.facts.elements().collect();
        for (front, before) in &touched.fronts {
            old.extend(before.iter().flat_map(|program| program.elements(*front)));
            let now = self.ruleset.fronts.get(front);
            new.extend(now.iter().flat_map(|owned| owned.program.elements(*front)));
        }
        old.retain(|e| !e.is_shared());
        new.retain(|e| !e.is_shared());
        old.extend(
            touched
                .shared
                .iter()
                .filter(|(_, existed)| **existed)
                .map(|(e, _)| *e),
        );
        new.extend(touched.shared.keys().filter(|e| self.shared.contains_key(e)));
        Changes {
            chains: self.missing_chains(),
            ops: diff(&old, &new),
        }
    }

    /// Brings the ruleset up to date for a table that is made from nothing: these chains, then [`Ruleset::elements`].
    pub fn rebuild(&mut self) -> BTreeSet<Chain> {
        self.update_all();
        self.chains.clear();
        self.missing_chains()
    }

    /// Takes over a table that an earlier process left: backends keep their slots, and only differences are answered.
    pub fn adopt(&mut self, found: BTreeSet<Element>, chains: BTreeSet<Chain>) -> Changes {
        self.adopted = found_slots(&found);
        self.update_all();
        self.adopted = BTreeMap::new();
        self.chains = chains;
        // As `diff`, but without a second set of all elements: there may be hundreds of thousands.
        let mut gone = found;
        let come: Vec<Op> = self
            .ruleset
            .elements()
            .filter(|element| !gone.remove(element))
            .map(Op::Add)
            .collect();
        let gone = gone.into_iter().rev().map(Op::Delete);
        Changes {
            chains: self.missing_chains(),
            ops: gone.chain(come).collect(),
        }
    }

    /// Chains that no program goes to any more. They are forgotten here and may be deleted from the kernel.
    pub fn take_unused_chains(&mut self) -> BTreeSet<Chain> {
        let unused = self
            .chains
            .iter()
            .filter(|c| !self.chain_users.contains_key(c))
            .copied()
            .collect();
        self.chains.retain(|chain| self.chain_users.contains_key(chain));
        unused
    }

    fn missing_chains(&mut self) -> BTreeSet<Chain> {
        let missing: BTreeSet<Chain> = self
            .chain_users
            .keys()
            .filter(|c| !self.chains.contains(c))
            .copied()
            .collect();
        self.chains.extend(&missing);
        missing
    }

    fn update_all(&mut self) {
        self.ruleset.facts = self.wanted_facts.clone();
        self.update(&mut None);
    }

    /// Compiles the services that changed and puts their programs in place.
    fn update(&mut self, touched: &mut Option<&mut Touched>) {
        for key in self.state.take_changed() {
            let programs = self.compile(&key);
            let claims: Box<[Front]> = programs.iter().map(|(front, _)| *front).collect();
            let before = self.claims.remove(&key).unwrap_or_default();
            for front in before.iter().filter(|front| !claims.contains(front)) {
                self.release(*front, &key, touched);
            }
            if !claims.is_empty() {
                self.claims.insert(key.clone(), claims);
            }
            for (front, program) in programs {
                self.claim(front, &key, program, touched);
            }
        }
    }

    fn compile(&self, key: &Key) -> Vec<(Front, Program)> {
        let service = self.state.service(key);
        service
            .map(|service| compile(service, self.state.slices(key), self))
            .unwrap_or_default()
    }

    /// A service claims a front; the first in order of names gets it.
    fn claim(&mut self, front: Front, key: &Key, program: Program, touched: &mut Option<&mut Touched>) {
        let owner = self.ruleset.fronts.get(&front).map(|owned| owned.owner.clone());
        match owner {
            Some(owner) if owner < *key => {
                self.waiting.entry(front).or_default().insert(key.clone());
            }
            other => {
                if let Some(loser) = other.filter(|owner| owner != key) {
                    self.waiting.entry(front).or_default().insert(loser);
                }
                self.put(
                    front,
                    Some(Owned {
                        owner: key.clone(),
                        program,
                    }),
                    touched,
                );
            }
        }
    }

    /// A service gives a front up; the next that waits for it gets it.
    fn release(&mut self, front: Front, key: &Key, touched: &mut Option<&mut Touched>) {
        if let Some(waiting) = self.waiting.get_mut(&front) {
            waiting.remove(key);
        }
        if self
            .ruleset
            .fronts
            .get(&front)
            .is_some_and(|owned| owned.owner == *key)
        {
            let next = self.waiting.get_mut(&front).and_then(BTreeSet::pop_first);
            let owned = next.and_then(|owner| {
                let program = self.compile(&owner).into_iter().find(|(f, _)| *f == front)?.1;
                Some(Owned { owner, program })
            });
            self.put(front, owned, touched);
        }
        if self.waiting.get(&front).is_some_and(BTreeSet::is_empty) {
            self.waiting.remove(&front);
        }
    }

    /// Replaces a front's program, keeps the counts, and notes what was there before.
    fn put(&mut self, front: Front, owned: Option<Owned>, touched: &mut Option<&mut Touched>) {
        if let Some(new) = &owned {
            self.count(front, &new.program, touched, true);
        }
        let old = match owned {
            Some(new) => self.ruleset.fronts.insert(front, new),
            None => self.ruleset.fronts.remove(&front),
        };
        if let Some(old) = &old {
            self.count(front, &old.program, touched, false);
        }
        if let Some(touched) = touched {
            touched.fronts.entry(front).or_insert(old.map(|old| old.program));
        }
    }

    fn count(&mut self, front: Front, program: &Program, touched: &mut Option<&mut Touched>, come: bool) {
        for element in program.shared(front) {
            if let Some(touched) = touched {
                touched
                    .shared
                    .entry(element)
                    .or_insert_with(|| self.shared.contains_key(&element));
            }
            count_one(&mut self.shared, element, come);
        }
        for chain in program.chains() {
            count_one(&mut self.chain_users, chain, come);
        }
    }
}

impl Slots for Planner {
    fn slots(&self, front: Front, scope: Scope) -> &[Backend] {
        if let Some(found) = self.adopted.get(&(front, scope)) {
            return found;
        }
        self.ruleset
            .fronts
            .get(&front)
            .map_or(&[], |owned| owned.program.slots(scope))
    }
}

/// Adds or takes away one user; what has none is not in the map.
fn count_one<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, come: bool) {
    let users = counts.entry(key);
    match (users, come) {
        (users, true) => *users.or_default() += 1,
        (std::collections::btree_map::Entry::Occupied(mut users), false) => {
            *users.get_mut() -= 1;
            if *users.get() == 0 {
                users.remove();
            }
        }
        (std::collections::btree_map::Entry::Vacant(_), false) => {}
    }
}

/// The slots in a table, as far as they are numbered without a gap.
fn found_slots(found: &BTreeSet<Element>) -> BTreeMap<(Front, Scope), Vec<Backend>> {
    let mut slots: BTreeMap<(Front, Scope), Vec<Backend>> = BTreeMap::new();
    for element in found {
        let Element::Slot(front, slot, backend) = element else {
            continue;
        };
        let scope = if *slot < Scope::Local.first_slot() {
            Scope::Cluster
        } else {
            Scope::Local
        };
        let of_front = slots.entry((*front, scope)).or_default();
        if u32::try_from(of_front.len()).is_ok_and(|next| scope.first_slot() + next == *slot) {
            of_front.push(*backend);
        }
    }
    slots
}
