//! Which events are sent, and how: new, as a higher count of an earlier one, merged with similar ones, or not at all.
//!
//! The rules and numbers are those of client-go's `tools/record/events_cache.go`:
//! - the same event again raises `count` of the first;
//! - the eleventh distinct message with the same object, type and reason within 10 minutes becomes one
//!   "(combined from similar events)" event;
//! - each object has a token bucket of 25 events, one more each 5 minutes.
//!
//! Pure: time is an argument, the answer is a value.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    time::{Duration, Instant},
};

use super::Happening;

/// Distinct messages before they are merged.
const SIMILAR: usize = 10;
/// Time within which messages count as similar.
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// Events of one object at once.
const BURST: f64 = 25.0;
/// Time for one more.
const REFILL: Duration = Duration::from_secs(300);
/// Entries of each table; the oldest are dropped beyond.
const TABLE: usize = 4096;

/// What to do with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Make a new event with this message.
    Create {
        /// Remember its name under this key with [`Correlator::created`].
        key: EventKey,
        /// The message, with a prefix when it stands for several.
        message: String,
    },
    /// Raise the count of an event that exists.
    Repeat {
        /// Its key.
        key: EventKey,
        /// Its name.
        name: String,
        /// The new count.
        count: i32,
        /// The newest message.
        message: String,
    },
    /// Too many: send nothing.
    Skip,
}

/// An object, as far as events are concerned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ObjectKey {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

/// Events that may be merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct GroupKey {
    object: ObjectKey,
    event_type: &'static str,
    reason: String,
}

/// Events that are the same; `message` is empty for a merged one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EventKey {
    group: GroupKey,
    field_path: String,
    message: String,
}

#[derive(Debug)]
struct Group {
    messages: HashSet<String>,
    last: Instant,
}

#[derive(Debug)]
struct Sent {
    name: Option<String>,
    count: i32,
    last: Instant,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    last: Instant,
}

/// What was sent lately.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    groups: HashMap<GroupKey, Group>,
    sent: HashMap<EventKey, Sent>,
    buckets: HashMap<ObjectKey, Bucket>,
}

impl Correlator {
    /// Decide about one event.
    pub(super) fn decide(&mut self, event: &Happening, now: Instant) -> Decision {
        let object = object_key(event);
        let group = GroupKey {
            object: object.clone(),
            event_type: event.kind.as_str(),
            reason: event.reason.clone(),
        };
        let merged = self.is_merged(&group, &event.message, now);
        let message = if merged {
            format!("(combined from similar events): {}", event.message)
        } else {
            event.message.clone()
        };
        let key = EventKey {
            group,
            field_path: event.about.field_path.clone().unwrap_or_default(),
            message: if merged {
                String::new()
            } else {
                event.message.clone()
            },
        };
        make_room(&mut self.sent, |sent| sent.last);
        let sent = self.sent.entry(key.clone()).or_insert(Sent {
            name: None,
            count: 0,
            last: now,
        });
        sent.count = sent.count.saturating_add(1);
        sent.last = now;
        let (name, count) = (sent.name.clone(), sent.count);
        if !self.take_token(object, now) {
            return Decision::Skip;
        }
        match name {
            Some(name) => Decision::Repeat {
                key,
                name,
                count,
                message,
            },
            None => Decision::Create { key, message },
        }
    }

    /// The event of `key` exists under this name now.
    pub(super) fn created(&mut self, key: &EventKey, name: String) {
        if let Some(sent) = self.sent.get_mut(key) {
            sent.name = Some(name);
            sent.count = 1;
        }
    }

    /// The event of `key` is gone from the API (they live an hour): make a new one next time.
    pub(super) fn lost(&mut self, key: &EventKey) {
        self.sent.remove(key);
    }

    fn is_merged(&mut self, key: &GroupKey, message: &str, now: Instant) -> bool {
        make_room(&mut self.groups, |group| group.last);
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group {
            messages: HashSet::new(),
            last: now,
        });
        if now.duration_since(group.last) > SIMILAR_WINDOW {
            group.messages.clear();
        }
        group.last = now;
        if group.messages.contains(message) {
            return false;
        }
        if group.messages.len() < SIMILAR {
            group.messages.insert(message.to_owned());
            return false;
        }
        true
    }

    fn take_token(&mut self, object: ObjectKey, now: Instant) -> bool {
        make_room(&mut self.buckets, |bucket| bucket.last);
        let bucket = self.buckets.entry(object).or_insert(Bucket {
            tokens: BURST,
            last: now,
        });
        let refill = now.duration_since(bucket.last).as_secs_f64() / REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + refill).min(BURST);
        bucket.last = now;
        let enough = bucket.tokens >= 1.0;
        if enough {
            bucket.tokens -= 1.0;
        }
        enough
    }
}

