use std::collections::BTreeMap;

use gantry_agent_core::observed::Exit;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn identity() -> Identity {
    Identity {
        uid: "u".into(),
        name: "p".into(),
        namespace: "n".into(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn state(rank: u8) -> ContainerState {
    match rank {
        0 => ContainerState::Created,
        1 => ContainerState::Running { started_at: at(1) },
        2 => ContainerState::Unknown,
        _ => exited("Error"),
    }
}

fn exited(reason: &str) -> ContainerState {
    ContainerState::Exited(Exit {
        code: 1,
        reason: reason.into(),
        message: String::new(),
        started_at: Some(at(1)),
        finished_at: at(2),
    })
}

fn container(id: &str, attempt: u32, state: ContainerState) -> Container {
    Container {
        id: id.into(),
        sandbox_id: "s".into(),
        name: "c".into(),
        attempt,
        hash: "h".into(),
        image: "i".into(),
        image_id: "d".into(),
        state,
        termination_message_path: String::new(),
        termination_message_policy: String::new(),
        grace_secs: None,
    }
}

fn sandbox(id: &str, attempt: u32, ready: bool) -> Sandbox {
    let ips = if ready {
        vec!["10.0.0.1".parse().unwrap()]
    } else {
        Vec::new()
    };
    Sandbox {
        id: id.into(),
        attempt,
        ready,
        created_at: at(0),
        ips,
        host_network: false,
    }
}

fn seen<'a>(sandbox: Option<Sandbox>, containers: Vec<Container>) -> Change<'a> {
    Change::Seen {
        identity: identity(),
        sandbox,
        containers,
    }
}

fn listed<'a>(asked: Stamp, sandboxes: Vec<Sandbox>, containers: Vec<Container>) -> Change<'a> {
    Change::Listed {
        identity: identity(),
        sandboxes,
        containers,
        asked,
    }
}

fn states(index: &Index) -> Vec<(String, u8)> {
    let containers = index
        .get("u")
        .map(|pod| pod.containers.clone())
        .unwrap_or_default();
    containers.into_iter().map(|c| (c.id, rank(&c.state))).collect()
}

#[test]
fn late_news_never_goes_back() {
    let mut index = Index::default();
    assert_eq!(
        index
            .apply(seen(
                Some(sandbox("s", 0, true)),
                vec![container("a", 0, state(1))]
            ))
            .as_deref(),
        Some("u")
    );
    assert!(
        index
            .apply(seen(None, vec![container("a", 0, state(0))]))
            .is_none()
    );
    assert!(
        index
            .apply(seen(None, vec![container("a", 0, exited("Error"))]))
            .is_some()
    );
    assert!(
        index
            .apply(seen(None, vec![container("a", 0, state(1))]))
            .is_none()
    );
    assert!(
        index
            .apply(seen(None, vec![container("a", 0, exited("OOMKilled"))]))
            .is_some()
    );
    assert!(
        index
            .apply(seen(None, vec![container("a", 0, exited("Error"))]))
            .is_none()
    );
    assert!(
        index
            .apply(seen(Some(sandbox("s", 0, false)), Vec::new()))
            .is_some()
    );
    assert!(
        index
            .apply(seen(Some(sandbox("s", 0, true)), Vec::new()))
            .is_none()
    );
}

#[test]
fn what_was_removed_stays_away() {
    let mut index = Index::default();
    index.apply(seen(
        Some(sandbox("s", 0, true)),
        vec![container("a", 0, state(1))],
    ));
    assert_eq!(index.owner("a"), Some("u"));
    index.apply(Change::SandboxRemoved { id: "s" });
    assert!(index.get("u").is_none() && index.owner("a").is_none());
    index.apply(seen(
        Some(sandbox("s", 0, true)),
        vec![container("a", 0, state(1))],
    ));
    assert!(index.get("u").is_none());
    // Also a removal that comes before the news of the object.
    index.apply(Change::ContainerRemoved { id: "b" });
    index.apply(seen(None, vec![container("b", 0, state(0))]));
    assert!(index.get("u").is_none());
}

#[test]
fn a_list_removes_only_what_was_known_when_it_was_asked_for() {
    let mut index = Index::default();
    index.apply(seen(None, vec![container("old", 0, exited("Error"))]));
    let asked = index.stamp();
    index.apply(seen(None, vec![container("new", 1, state(1))]));
    index.apply(listed(asked, Vec::new(), Vec::new()));
    assert_eq!(states(&index), [("new".to_owned(), 1)]);
    let asked = index.stamp();
    index.apply(listed(asked, Vec::new(), Vec::new()));
    assert!(index.get("u").is_none());
}

#[test]
fn a_later_question_is_the_truth_and_an_earlier_one_is_not() {
    let mut index = Index::default();
    index.apply(seen(None, vec![container("a", 0, state(2))]));
    let asked = index.stamp();
    index.apply(listed(asked, Vec::new(), vec![container("a", 0, state(1))]));
    assert_eq!(states(&index), [("a".to_owned(), 1)], "a wrong state is healed");
    let asked = index.stamp();
    index.apply(seen(None, vec![container("a", 0, exited("Error"))]));
    index.apply(listed(asked, Vec::new(), vec![container("a", 0, state(1))]));
    assert_eq!(
        states(&index),
        [("a".to_owned(), 3)],
        "the exit came after the question"
    );
}

#[test]
fn the_newest_comes_first() {
    let mut index = Index::default();
    index.apply(seen(
        Some(sandbox("s0", 0, false)),
        vec![container("a", 0, exited("Error"))],
    ));
    index.apply(seen(
        Some(sandbox("s1", 1, true)),
        vec![container("b", 1, state(1))],
    ));
    let pod = index.get("u").unwrap();
    assert_eq!(pod.sandbox().unwrap().id, "s1");
    assert_eq!(pod.container("c").unwrap().id, "b");
}

/// What happens to one container in the model: a step of its life, or its removal.
#[derive(Debug, Clone)]
enum Op {
    Advance(usize),
    Remove(usize),
}

const CONTAINERS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![4 => (0..CONTAINERS).prop_map(Op::Advance), 1 => (0..CONTAINERS).prop_map(Op::Remove)]
}

/// The model's truth after each step: rank by container, absent before creation and after removal.
fn history(ops: &[Op]) -> Vec<BTreeMap<usize, u8>> {
    let mut now: BTreeMap<usize, u8> = BTreeMap::new();
    let mut removed = [false; CONTAINERS];
    let mut all = vec![now.clone()];
    for op in ops {
        match op {
            Op::Advance(c) if !removed[*c] => {
                now.entry(*c)
                    .and_modify(|rank| *rank = (*rank + 1).min(3))
                    .or_insert(0);
            }
            Op::Remove(c) if now.contains_key(c) => {
                now.remove(c);
                removed[*c] = true;
            }
            Op::Advance(_) | Op::Remove(_) => {}
        }
        all.push(now.clone());
    }
    all
}

fn snapshot(truth: &BTreeMap<usize, u8>) -> Vec<Container> {
    truth
        .iter()
        .map(|(c, rank)| container(&format!("c{c}"), 0, state(*rank)))
        .collect()
}

proptest! {
    /// Whatever order news arrives in, no container ever goes back, and a list at the end gives the truth.
    #[test]
    fn any_order_of_news_ends_in_the_truth(
        ops in proptest::collection::vec(op(), 1..20),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let truths = history(&ops);
        let mut index = Index::default();
        let mut highest: BTreeMap<String, u8> = BTreeMap::new();
        for pick in order {
            index.apply(seen(Some(sandbox("s", 0, true)), snapshot(pick.get(&truths))));
            for (id, rank) in states(&index) {
                let known = highest.entry(id).or_insert(rank);
                prop_assert!(rank >= *known);
                *known = rank;
            }
        }
        let asked = index.stamp();
        let last = truths.last().unwrap();
        index.apply(listed(asked, vec![sandbox("s", 0, true)], snapshot(last)));
        let mut ours = states(&index);
        ours.sort();
        let theirs: Vec<_> = last.iter().map(|(c, rank)| (format!("c{c}"), *rank)).collect();
        prop_assert_eq!(ours, theirs);
    }
}
