//! Rewrites the files of pods whose sources changed (users.md, row 9) and whose tokens are due.
//!
//! Input: the set of changed pods from the objects' watches, and the earliest token. One task, with a few passes at a
//! time as its children: a pod whose API calls hang holds up no other. A change during a pod's pass means another pass.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::objects::Dirty;

use super::{Scope, Shared};

/// How many pods are rewritten at once.
const AT_ONCE: usize = 8;
/// The clock of the node may be set: no timer runs longer than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);
/// A pass ends after this, whatever it waits for.
const LONGEST_PASS: Duration = Duration::from_secs(60);
/// A pod whose pass failed is tried again after this, unless something changes before.
const RETRY: Duration = Duration::from_secs(30);

/// Runs until the last [`super::Volumes`] is gone.
pub(super) async fn run(shared: Weak<Shared>, dirty: Dirty) {
    let mut waiting: HashSet<String> = HashSet::new();
    let mut running: HashSet<String> = HashSet::new();
    let mut passes: JoinSet<String> = JoinSet::new();
    loop {
        let Some(due) = shared.upgrade().map(|shared| next_token(&shared, &running)) else {
            return;
        };
        tokio::select! {
            // Cancel safe: nothing is taken before the last await.
            changed = dirty.take() => waiting.extend(changed),
            // Cancel safe, by its documentation.
            Some(done) = passes.join_next() => match done {
                Ok(uid) => drop(running.remove(&uid)),
                // A pass panicked; which one is not told. All may be tried again: passes of one pod take turns.
                Err(_) => running.clear(),
            },
            // Cancel safe: the times are read again.
            () = tokio::time::sleep(due) => {}
            () = timer_changed(&shared) => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        waiting.extend(due_tokens(&shared, &running));
        let room = AT_ONCE.saturating_sub(running.len());
        let next: Vec<String> = waiting
            .iter()
            .filter(|uid| !running.contains(*uid))
            .take(room)
            .cloned()
            .collect();
        for uid in next {
            waiting.remove(&uid);
            running.insert(uid.clone());
            passes.spawn(bounded(Arc::clone(&shared), uid));
        }
    }
}

async fn bounded(shared: Arc<Shared>, uid: String) -> String {
    if tokio::time::timeout(LONGEST_PASS, pass(&shared, &uid))
        .await
        .is_err()
    {
        tracing::warn!(
            uid,
            "files of volumes are not up to date: the API server does not answer"
        );
        postpone(&shared, &uid);
    }
    uid
}

/// One pod: its files are written again when they were complete once; whoever waits to set it up is woken.
async fn pass(shared: &Shared, uid: &str) {
    let Some(known) = shared.pods().get(uid).cloned() else {
        return;
    };
    if known.complete {
        let turn = known.turn.lock_owned().await;
        // The pod may have a newer version, or be gone, by the time that it is our turn.
        let Some(pod) = shared.pods().get(uid).map(|known| Arc::clone(&known.pod)) else {
            return;
        };
        if let Err(error) = shared.write(&pod, turn, Scope::Content).await {
            for message in error.messages() {
                tracing::warn!(uid, message, "files of a volume are not up to date");
            }
            postpone(shared, uid);
        }
    }
    known.changed.notify_one();
}

/// A failed pass has no token to wait for, or one that is due since long.
fn postpone(shared: &Shared, uid: &str) {
    let later = Timestamp::now().saturating_add(RETRY).unwrap_or(Timestamp::MAX);
    if let Some(known) = shared.pods().get_mut(uid) {
        known.refresh_at = Some(known.refresh_at.map_or(later, |at| at.max(later)));
    }
}

fn next_token(shared: &Shared, running: &HashSet<String>) -> Duration {
    let now = Timestamp::now();
    let pods = shared.pods();
    let idle = pods.iter().filter(|(uid, _)| !running.contains(*uid));
    let first = idle.filter_map(|(_, known)| known.refresh_at).min();
    first.map_or(LONGEST_SLEEP, |at| {
        Duration::try_from(at.duration_since(now))
            .unwrap_or_default()
            .min(LONGEST_SLEEP)
    })
}

fn due_tokens(shared: &Shared, running: &HashSet<String>) -> Vec<String> {
    let now = Timestamp::now();
    let pods = shared.pods();
    let idle = pods.iter().filter(|(uid, _)| !running.contains(*uid));
    idle.filter(|(_, known)| known.refresh_at.is_some_and(|at| at <= now))
        .map(|(uid, _)| uid.clone())
        .collect()
}

async fn timer_changed(shared: &Weak<Shared>) {
    match shared.upgrade() {
        Some(shared) => shared.timer.notified().await,
        None => std::future::pending().await,
    }
}
