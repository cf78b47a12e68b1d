//! `/healthz` and its checks: the agent answers (`ping`), its log is written (`log`), its pod manager goes round
//! (`syncloop`). A reason is told only by the check itself, whose path needs the same rights.

use std::{
    io::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gantry_agent_core::api::{HealthCheck, Query, health};
use hyper::{StatusCode, header::X_CONTENT_TYPE_OPTIONS};

use super::{Answer, Api, Refusal, answer};

/// The manager may take this long for a round, or twice `syncFrequency` when that is longer; the reference's.
const ROUND: Duration = Duration::from_secs(5 * 60);
/// Standard error may take this long to take what is written.
const LOG: Duration = Duration::from_secs(2);

/// Since when a look at the log waits, if one does. The process has one standard error.
static LOOKING: Mutex<Option<Instant>> = Mutex::new(None);

/// All checks, or one.
pub(super) async fn check(api: &Api, which: HealthCheck, query: Option<&str>) -> Result<Answer, Refusal> {
    let alone = |result: Result<(), String>| match result {
        Ok(()) => Ok(answer::text("ok")),
        Err(reason) => Err(Refusal::line(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("internal server error: {reason}"),
        )),
    };
    match which {
        HealthCheck::Ping => alone(Ok(())),
        HealthCheck::Log => alone(log().await),
        HealthCheck::SyncLoop => alone(sync_loop(api)),
        HealthCheck::All => {
            let checks = [
                ("ping", Ok(())),
                ("log", log().await),
                ("syncloop", sync_loop(api)),
            ];
            for (name, result) in &checks {
                api.metrics.http.checked(name, result.is_ok());
                if let Err(reason) = result {
                    tracing::warn!(name, reason, "a health check failed");
                }
            }
            let told = health::report("healthz", &checks, &Query::parse(query.unwrap_or_default()));
            if told.healthy {
                return Ok(answer::text(told.text));
            }
            let refusal = Refusal::internal(told.text);
            Err(refusal.with(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        }
    }
}

/// Logs block when nobody reads them.
async fn log() -> Result<(), String> {
    let blocked = || Err("logging blocked".to_owned());
    let looking = || LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    {
        let mut since = looking();
        // One look at a time: a blocked log must not block a thread for each question.
        match *since {
            Some(since) if since.elapsed() > LOG => return blocked(),
            Some(_) => return Ok(()),
            None => *since = Some(Instant::now()),
        }
    }
    let look = tokio::task::spawn_blocking(move || {
        let flushed = std::io::stderr().lock().flush();
        *looking() = None;
        flushed
    });
    match tokio::time::timeout(LOG, look).await {
        Ok(_) => Ok(()),
        Err(_) => blocked(),
    }
}

fn sync_loop(api: &Api) -> Result<(), String> {
    let limit = ROUND.max(api.config.kubelet.sync_frequency * 2);
    match api.pods.last_round() {
        Some(age) if age > limit => Err("sync Loop took longer than expected".to_owned()),
        Some(_) | None => Ok(()),
    }
}
