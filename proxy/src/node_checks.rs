//! `healthCheckNodePort`: one HTTP server for each service with `externalTrafficPolicy: Local` and a load balancer, which asks there
//! whether this node has endpoints of it.
//!
//! A server is open as long as its service is there, on the addresses of node ports; what it answers is read when it is asked. Each
//! address family has its own: a service may have endpoints here in one of them only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_chassis::http::{Answer, Routes, json, serve_family};
use gantry_proxy_core::{HealthCheck, Key};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::events::Events;
use crate::health::Health;
use crate::programmer::with_cause;

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// The servers that are open. They are closed with this value.
#[derive(Debug)]
pub struct NodeChecks {
    health: Health,
    events: Events,
    addresses: Vec<IpAddr>,
    open: BTreeMap<Key, Open>,
    /// Those that could not be opened, as users were told.
    failed: BTreeSet<(Key, NonZeroU16)>,
}

/// A service's servers, one for each address.
#[derive(Debug)]
struct Open {
    port: NonZeroU16,
    local: Arc<AtomicUsize>,
    /// Closes them when dropped; none could be opened without it.
    _close: DropGuard,
}

impl NodeChecks {
    /// None is open yet. `health` is what they say about this program.
    #[must_use]
    pub fn new(health: Health, events: Events) -> Self {
        Self {
            health,
            events,
            addresses: Vec::new(),
            open: BTreeMap::new(),
            failed: BTreeSet::new(),
        }
    }

    /// Makes the open servers exactly these, on these addresses; false if one could not be opened.
    pub async fn sync(&mut self, wanted: &[HealthCheck], addresses: &[IpAddr]) -> bool {
        if self.addresses != addresses {
            self.addresses = addresses.to_vec();
            self.open.clear();
        }
        let is_wanted = |service: &Key, open: &mut Open| {
            wanted
                .iter()
                .any(|check| check.service == *service && check.port == open.port)
        };
        self.open.retain(is_wanted);
        let mut failed = BTreeSet::new();
        for check in wanted {
            if let Some(open) = self.open.get(&check.service) {
                open.local.store(check.local, Ordering::Relaxed);
                continue;
            }
            match self.start(check).await {
                Ok(open) => {
                    info!(
                        service = &*check.service,
                        port = check.port,
                        "health check opened"
                    );
                    self.open.insert(check.service.clone(), open);
                }
                Err(error) => {
                    let check_of = (check.service.clone(), check.port);
                    // Once, not with each attempt.
                    if !self.failed.contains(&check_of) {
                        let text = with_cause(&error);
                        self.events
                            .check_not_served(&check.service, check.port.get(), &text);
                    }
                    failed.insert(check_of);
                    warn!(
                        service = &*check.service,
                        port = check.port,
                        error = with_cause(&error),
                        "cannot open a service's health check; trying again"
                    );
                }
            }
        }
        self.failed = failed;
        self.failed.is_empty()
    }

    async fn start(&self, check: &HealthCheck) -> Result<Open, gantry_chassis::http::ListenError> {
        let close = CancellationToken::new();
        let guard = close.clone().drop_guard();
        let local = Arc::new(AtomicUsize::new(check.local));
        for address in &self.addresses {
            let (service, local, health) = (check.service.clone(), Arc::clone(&local), self.health.clone());
            let routes =
                Routes::new().other(move |_| answer(&service, local.load(Ordering::Relaxed), &health));
            serve_family(SocketAddr::new(*address, check.port.get()), routes, close.clone()).await?;
        }
        Ok(Open {
            port: check.port,
            local,
            _close: guard,
        })
    }
}

/// The reference's words and layout.
fn answer(service: &str, local: usize, health: &Health) -> Answer {
    let (namespace, name) = service.split_once('/').unwrap_or_default();
    let healthy = health.is_healthy();
    let code = if local > 0 && healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let mut answer = json(code, body);
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(WEIGHT, HeaderValue::from(local));
    answer
}

#[cfg(test)]
mod tests;
