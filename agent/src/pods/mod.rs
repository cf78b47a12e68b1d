//! Pods: from the API to what runs.

pub(crate) mod spec;
