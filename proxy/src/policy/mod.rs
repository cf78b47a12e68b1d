//! Network policies (`networking.k8s.io/v1`), enforced for the pods of this node.
//!
//! ```text
//! watches ─ Input ─> Lists ─ Event ─> Enforcer: State (core) ─ Changes ─> kernel's tables
//! gantry-cni ─ Request ─> Announced ──────┘    └─ denied ─> connections that end
//! ```
//!
//! Nothing is written before everything that matters was listed in full; the tables of the time before stay until then. They also stay
//! when the program ends: pods stay as restricted as they were.

mod announced;
mod enforcer;
mod metrics;
mod reduce;
mod table;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_nft::OpenError;
use gantry_policy_core::{Event, Key};
use gantry_proxy_core::{Families, Unlisted};
use kube::Client;
use prometheus::Registry;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use announced::{ListenError, SOCKET, forget};
pub use enforcer::{EnforceError, Enforcer, Written, remove};
pub use table::TABLE;

use crate::pace::{Gathering, Retry, reached};
use crate::programmer::with_cause;
use announced::{Announced, Standing};
use metrics::PolicyMetrics;
use watch::{Input, Kind, Watches};

/// Where the CNI plugin tells of pods.
pub const DIR: &str = "/run/gantry";

/// How often the tables are looked at although nobody said that they were touched.
const CHECK_PERIOD: Duration = Duration::from_secs(10);

/// Pause between two looks at all connections. One costs the kernel some milliseconds even where there are none, and every restricted pod
/// that starts asks for one: its address may have connections of a former pod.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Everything the loop works with.
#[derive(Debug)]
pub struct Policies {
    enforcer: Enforcer,
    metrics: PolicyMetrics,
    /// Somebody has changed some table.
    touched: Arc<Notify>,
    /// What the CNI plugin tells, if it was told where.
    announced: Option<Announced>,
    look: Look,
}

/// When connections are looked at.
#[derive(Debug, Default)]
struct Look {
    owed: bool,
    last: Option<Instant>,
}

/// What lists have said.
#[derive(Debug, Default)]
struct Lists {
    known: BTreeMap<Kind, BTreeSet<Key>>,
    unlisted: Unlisted<Kind, Key>,
    complete: BTreeSet<Kind>,
}

impl Policies {
    /// Opens the kernel's interfaces and makes the series. `touched` is told when somebody has changed some table.
    ///
    /// # Errors
    /// When there is no nf_tables or conntrack, or no right to use them.
    pub fn open(families: Families, registry: &Registry, touched: &Arc<Notify>) -> Result<Self, OpenError> {
        Ok(Self {
            enforcer: Enforcer::open(families)?,
            metrics: PolicyMetrics::new(registry),
            touched: Arc::clone(touched),
            announced: None,
            look: Look::default(),
        })
    }

    /// Pods' addresses are also told by the CNI plugin, at [`SOCKET`] in this directory, where they are remembered. Within a runtime.
    ///
    /// # Errors
    /// When the directory or the socket cannot be made.
    pub fn listen(&mut self, dir: &Path) -> Result<(), ListenError> {
        self.announced = Some(Announced::open(dir)?);
        Ok(())
    }

    /// Runs until `shutdown`; the tables stay.
    pub async fn run(mut self, client: Client, node_name: String, shutdown: CancellationToken) {
        let (mut watches, mut inputs) = Watches::start(&client, &node_name);
        let mut lists = Lists::default();
        if let Some(announced) = &mut self.announced {
            announced.start(self.enforcer.state_mut(), &shutdown);
        }
        let mut retry = Retry::default();
        let mut tick = interval(CHECK_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.announced.as_ref().and_then(Announced::due);
            let look = self.look.due();
            tokio::select! {
                () = shutdown.cancelled() => return,
                // Cancel safe: a received input is handled at once.
                input = inputs.recv() => {
                    let Some(input) = input else { return };
                    self.take(&mut lists, input);
                    let gathering = Gathering::begin();
                    while let Some(input) = gathering.next(&mut inputs).await {
                        self.take(&mut lists, input);
                        if gathering.is_late() && lists.are_complete(watches.follows_peers()) {
                            break;
                        }
                    }
                }
                // Cancel safe: requests that were received are handled at once.
                Some(requests) = next(&mut self.announced) => {
                    if let Some(announced) = &mut self.announced {
                        announced.take(requests, self.enforcer.state_mut());
                    }
                }
                () = self.touched.notified() => self.check(),
                _ = tick.tick() => self.tidy(&lists),
                () = reached(retry.at()) => {}
                () = reached(due) => {}
                () = reached(look) => self.end_denied(),
            }
            if lists.has_policies() {
                watches.follow_peers();
            }
            let standing = self.work(&lists, watches.follows_peers(), &mut retry);
            if let Some(announced) = &mut self.announced {
                announced.answer(standing, self.enforcer.state());
            }
        }
    }

