//! `/healthz` and `/livez`: whether changes reach the table in time, and whether the node should get traffic.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gantry_chassis::http::{Answer, Routes, json};
use hyper::StatusCode;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::metrics::Metrics;

/// What the main loop says about itself; cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Mutex<Shared>>,
    /// A change may wait this long.
    patience: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    updated: Option<SystemTime>,
    /// Since when a change waits.
    waiting: Option<Instant>,
    eligible: bool,
}

impl Health {
    /// Healthy as long as no change waits for twice the sync period.
    #[must_use]
    pub fn new(sync_period: Duration) -> Self {
        Self {
            shared: Arc::default(),
            patience: sync_period * 2,
        }
    }

    /// A change waits.
    pub fn queued(&self) {
        self.with(|shared| {
            shared.waiting.get_or_insert_with(Instant::now);
        });
    }

    /// Nothing waits any more.
    pub fn updated(&self) {
        self.with(|shared| {
            shared.waiting = None;
            shared.updated = Some(SystemTime::now());
        });
    }

    /// Whether the node should get traffic from load balancers.
    pub fn set_eligible(&self, eligible: bool) {
        self.with(|shared| shared.eligible = eligible);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The two paths.
    #[must_use]
    pub fn routes(&self, metrics: &Metrics) -> Routes {
        let (healthz, livez) = ((self.clone(), metrics.clone()), (self.clone(), metrics.clone()));
        Routes::new()
            .get("/healthz", move |_| {
                let (health, metrics) = &healthz;
                counted(health.answer(true), &metrics.healthz)
            })
            .get("/livez", move |_| {
                let (health, metrics) = &livez;
                counted(health.answer(false), &metrics.livez)
            })
    }

    fn answer(&self, with_node: bool) -> Answer {
        let (updated, in_time, eligible) = self.with(|shared| {
            let in_time = shared.waiting.is_none_or(|since| since.elapsed() < self.patience);
            (shared.updated, in_time, shared.eligible)
        });
        let good = in_time && (eligible || !with_node);
        let now = SystemTime::now();
        let time = |time: SystemTime| {
            Timestamp::try_from(time)
                .map(|t| t.to_string())
                .unwrap_or_default()
        };
        let never = || "0001-01-01T00:00:00Z".to_owned();
        let last = updated.map_or_else(never, time);
        let mut body = json!({
            "lastUpdated": if good { time(now) } else { last.clone() },
            "currentTime": time(now),
            "healthy": in_time,
            "status": {},
        });
        if updated.is_some() {
            body["status"]["IPv4"] = json!({ "lastUpdated": last, "healthy": in_time });
        }
        if with_node {
            body["nodeEligible"] = json!(eligible);
        }
        let code = if good {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(code, body.to_string())
    }
}

fn counted(mut answer: Answer, counter: &prometheus::IntCounterVec) -> Answer {
    counter.with_label_values(&[answer.status().as_str()]).inc();
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_follows_waiting_changes_and_the_node() {
        let health = Health::new(Duration::ZERO);
        assert_eq!(
            health.answer(false).status(),
            StatusCode::OK,
            "healthy while starting"
        );
        assert_eq!(
            health.answer(true).status(),
            StatusCode::SERVICE_UNAVAILABLE,
            "no node yet"
        );
        health.set_eligible(true);
        assert_eq!(health.answer(true).status(), StatusCode::OK);
        health.queued();
        assert_eq!(
            health.answer(false).status(),
            StatusCode::SERVICE_UNAVAILABLE,
            "a change waits too long"
        );
        health.updated();
        assert_eq!(health.answer(true).status(), StatusCode::OK);
    }
}
