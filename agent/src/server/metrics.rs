//! `/metrics`, `/metrics/probes`, `/metrics/slis`: the agent's own series.

use gantry_chassis::metrics::TEXT_FORMAT;

use super::{Answer, Api, Refusal, answer::with_type};
use crate::metrics::Page;

/// The page as Prometheus reads it.
pub(super) fn page(api: &Api, page: Page) -> Result<Answer, Refusal> {
    let text = api.metrics.page(page);
    text.map(|text| with_type(TEXT_FORMAT, text))
        .map_err(|error| Refusal::internal(error.to_string()))
}
