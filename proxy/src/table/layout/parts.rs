//! Parts that are made when first needed: see [`Part`].

use std::num::NonZeroU32;
use std::time::Duration;

use gantry_nft::{Field, Set, Transaction, Verdict};
use gantry_proxy_core::Part;
use gantry_proxy_core::chain::{Chain, Target};

use super::sets::SOURCE;
use super::{FIREWALL, KEY, Layout, NODE_PORT_KEY, ORIGINAL, names};

impl Layout {
    /// A part that was not needed before.
    pub(in crate::table) fn add_part(&self, tx: &mut Transaction, part: Part) {
        match part {
            Part::Balancer(chain) => self.add_balancer(tx, chain),
            Part::Learner(target, secs) => self.add_learner(tx, target, secs),
            Part::Sources(bits) => {
                let name = part.to_string();
                tx.add_set(&Set::new(&name, SOURCE));
                let [address, protocol, port] = KEY;
                let allowed = self
                    .rule()
                    .on(&[address, protocol, port, Field::SaddrPrefix(bits)]);
                tx.insert_rule(FIREWALL, &allowed.in_set(&name).verdict(Verdict::Return));
            }
        }
    }

    /// Deletes a part that nothing needs; see [`Part::is_given_up`].
    pub(in crate::table) fn delete_part(tx: &mut Transaction, part: Part) {
        match part {
            Part::Balancer(_) | Part::Learner(..) => {
                let name = part.to_string();
                tx.flush_chain(&name);
                tx.delete_chain(&name);
            }
            Part::Sources(_) => {}
        }
    }

    /// A chain that translates to one of its slots.
    fn add_balancer(&self, tx: &mut Transaction, chain: Chain) {
        let name = chain.to_string();
        let offset = chain.scope.first_slot();
        tx.add_chain(&name, None);
        if chain.sticky {
            let (key, map) = match chain.target {
                Target::Address => (vec![Field::Saddr, KEY[0], KEY[1], KEY[2]], names::AFFINITY),
                Target::NodePort => (
                    vec![Field::Saddr, NODE_PORT_KEY[0], NODE_PORT_KEY[1]],
                    names::NP_AFFINITY,
                ),
            };
            tx.add_rule(&name, &self.rule().on(&key).dnat_map(map));
        }
        // A packet that looks up its slot just after a change may miss it: the first slot is the next best, and
        // no packet may pass untranslated.
        let moduli: &[u32] = if chain.count > 1 { &[chain.count, 1] } else { &[1] };
        for modulus in moduli {
            let random = Field::Random {
                modulus: *modulus,
                offset,
            };
            let (key, map) = match chain.target {
                Target::Address => (vec![KEY[0], KEY[1], KEY[2], random], names::ENDPOINTS),
                Target::NodePort => (
                    vec![NODE_PORT_KEY[0], NODE_PORT_KEY[1], random],
                    names::NP_ENDPOINTS,
                ),
            };
            tx.add_rule(&name, &self.rule().on(&key).dnat_map(map));
        }
        tx.add_rule(&name, &self.rule().verdict(Verdict::Drop));
    }

    /// A chain that remembers where a client went.
    fn add_learner(&self, tx: &mut Transaction, target: Target, secs: NonZeroU32) {
        let name = Part::Learner(target, secs).to_string();
        let [address, protocol, port] = ORIGINAL;
        let (key, map) = match target {
            Target::Address => (vec![Field::Saddr, address, protocol, port], names::AFFINITY),
            Target::NodePort => (vec![Field::Saddr, protocol, port], names::NP_AFFINITY),
        };
        let timeout = Duration::from_secs(secs.get().into());
        let backend = [Field::Daddr, Field::Dport];
        tx.add_chain(&name, None);
        tx.add_rule(&name, &self.rule().update_map(map, &key, &backend, timeout));
    }
}
