//! `/metrics`, `/metrics/probes`, `/metrics/slis`: the agent's own series. Some are read from files, so pages are made
//! where figures are read.

use gantry_chassis::metrics::TEXT_FORMAT;

use super::{Answer, Api, Refusal, answer::with_type};
use crate::metrics::Page;

/// The page as Prometheus reads it.
pub(super) async fn page(api: &Api, page: Page) -> Result<Answer, Refusal> {
    let metrics = api.metrics.clone();
    let text = api.stats.reader().run(move || metrics.page(page)).await;
    let text = text.ok_or_else(|| Refusal::internal("the agent is stopping"))?;
    text.map(|text| with_type(TEXT_FORMAT, text))
        .map_err(|error| Refusal::internal(error.to_string()))
}
