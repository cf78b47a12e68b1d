//! Errors of the parts in the words of a step's failure.

use std::error::Error;

use gantry_agent_core::machine::{Retry, StepError};

use crate::report::Chain;

/// A failure with this reason; the message is the error and its causes. Logged here, once.
pub(super) fn failed(reason: &str, error: &(dyn Error + 'static)) -> StepError {
    refused(reason, Chain(error).to_string())
}

/// A failure with this reason and message.
pub(super) fn refused(reason: &str, message: String) -> StepError {
    tracing::warn!(reason, message, "step failed");
    StepError {
        reason: reason.to_owned(),
        message,
        retry: Retry::Backoff,
    }
}