    /// Brings the tables to the present state, if that is known.
    fn work(&mut self, lists: &Lists, with_peers: bool, retry: &mut Retry) -> Standing {
        if !lists.are_complete(with_peers) {
            return Standing::Unlisted;
        }
        retry.begin();
        let right = self.sync();
        retry.end(right);
        match (right, lists.has_policies()) {
            (false, _) => Standing::Unwritten,
            (true, false) => Standing::Unrestricted,
            (true, true) => Standing::Enforced,
        }
    }

    fn take(&mut self, lists: &mut Lists, input: Input) {
        for event in lists.take(input) {
            self.enforcer.apply(event);
        }
    }

    /// False if that failed.
    fn sync(&mut self) -> bool {
        let begun = std::time::Instant::now();
        match self.enforcer.write_changes() {
            Ok(Written::Nothing) => true,
            Ok(written @ (Written::Tables | Written::Narrower)) => {
                debug!(took = ?begun.elapsed(), "network policies are enforced as they are now");
                self.look.owed |= written == Written::Narrower;
                self.metrics
                    .synced(begun.elapsed(), self.enforcer.state().table());
                true
            }
            Err(error) => {
                self.metrics.failures.inc();
                warn!(error = with_cause(&error), "trying again");
                false
            }
        }
    }

    fn end_denied(&mut self) {
        let begun = std::time::Instant::now();
        let ended = self.enforcer.end_denied();
        debug!(took = ?begun.elapsed(), ended, "connections were looked at");
        self.metrics.ended(ended);
        self.look = Look {
            owed: false,
            last: Some(Instant::now()),
        };
    }

    /// Once in a while.
    fn tidy(&mut self, lists: &Lists) {
        self.check();
        if let Some(announced) = &mut self.announced
            && lists.are_complete(true)
        {
            announced.forget_lost(self.enforcer.state_mut());
        }
    }

    fn check(&mut self) {
        match self.enforcer.check() {
            Ok(gone) => self.metrics.repairs.inc_by(u64::from(gone)),
            Err(error) => warn!(
                error = with_cause(&error),
                "network policies cannot be looked after"
            ),
        }
    }
}

impl Look {
    /// At once, but not again and again.
    fn due(&self) -> Option<Instant> {
        let earliest = self.last.map_or_else(Instant::now, |last| last + LOOK_PAUSE);
        self.owed.then_some(earliest)
    }
}

impl Lists {
    /// What follows from an input.
    fn take(&mut self, input: Input) -> Vec<Event> {
        match input {
            Input::Object(event) => {
                let (kind, key) = watch::subject(&event);
                self.unlisted.mention(&kind, &key);
                let known = self.known.entry(kind).or_default();
                if is_there(&event) {
                    known.insert(key)
                } else {
                    known.remove(&key)
                };
                vec![event]
            }
            Input::ListStart(kind) => {
                self.unlisted
                    .start(kind, self.known.get(&kind).cloned().unwrap_or_default());
                Vec::new()
            }
            Input::ListEnd(kind) => {
                self.complete.insert(kind);
                let gone = self.unlisted.end(&kind);
                let known = self.known.entry(kind).or_default();
                known.retain(|key| !gone.contains(key));
                gone.into_iter().map(|key| watch::gone(kind, key)).collect()
            }
        }
    }

    fn has_policies(&self) -> bool {
        self.known
            .get(&Kind::Policy)
            .is_some_and(|policies| !policies.is_empty())
    }

    /// True once everything that is watched was listed in full.
    fn are_complete(&self, with_peers: bool) -> bool {
        let needed: &[Kind] = if with_peers {
            &[Kind::Policy, Kind::Pod, Kind::Namespace]
        } else {
            &[Kind::Policy]
        };
        needed.iter().all(|kind| self.complete.contains(kind))
    }
}

/// The next requests of the CNI plugin, if it can make some. Cancel safe.
async fn next(announced: &mut Option<Announced>) -> Option<announced::Requests> {
    match announced {
        Some(announced) => announced.next().await,
        None => std::future::pending().await,
    }
}

fn is_there(event: &Event) -> bool {
    match event {
        Event::Policy(_, object) => object.is_some(),
        Event::Pod(_, object) => object.is_some(),
        Event::Namespace(_, object) => object.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_are_looked_at_at_once_but_not_again_and_again() {
        let mut look = Look::default();
        assert_eq!(look.due(), None);
        look.owed = true;
        assert_eq!(look.due(), Some(Instant::now()));
        look.last = Some(Instant::now());
        assert_eq!(look.due(), Some(Instant::now() + LOOK_PAUSE));
        look.owed = false;
        assert_eq!(look.due(), None);
    }
}
