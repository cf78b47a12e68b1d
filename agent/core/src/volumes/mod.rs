//! What a pod's volumes are made of: pure planning, without touching a file.
//!
//! ```text
//! Pod ──plans()──> VolumePlan per used volume ──┐
//! Pod ──references()──> objects to fetch ───────┴──> Inputs ──payload()──> files ──> the shell writes them
//! ```
//!
//! * [`plan`]: which volume is of which kind, and what content it needs;
//! * [`payload`]: the files of a volume with content (configMap, secret, downwardAPI, projected);
//! * [`downward`]: the pod's own fields as text;
//! * [`refs`]: the configMaps and secrets that a pod depends on;
//! * [`path`]: what a path inside a volume may look like, nested mount points, sub paths;
//! * [`identity`]: the user and group that own a pod's files.

pub mod downward;
pub mod identity;
pub mod path;
pub mod payload;
pub mod plan;
pub mod refs;

#[cfg(test)]
mod tests;
