//! The pods of this node, from the API's wish to the runtime's doing.
//!
//! ```text
//! source ── Update ──> manager ── watch Wanted ──> worker (one task per pod): core::machine
//!                        │ admission (core)           │ steps            │ status, events
//!                        │                            v                  v
//!                        │                         execute ──> runtime, images, volumes, cgroups, hooks
//!                        └── orphans of the runtime and of the disk, after the first full list
//! ```
//!
//! * [`source`]: where wishes come from (the API server's watch). * [`manager`]: which pods there are.
//! * [`worker`]: one pod's loop; all decisions are the machine's. * [`execute`]: one match on its steps.
//! * [`account`]: what the metrics are told of a pod. * [`directory`]: the same pods for those who only ask.
//! * [`leftovers`]: what pods that are gone have left on the disk. * [`spec`]: a pod in the runtime's words. * [`turns`]: how many pods start at the same time.
//! * [`mod@start`]: the tasks.

mod account;
pub(crate) mod directory;
mod execute;
mod leftovers;
mod manager;
mod source;
pub(crate) mod spec;
mod start;
mod steps;
mod turns;
mod worker;

pub(crate) use directory::Directory;
pub(crate) use execute::Tools;
pub(crate) use start::{NodeParts, PodTasks, start};
pub(crate) use turns::Turns;
