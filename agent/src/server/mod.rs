//! The agent's HTTP API: HTTPS on `port`, and the few open paths on `readOnlyPort`.
//!
//! ```text
//! listen: TCP -> TLS -> HTTP/1.1 (with upgrades) or HTTP/2
//!   -> core::api::resolve: what is asked for
//!   -> auth: who asks (certificate, token), and may they (SubjectAccessReview)
//!   -> answer: one match on the route -> a handler -> Answer or Refusal
//! ```
//!
//! * Inputs: connections; the pods of this node ([`Directory`]); the runtime; files below `/var/log`.
//! * Outputs: answers. Handlers live in a file each and decide nothing about rights.
//! * Tasks: one that accepts, one for each connection; they end with the server.

pub(crate) mod answer;
mod auth;
mod certificate;
mod checkpoint;
mod configz;
mod connection;
mod debug;
mod files;
mod health;
mod journal;
mod listen;
pub(crate) mod logs;
mod metrics;
mod pods;
mod reload;
mod stats;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;

use std::{future::pending, net::SocketAddr, sync::Arc};

use gantry_agent_core::api::{Miss, Route, Surface};
use gantry_chassis::zpages::Program;
use hyper::{
    StatusCode,
    body::Incoming,
    header::{ALLOW, RANGE},
};
use kube::Client;
use tokio_rustls::TlsAcceptor;

pub(crate) use self::answer::{Answer, Body, Refusal};
use self::{
    auth::Auth,
    certificate::{CertificateError, Serving},
    connection::Service,
    listen::{ListenError, Listener},
    reload::LoadError,
    tls::TlsError,
};
use crate::{
    config::{Config, Settings},
    metrics::{Metrics, Page},
    pods::Directory,
    runtime::Runtime,
    stats::Stats,
};

/// Whose `/flagz` and `/statusz` they are.
const PAGES: Program = Program {
    name: "kubelet",
    version: crate::cli::VERSION,
    paths: &["/configz", "/healthz", "/metrics"],
};

/// A request as handlers get it; its head says method, path, query and headers.
pub(crate) type Request = hyper::Request<Incoming>;

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) config: Arc<Config>,
    /// The pods of this node.
    pub(crate) pods: Directory,
    pub(crate) runtime: Runtime,
    /// For readers of container logs.
    pub(crate) logs: logs::Logs,
    /// Figures.
    pub(crate) stats: Stats,
    pub(crate) metrics: Metrics,
}

/// The API cannot be served. Final: the configuration or the machine has to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// `clientCAFile`.
    #[error("cannot tell who calls the API")]
    Auth(#[from] LoadError),
    /// The serving certificate.
    #[error("cannot serve the API")]
    Certificate(#[from] CertificateError),
    /// `tls...`.
    #[error("cannot speak TLS as configured")]
    Tls(#[from] TlsError),
    /// The port.
    #[error("cannot serve the API")]
    Listen(#[from] ListenError),
}

/// Serves the API, and what `readOnlyPort` asks for. Does not end, but in an error. Cancel safe.
///
/// # Errors
/// See [`StartError`].
pub(crate) async fn run(api: Api, client: &Client) -> Result<(), StartError> {
    let settings = &api.config.kubelet;
    if !settings.enable_server {
        return pending().await;
    }
    let auth = Auth::new(&api.config, client)?;
    let certificate = Arc::new(Serving::new(&api.config)?);
    let presented = certificate.clone();
    api.metrics.read_server_certificate(move || presented.expires());
    let tls = tls::config(settings, certificate, auth.takes_certificates())?;
    let listener = Listener::bind(SocketAddr::new(settings.address, settings.port)).await?;
    let secured = Service {
        api: api.clone(),
        auth: Some(Arc::new(auth)),
        surface: surface(settings),
    };
    let secured = listener.serve(secured, Some(TlsAcceptor::from(Arc::new(tls))));
    if settings.read_only_port == 0 {
        secured.await;
        return Ok(());
    }
    let listener = Listener::bind(SocketAddr::new(settings.address, settings.read_only_port)).await?;
    let open = Service {
        api: api.clone(),
        auth: None,
        surface: Surface::READ_ONLY,
    };
    tokio::join!(secured, listener.serve(open, None));
    Ok(())
}

fn surface(settings: &Settings) -> Surface {
    Surface {
        debugging: settings.enable_debugging_handlers,
        system_log: settings.enable_system_log_handler,
        profiling: settings.enable_profiling_handler,
        debug_flags: settings.enable_debug_flags_handler,
        checkpoint: settings.gate("ContainerCheckpoint"),
    }
}

impl Api {
    /// Answers a request that is allowed.
    pub(crate) async fn answer(&self, route: Result<Route, Miss>, request: Request) -> Answer {
        let answer = match route {
            Ok(route) => self.dispatch(route, request).await,
            Err(miss) => Err(missed(miss)),
        };
        answer.unwrap_or_else(Refusal::into_answer)
    }

    async fn dispatch(&self, route: Route, request: Request) -> Result<Answer, Refusal> {
        let query = request.uri().query();
        let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
        match route {
            Route::Healthz(check) => health::check(self, check, query).await,
            Route::Pods => pods::wanted(self),
            Route::RunningPods => pods::running(self),
            Route::MetricsCadvisor => stats::cadvisor(self).await,
            Route::MetricsResource => stats::resources(self).await,
            Route::StatsSummary => stats::summary(self, &request).await,
            Route::Exec(container) => stream::exec(self, request, &container).await,
            Route::Attach(container) => stream::attach(self, request, &container).await,
            Route::PortForward(pod) => stream::port_forward(self, request, &pod).await,
            Route::Run(container) => stream::run(self, request, &container).await,
            Route::ContainerLogs(of) => logs::handle(self, query.unwrap_or_default(), &of).await,
            Route::Logs(path) => files::logs(self, &path, (query, range.unwrap_or_default())).await,
            Route::Checkpoint(target) => checkpoint::make(self, &target, query).await,
            Route::Configz => configz::effective(self).await,
            Route::Flagz => Ok(answer::whole(PAGES.flags(&self.config.flags, request.headers()))),
            Route::Statusz => Ok(answer::whole(PAGES.status(request.headers()))),
            Route::Pprof(name) => debug::profile(&name),
            Route::DebugFlags => debug::verbosity(request).await,
            Route::Metrics => metrics::page(self, Page::Main).await,
            Route::MetricsProbes => metrics::page(self, Page::Probes).await,
            Route::MetricsSlis => metrics::page(self, Page::Slis).await,
        }
    }
}

fn missed(miss: Miss) -> Refusal {
    match miss {
        Miss::Path => Refusal::not_found("404: Page Not Found"),
        Miss::Method(allowed) => {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed").with(ALLOW, allowed)
        }
        Miss::Accept(formats) => {
            let text = format!("406: Not Acceptable\n\nAvailable representations: {formats}");
            Refusal::new(StatusCode::NOT_ACCEPTABLE, text)
        }
        Miss::Disabled(text) => Refusal::line(StatusCode::METHOD_NOT_ALLOWED, text),
    }
}
