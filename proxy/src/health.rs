//! `/healthz` and `/livez`: whether changes reach the table in time, and whether the node should get traffic.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gantry_chassis::http::{Answer, Routes, json};
use gantry_proxy_core::{Family, PerFamily};
use hyper::StatusCode;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

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
    families: PerFamily<Progress>,
    eligible: bool,
}

/// How far a family's table is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// When it was last right; never for a family that does not run.
    updated: Option<SystemTime>,
    /// Since when a change waits.
    waiting: Option<Instant>,
}

/// What is answered, in the reference's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// In an answer that is good always the present, as in old releases, which synced all the time.
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

/// By family: those whose table was right once.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(rename = "IPv4", skip_serializing_if = "Option::is_none")]
    ipv4: Option<FamilyStatus>,
    #[serde(rename = "IPv6", skip_serializing_if = "Option::is_none")]
    ipv6: Option<FamilyStatus>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: String,
    healthy: bool,
}

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Health {
    /// Healthy as long as no change waits for twice the sync period.
    #[must_use]
    pub fn new(sync_period: Duration) -> Self {
        Self {
            shared: Arc::default(),
            patience: sync_period * 2,
        }
    }

    /// A change of a family waits.
    pub fn queued(&self, family: Family) {
        self.with(|shared| {
            shared
                .families
                .of_mut(family)
                .waiting
                .get_or_insert_with(Instant::now);
        });
    }

    /// Nothing of this family waits any more.
    pub fn updated(&self, family: Family) {
        self.with(|shared| {
            *shared.families.of_mut(family) = Progress {
                updated: Some(SystemTime::now()),
                waiting: None,
            };
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
            .any("/healthz", move |_| {
                let (health, metrics) = &healthz;
                counted(health.answer(true), &metrics.healthz)
            })
            .any("/livez", move |_| {
                let (health, metrics) = &livez;
                counted(health.answer(false), &metrics.livez)
            })
    }

    /// True unless a change of any family waits for too long.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let families = self.with(|shared| shared.families);
        Family::ALL
            .iter()
            .all(|family| self.in_time(families.of(*family)))
    }

    /// Before the first time that all is written there is nothing to be late with: the program starts.
    fn in_time(&self, progress: &Progress) -> bool {
        progress.updated.is_none()
            || progress
                .waiting
                .is_none_or(|since| since.elapsed() < self.patience)
    }

    fn answer(&self, with_node: bool) -> Answer {
        let (families, eligible) = self.with(|shared| (shared.families, shared.eligible));
        let healthy = self.is_healthy();
        let good = healthy && (eligible || !with_node);
        let now = written(SystemTime::now());
        // The latest of both families.
        let updated = families.ipv4.updated.max(families.ipv6.updated);
        let status = |progress: &Progress| {
            progress.updated.map(|updated| FamilyStatus {
                last_updated: written(updated),
                healthy: self.in_time(progress),
            })
        };
        let last_updated = || updated.map_or_else(|| NEVER.to_owned(), written);
        let body = Body {
            last_updated: if good { now.clone() } else { last_updated() },
            current_time: now,
            node_eligible: with_node.then_some(eligible),
            healthy,
            status: updated.map(|_| Status {
                ipv4: status(&families.ipv4),
                ipv6: status(&families.ipv6),
            }),
        };
        let code = if good {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(code, serde_json::to_vec(&body).unwrap_or_default())
    }
}

fn written(time: SystemTime) -> String {
    let time = Timestamp::try_from(time);
    time.map(|time| time.to_string()).unwrap_or_default()
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
    use http_body_util::BodyExt as _;

    use super::*;

    async fn body(answer: Answer) -> String {
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    fn code(health: &Health, with_node: bool) -> u16 {
        health.answer(with_node).status().as_u16()
    }

    #[tokio::test]
    async fn health_follows_waiting_changes_and_the_node() {
        let health = Health::new(Duration::ZERO);
        let family = Family::Ipv4;
        health.queued(family);
        assert_eq!(code(&health, false), 200, "healthy while starting");
        assert_eq!(code(&health, true), 503, "no node yet");
        let starting = body(health.answer(false)).await;
        assert!(
            !starting.contains("status") && !starting.contains("nodeEligible"),
            "{starting}"
        );
        health.updated(family);
        health.set_eligible(true);
        assert_eq!(code(&health, true), 200);
        health.queued(family);
        assert_eq!(code(&health, false), 503, "a change waits too long");
        assert!(!health.is_healthy());
        health.updated(family);
        assert_eq!(code(&health, true), 200);
        health.set_eligible(false);
        assert_eq!(
            (code(&health, true), code(&health, false)),
            (503, 200),
            "the node leaves"
        );
    }

    #[tokio::test]
    async fn it_is_healthy_only_when_both_families_are() {
        let health = Health::new(Duration::ZERO);
        for family in Family::ALL {
            health.updated(family);
        }
        health.queued(Family::Ipv6);
        assert_eq!(code(&health, false), 503);
        let text = body(health.answer(false)).await;
        let said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(said["healthy"], false);
        assert_eq!(said["status"]["IPv4"]["healthy"], true);
        assert_eq!(said["status"]["IPv6"]["healthy"], false);
        assert_eq!(
            said["lastUpdated"], said["status"]["IPv6"]["lastUpdated"],
            "the latest of both, and not the present"
        );
        health.updated(Family::Ipv6);
        assert_eq!(code(&health, false), 200);
    }

    #[tokio::test]
    async fn the_body_is_the_references() {
        let health = Health::new(Duration::from_secs(60));
        health.set_eligible(true);
        let names = async || {
            let text = body(health.answer(true)).await;
            assert!(text.ends_with("\"healthy\":true}}}"), "{text}");
            let quoted = text.split('"').skip(1).step_by(2);
            quoted
                .filter(|t| !t.contains('Z'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut expected = vec![
            "lastUpdated",
            "currentTime",
            "nodeEligible",
            "healthy",
            "status",
            "IPv4",
            "lastUpdated",
            "healthy",
        ];
        health.updated(Family::Ipv4);
        assert_eq!(names().await, expected);
        health.updated(Family::Ipv6);
        expected.extend(["IPv6", "lastUpdated", "healthy"]);
        assert_eq!(names().await, expected);
    }
}
