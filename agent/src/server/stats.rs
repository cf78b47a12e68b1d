//! `/stats/summary`, `/metrics/cadvisor`, `/metrics/resource`: figures, read when asked for.
//!
//! The text is never compressed, whatever the scraper accepts: that would cost ten times what reading it costs.

use gantry_agent_core::api::Query;
use hyper::header::HeaderValue;

use super::{Answer, Api, Refusal, Request, answer};
use crate::stats::StatsError;

/// As the reference writes it.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
/// A scraper tells by this whether counters began anew.
const STARTED: &str = "process-start-time-unix";

/// `/metrics/cadvisor`.
pub(super) async fn cadvisor(api: &Api) -> Result<Answer, Refusal> {
    let parts = api.stats.cadvisor().await.map_err(refusal)?;
    Ok(metrics(api, answer::in_parts(METRICS, parts)))
}

/// `/metrics/resource`.
pub(super) async fn resources(api: &Api) -> Result<Answer, Refusal> {
    let body = api.stats.resources().await.map_err(refusal)?;
    Ok(metrics(api, answer::with_type(METRICS, body)))
}

/// `/stats/summary`, with `?only_cpu_and_memory=true` without the rest.
pub(super) async fn summary(api: &Api, request: &Request) -> Result<Answer, Refusal> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let body = api.stats.summary(only_cpu_and_memory(&query)).await;
    Ok(answer::with_type("application/json", body.map_err(refusal)?))
}

/// Exactly one value, and that is `true`.
fn only_cpu_and_memory(query: &Query) -> bool {
    query.all("only_cpu_and_memory").eq(["true"])
}

fn metrics(api: &Api, mut answer: Answer) -> Answer {
    let started = HeaderValue::from(api.stats.started().as_second());
    answer.headers_mut().insert(STARTED, started);
    answer
}

fn refusal(error: StatsError) -> Refusal {
    Refusal::internal(format!("Internal Error: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_true_once_leaves_the_rest_out() {
        for (query, only) in [
            ("only_cpu_and_memory=true", true),
            ("only_cpu_and_memory=true&x=y", true),
            ("only_cpu_and_memory=1", false),
            ("only_cpu_and_memory=true&only_cpu_and_memory=true", false),
            ("", false),
        ] {
            assert_eq!(only_cpu_and_memory(&Query::parse(query)), only, "{query}");
        }
    }
}
