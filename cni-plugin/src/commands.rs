//! One file for each command of the specification.

pub(crate) mod add;
pub(crate) mod check;
pub(crate) mod del;
pub(crate) mod gc;
pub(crate) mod loopback;
pub(crate) mod status;
pub(crate) mod version;
