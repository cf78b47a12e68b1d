//! Our own table: not for the reference.

mod churn;
mod foreign;
mod matrix;
mod memory;
mod outward;
mod policies;
mod table;
mod transitions;
