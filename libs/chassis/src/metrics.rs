//! Prometheus text, how series are made, and the ones that every process has.
//!
//! [`Registrar`] makes series and registers them; [`standard`] adds what every daemon shows: [`Process`], the number of
//! tasks, the version. [`scrape`] answers with all of them.

mod info;
mod process;
mod reading;
mod registrar;

use hyper::StatusCode;
use prometheus::{Encoder, Registry, TextEncoder};
use tracing::error;

pub use self::info::{Version, feature_gates, standard};
pub use self::process::Process;
pub use self::reading::Sample;
pub use self::registrar::{DEFAULT_BUCKETS, Level, Registrar};
use crate::http::{Answer, text, with_type};

/// The content type of [`encode`]'s text.
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// The text of all series of `registry`.
///
/// # Errors
/// When a series is malformed, which is a bug of the collector that made it.
pub fn encode(registry: &Registry) -> Result<Vec<u8>, prometheus::Error> {
    let mut body = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut body)?;
    Ok(body)
}

/// The answer to a scrape of `registry`.
#[must_use]
pub fn scrape(registry: &Registry) -> Answer {
    match encode(registry) {
        Ok(body) => with_type(StatusCode::OK, TEXT_FORMAT, body),
        Err(error) => {
            error!(%error, "cannot encode the metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n")
        }
    }
}
