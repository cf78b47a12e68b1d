//! The present state, what the table holds, and the steps between them.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::{Part, Scope};
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
    /// How many programs need each part.
    part_users: BTreeMap<Part, usize>,
    /// Parts in the kernel.
    parts: BTreeSet<Part>,
    /// Claims that came in vain since they were last taken.
    conflicts: Vec<Conflict>,
    /// Slots found in the kernel at the start; empty after it.
    adopted: BTreeMap<(Front, Scope), Vec<Backend>>,
}

/// Two services claim one front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// What both claim.
    pub front: Front,
    /// Who has it.
    pub owner: Key,
    /// Who has not.
    pub loser: Key,
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
        let old_facts = self.take_facts();
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
        self.changes(diff(&old, &new))
    }

    /// Brings the ruleset up to date for a table that is made from nothing: these parts, then [`Ruleset::elements`].
    pub fn rebuild(&mut self) -> BTreeSet<Part> {
        self.update_all();
        self.parts.clear();
        self.missing_parts()
    }

    /// Takes over a table that an earlier process left: backends keep their slots, and only differences are answered.
    pub fn adopt(&mut self, found: BTreeSet<Element>, parts: BTreeSet<Part>) -> Changes {
        self.adopted = found_slots(&found);
        self.update_all();
        self.adopted = BTreeMap::new();
        self.parts = parts;
        // As `diff`, but without a second set of all elements: there may be hundreds of thousands.
        let mut gone = found;
        let come: Vec<Op> = self
            .ruleset
            .elements()
            .filter(|element| !gone.remove(element))
            .map(Op::Add)
            .collect();
        let gone = gone.into_iter().rev().map(Op::Delete);
        self.changes(gone.chain(come).collect())
    }

    /// Claims that came in vain since the last call.
    pub fn take_conflicts(&mut self) -> Vec<Conflict> {
        std::mem::take(&mut self.conflicts)
    }

    /// Parts that no program needs any more. They are forgotten here and may be deleted from the kernel.
    pub fn take_unused_parts(&mut self) -> BTreeSet<Part> {
        let used = |part: &Part| !part.is_given_up() || self.part_users.contains_key(part);
        let unused = self.parts.iter().filter(|part| !used(part)).copied().collect();
        self.parts.retain(used);
        unused
    }

    /// Puts operations into their transactions.
    fn changes(&mut self, ops: Vec<Op>) -> Changes {
        let is_late = |op: &Op| match op {
            Op::Delete(Element::Slot(front, slot, _)) => {
                let owned = self.ruleset.fronts.get(front);
                owned.is_some_and(|owned| owned.program.slots(Scope::of_slot(*slot)).is_empty())
            }
            Op::Delete(_) | Op::Add(_) => false,
        };
        let (late, ops) = ops.into_iter().partition(is_late);
        Changes {
            parts: self.missing_parts(),
            ops,
            late,
        }
    }

    fn missing_parts(&mut self) -> BTreeSet<Part> {
        let missing: BTreeSet<Part> = self
            .part_users
            .keys()
            .filter(|part| !self.parts.contains(part))
            .copied()
            .collect();
        self.parts.extend(&missing);
        missing
    }

    fn update_all(&mut self) {
        self.take_facts();
        self.update(&mut None);
    }

    /// Brings the facts up to date; services that depend on what differs are compiled again. Answers with the old ones.
    fn take_facts(&mut self) -> NodeFacts {
        if self.wanted_facts.zone != self.ruleset.facts.zone {
            self.state.change_zone();
        }
        if self.wanted_facts.node_ip != self.ruleset.facts.node_ip {
            self.state.change_node_ip();
        }
        std::mem::replace(&mut self.ruleset.facts, self.wanted_facts.clone())
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
            .map(|service| compile(service, self.state.slices(key), &self.ruleset.facts, self))
            .unwrap_or_default()
    }

    /// A service claims a front; the first in order of names gets it.
    fn claim(&mut self, front: Front, key: &Key, program: Program, touched: &mut Option<&mut Touched>) {
        let owner = self.ruleset.fronts.get(&front).map(|owned| owned.owner.clone());
        match owner {
            Some(owner) if owner < *key => self.refuse(front, owner, key.clone()),
            other => {
                if let Some(loser) = other.filter(|owner| owner != key) {
                    self.refuse(front, key.clone(), loser);
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

    fn refuse(&mut self, front: Front, owner: Key, loser: Key) {
        if self.waiting.entry(front).or_default().insert(loser.clone()) {
            self.conflicts.push(Conflict { front, owner, loser });
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
        for part in program.parts(front) {
            count_one(&mut self.part_users, part, come);
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
        let scope = Scope::of_slot(*slot);
        let of_front = slots.entry((*front, scope)).or_default();
        if u32::try_from(of_front.len()).is_ok_and(|next| scope.first_slot() + next == *slot) {
            of_front.push(*backend);
        }
    }
    slots
}