fn object_key(event: &Happening) -> ObjectKey {
    let about = &event.about;
    ObjectKey {
        kind: about.kind.clone().unwrap_or_default(),
        namespace: about.namespace.clone().unwrap_or_default(),
        name: about.name.clone().unwrap_or_default(),
        uid: about.uid.clone().unwrap_or_default(),
    }
}

/// Drop the older half of a full table.
fn make_room<K: Eq + Hash, V>(table: &mut HashMap<K, V>, last: impl Fn(&V) -> Instant) {
    if table.len() < TABLE {
        return;
    }
    let mut times: Vec<Instant> = table.values().map(&last).collect();
    let (_, middle, _) = times.select_nth_unstable(TABLE / 2);
    let middle = *middle;
    table.retain(|_, value| last(value) > middle);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;
    use crate::events::EventType;
    use k8s_openapi::jiff::Timestamp;

    fn event(name: &str, message: &str) -> Happening {
        Happening {
            about: ObjectReference {
                name: Some(name.into()),
                ..ObjectReference::default()
            },
            kind: EventType::Normal,
            reason: "Pulled".into(),
            message: message.into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn send(correlator: &mut Correlator, event: &Happening, now: Instant) -> Decision {
        let decision = correlator.decide(event, now);
        if let Decision::Create { key, .. } = &decision {
            correlator.created(key, "e1".into());
        }
        decision
    }

    #[test]
    fn repeats_raise_the_count() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        assert!(matches!(
            send(&mut correlator, &event("a", "m"), now),
            Decision::Create { .. }
        ));
        for expected in 2..5 {
            let decision = send(&mut correlator, &event("a", "m"), now);
            assert!(
                matches!(decision, Decision::Repeat { count, .. } if count == expected),
                "{decision:?}"
            );
        }
        assert!(matches!(
            send(&mut correlator, &event("b", "m"), now),
            Decision::Create { .. }
        ));
    }

    #[test]
    fn a_lost_event_is_made_anew() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        send(&mut correlator, &event("a", "m"), now);
        let Decision::Repeat { key, .. } = correlator.decide(&event("a", "m"), now) else {
            panic!("not a repeat")
        };
        correlator.lost(&key);
        assert!(matches!(
            correlator.decide(&event("a", "m"), now),
            Decision::Create { .. }
        ));
    }

    #[test]
    fn the_eleventh_similar_message_is_merged() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        for n in 0..SIMILAR {
            let decision = send(&mut correlator, &event("a", &format!("m{n}")), now);
            assert!(matches!(decision, Decision::Create { message, .. } if message == format!("m{n}")));
        }
        let Decision::Create { message, .. } = send(&mut correlator, &event("a", "other"), now) else {
            panic!("not created")
        };
        assert_eq!(message, "(combined from similar events): other");
        let again = send(&mut correlator, &event("a", "another"), now);
        assert!(matches!(again, Decision::Repeat { count: 2, .. }), "{again:?}");
        let later = now + SIMILAR_WINDOW + Duration::from_secs(1);
        assert!(
            matches!(send(&mut correlator, &event("a", "fresh"), later), Decision::Create { message, .. } if message == "fresh")
        );
    }

    #[test]
    fn a_noisy_object_is_cut_off_and_recovers() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        for _ in 0..25 {
            assert_ne!(send(&mut correlator, &event("a", "m"), now), Decision::Skip);
        }
        assert_eq!(send(&mut correlator, &event("a", "m"), now), Decision::Skip);
        assert_ne!(send(&mut correlator, &event("b", "m"), now), Decision::Skip);
        let later = now + REFILL;
        assert!(matches!(
            send(&mut correlator, &event("a", "m"), later),
            Decision::Repeat { count: 27, .. }
        ));
    }

    #[test]
    fn tables_stay_bounded() {
        let (mut correlator, start) = (Correlator::default(), Instant::now());
        for n in 0..3 * TABLE {
            let now = start + Duration::from_millis(n as u64);
            send(&mut correlator, &event(&format!("pod{n}"), "m"), now);
        }
        assert!(correlator.sent.len() <= TABLE);
        assert!(correlator.groups.len() <= TABLE);
        assert!(correlator.buckets.len() <= TABLE);
    }
}
