//! Answers of the API server that still count: bounded in number and age.
//!
//! Keys are keyed hashes (HMAC-SHA-256 with a key of this process), so neither tokens nor names of users are kept, and
//! nobody outside can make keys collide.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ring::hmac;

/// Entries of a cache. A cluster's node is called by a handful of users and programs; what is more is an attack.
const ENTRIES: usize = 4096;

/// A hashed question.
pub(super) type Key = [u8; 32];

/// Answers by hashed question.
pub(super) struct Cache<V> {
    secret: hmac::Key,
    entries: Mutex<HashMap<Key, Held<V>>>,
    capacity: usize,
}

struct Held<V> {
    value: V,
    until: Instant,
}

impl<V: Clone> Cache<V> {
    pub(super) fn new() -> Self {
        Self::with_capacity(ENTRIES)
    }

    fn with_capacity(capacity: usize) -> Self {
        let secret: [u8; 32] = rand::random();
        Self {
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            entries: Mutex::default(),
            capacity,
        }
    }

    /// The key of a question.
    pub(super) fn key(&self, question: &[u8]) -> Key {
        let tag = hmac::sign(&self.secret, question);
        let mut key = Key::default();
        // HMAC-SHA-256 has 32 bytes.
        key.copy_from_slice(tag.as_ref());
        key
    }

    /// The answer, if it still counts.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<V> {
        let entries = self.lock();
        let held = entries.get(key).filter(|held| held.until > now)?;
        Some(held.value.clone())
    }

    /// Keeps an answer for `life`. In a full cache it takes the place of what ends first.
    pub(super) fn put(&self, key: Key, value: V, life: Duration, now: Instant) {
        if life.is_zero() {
            return;
        }
        let mut entries = self.lock();
        if entries.len() >= self.capacity && !entries.contains_key(&key) {
            entries.retain(|_, held| held.until > now);
            if entries.len() >= self.capacity {
                let first = entries
                    .iter()
                    .min_by_key(|(_, held)| held.until)
                    .map(|(key, _)| *key);
                first.and_then(|key| entries.remove(&key));
            }
        }
        let until = now + life;
        entries.insert(key, Held { value, until });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Held<V>>> {
        // No code panics while it holds the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_age_and_the_oldest_makes_room() {
        let cache = Cache::with_capacity(2);
        let now = Instant::now();
        let key = |name: &str| cache.key(name.as_bytes());
        let second = Duration::from_secs(1);
        cache.put(key("a"), 1, second, now);
        cache.put(key("b"), 2, second * 3, now);
        assert_eq!(
            (cache.get(&key("a"), now), cache.get(&key("c"), now)),
            (Some(1), None)
        );
        assert_eq!(cache.get(&key("a"), now + second), None, "aged");
        cache.put(key("c"), 3, second * 2, now);
        assert_eq!(
            (cache.get(&key("a"), now), cache.get(&key("b"), now)),
            (None, Some(2))
        );
        cache.put(key("d"), 4, second, now + second * 2);
        assert_eq!(cache.get(&key("d"), now + second * 2), Some(4));
        assert_eq!(cache.get(&key("c"), now), None, "aged ones go first");
        cache.put(key("e"), 5, Duration::ZERO, now);
        assert_eq!(cache.get(&key("e"), now), None, "a life of zero keeps nothing");
        assert!(cache.lock().len() <= 2);
        assert_ne!(
            key("a"),
            Cache::<u8>::new().key(b"a"),
            "another process, another key"
        );
    }
}
