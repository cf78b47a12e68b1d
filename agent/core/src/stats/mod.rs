//! Figures of containers, pods and the node: from the kernel's files to the three answers that others read.
//!
//! ```text
//! cgroup and proc files ─ parse ─> figures ─┬─> summary            /stats/summary, JSON
//!  (bytes, read by the shell)               ├─> cadvisor, machine  /metrics/cadvisor, text
//!                                           └─> resource           /metrics/resource, text
//! ```
//!
//! * [`parse`]: bytes in, small structs out; never fails, what is missing or not understood is `None` or left out.
//! * [`figures`]: the model, the same for cgroup versions 1 and 2. [`rate`]: the CPU's use just now.
//! * [`text`]: the writer of Prometheus' text format.
//!
//! Names, labels, units and what is reported for which cgroup are those of the reference: cadvisor's `metrics`
//! package and kubelet's `stats` and `metrics/collectors`.

pub mod cadvisor;
pub mod figures;
pub mod machine;
pub mod parse;
pub mod rate;
pub mod resource;
pub mod summary;
pub mod text;
