//! A kernel that takes only transactions that nf_tables would take.

use std::collections::BTreeSet;

use crate::{Changes, Element, Id, Match, PortTest, SetName, Table};

#[derive(Clone, Debug, Default)]
pub(super) struct Kernel {
    pub(super) table: Table,
}

impl Kernel {
    pub(super) fn apply(&mut self, changes: &Changes) -> Result<(), String> {
        for name in &changes.new_sets {
            let is_new = self.table.sets.insert(*name, BTreeSet::new()).is_none();
            check(is_new, || format!("{name:?} exists"))?;
        }
        for (name, elements) in &changes.deleted {
            let set = self.table.sets.get_mut(name).ok_or(format!("no {name:?}"))?;
            for element in elements {
                check(set.remove(element), || format!("no {element:?} in {name:?}"))?;
            }
        }
        for (id, chain) in &changes.new_chains {
            for set in chain.allowed.iter().flat_map(looks_at) {
                check(self.table.sets.contains_key(&set), || {
                    format!("no {set:?} for chain {id}")
                })?;
            }
            let is_new = self.table.chains.insert(*id, chain.clone()).is_none();
            check(is_new, || format!("chain {id} exists"))?;
        }
        for (name, elements) in &changes.added {
            for element in elements {
                self.add(*name, *element)?;
            }
        }
        for id in &changes.old_chains {
            check(!self.leads_to(*id), || format!("chain {id} is in use"))?;
            check(self.table.chains.remove(id).is_some(), || {
                format!("no chain {id}")
            })?;
        }
        for name in &changes.old_sets {
            let mut used = self
                .table
                .chains
                .values()
                .flat_map(|chain| chain.allowed.iter().flat_map(looks_at));
            check(!used.any(|set| set == *name), || format!("{name:?} is in use"))?;
            check(self.table.sets.remove(name).is_some(), || format!("no {name:?}"))?;
        }
        Ok(())
    }

    fn add(&mut self, name: SetName, element: Element) -> Result<(), String> {
        if let Element::Subject(_, chain) = element {
            check(self.table.chains.contains_key(&chain), || {
                format!("no chain {chain}")
            })?;
        }
        let set = self.table.sets.get_mut(&name).ok_or(format!("no {name:?}"))?;
        let clashes = set.iter().any(|other| match (other, &element) {
            (Element::Subject(a, _), Element::Subject(b, _)) => a == b,
            (Element::Range(a), Element::Range(b)) => a.contains(b.first) || b.contains(a.first),
            (a, b) => a == b,
        });
        check(!clashes, || format!("{element:?} clashes in {name:?}"))?;
        set.insert(element);
        Ok(())
    }

    fn leads_to(&self, id: Id) -> bool {
        let elements = self.table.sets.values().flatten();
        elements
            .into_iter()
            .any(|element| matches!(element, Element::Subject(_, chain) if *chain == id))
    }
}

fn looks_at(one: &Match) -> impl Iterator<Item = SetName> {
    let named = match one.port {
        Some(PortTest::Named(_, set)) => Some(set),
        _ => None,
    };
    one.peer.into_iter().chain(named)
}

fn check(fine: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if fine { Ok(()) } else { Err(text()) }
}
