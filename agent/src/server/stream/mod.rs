//! `/exec`, `/attach`, `/portForward` and `/run`: a user's way into a running pod.
//!
//! ```text
//! kubectl ══ API server ══ here ══ the runtime's streaming server ── the container
//!                           │ Exec, Attach, PortForward (CRI): a URL for one session
//!                           v
//!                        the runtime
//! ```
//!
//! The protocols (SPDY/3.1 with `v4.channel.k8s.io` and older ones, `portforward.k8s.io`, WebSocket with the same) are
//! between the client and the runtime. Here the request is checked and the container found, the upgrade is handed over
//! ([`mod@relay`]), and then bytes are copied ([`tunnel`]). Errors are the reference's: `server.go`, `kubelet_pods.go` of
//! the kubelet, `WriteError` of its streaming library.
//!
//! Two protocols over WebSocket end here, because runtimes do not know them: `v5.channel.k8s.io` is translated
//! ([`mod@translate`]), and SPDY inside of a WebSocket is taken out of it ([`tunnelled`]); feature
//! `ExtendWebSocketsToKubelet`.

mod backend;
mod relay;
mod translate;
mod tunnel;
mod tunnelled;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use gantry_agent_core::api::{ContainerRef, PodRef, Query};
use gantry_agent_core::observed::ObservedPod;
use gantry_agent_core::streaming::{self, Streams, v5};
use hyper::header::{RETRY_AFTER, SEC_WEBSOCKET_VERSION};
use hyper::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use tracing::Instrument as _;

use self::relay::{RelayError, is_web_socket, relay, upgraded};
use self::translate::Session;
use self::websocket::Unfit;
use super::{Answer, Api, Refusal, Request, answer};
use crate::config::gates;
use crate::report::Chain;
use crate::runtime::RuntimeError;

/// How long the runtime keeps a session that nobody begins, in seconds: when it has too many, come back after that.
const RETRY_SECS: &str = "60";

/// `/exec`: a command in a running container.
pub(super) async fn exec(api: &Api, request: Request, container: &ContainerRef) -> Result<Answer, Refusal> {
    let query = query(&request);
    let streams = Streams::parse(&query).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let pod = pod(api, &container.pod)?;
    let observed = observed(api, &pod);
    let target = streaming::exec_target(observed.as_deref(), &container.container).map_err(no_target)?;
    let url = api
        .runtime
        .exec_url(&target.id, streaming::exec_command(&query), streams);
    let url = url.await.map_err(|error| no_session(&error))?;
    if speaks_v5(api, &request) {
        return translate(api, request, ("exec", url), streams);
    }
    pass_on(api, request, &url).await
}

/// `/attach`: the streams of a container's first process.
pub(super) async fn attach(api: &Api, request: Request, container: &ContainerRef) -> Result<Answer, Refusal> {
    let streams =
        Streams::parse(&query(&request)).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let pod = pod(api, &container.pod)?;
    let observed = observed(api, &pod);
    let uid = container.pod.uid.as_deref().unwrap_or_default();
    let (target, tty) =
        streaming::attach_target(&pod, observed.as_deref(), uid, &container.container).map_err(no_target)?;
    let streams = Streams { tty, ..streams };
    let url = api.runtime.attach_url(&target.id, streams);
    let url = url.await.map_err(|error| no_session(&error))?;
    if speaks_v5(api, &request) {
        return translate(api, request, ("attach", url), streams);
    }
    pass_on(api, request, &url).await
}

/// `/portForward`: connections to ports of a pod.
pub(super) async fn port_forward(api: &Api, request: Request, named: &PodRef) -> Result<Answer, Refusal> {
    let tunnelled = extended(api) && !tunnelled::inside(request.headers()).is_empty();
    let ports = if is_web_socket(request.headers()) && !tunnelled {
        streaming::ports(&query(&request)).map_err(|error| Refusal::bad_request(error.to_string()))?
    } else {
        Vec::new()
    };
    let pod = pod(api, named)?;
    if named.uid.is_some() && named.uid != pod.metadata.uid {
        return Err(Refusal::not_found("pod not found"));
    }
    let observed = observed(api, &pod);
    let target = streaming::forward_target(&pod, observed.as_deref()).map_err(no_target)?;
    let url = api.runtime.port_forward_url(&target.id, ports);
    let url = url.await.map_err(|error| no_session(&error))?;
    if tunnelled {
        return take_out(api, request, &url).await;
    }
    pass_on(api, request, &url).await
}

/// `/run`: a command's output, all at its end.
pub(super) async fn run(api: &Api, request: Request, container: &ContainerRef) -> Result<Answer, Refusal> {
    let pod = pod(api, &container.pod)?;
    let observed = observed(api, &pod);
    let target = streaming::exec_target(observed.as_deref(), &container.container).map_err(no_target)?;
    let command = streaming::run_command(&query(&request));
    let text = command.join(" ");
    let output = api.runtime.run_command(&target.id, command).await;
    let output = output.map_err(|error| Refusal::internal(error.as_status()))?;
    if output.exit_code != 0 {
        let said = String::from_utf8_lossy(&output.stderr);
        let text = format!("command '{text}' exited with {}: {said}", output.exit_code);
        return Err(Refusal::internal(text));
    }
    let mut all = output.stdout;
    all.extend(output.stderr);
    if all.is_empty() {
        return Ok(Response::new(answer::full(all)));
    }
    // Whatever it is: so does the reference.
    Ok(answer::with_type("application/json", all))
}

fn pod(api: &Api, named: &PodRef) -> Result<Arc<Pod>, Refusal> {
    let entry = api.pods.by_name(&named.namespace, &named.name);
    let missing = || Refusal::not_found("pod does not exist");
    Ok(entry.ok_or_else(missing)?.pod)
}

/// What the runtime has of the pod.
fn observed(api: &Api, pod: &Pod) -> Option<Arc<ObservedPod>> {
    api.runtime.pods().get(pod.metadata.uid.as_deref()?)
}

fn query(request: &Request) -> Query {
    Query::parse(request.uri().query().unwrap_or_default())
}

/// The session that `url` stands for, or why there is none.
async fn pass_on(api: &Api, request: Request, url: &str) -> Result<Answer, Refusal> {
    match relay(request, url, idle(api)).await {
        Ok(answer) => Ok(answer.map(answer::full)),
        Err(error) => Err(no_relay(&error)),
    }
}

fn idle(api: &Api) -> Option<Duration> {
    let idle = api.config.kubelet.streaming_connection_idle_timeout;
    (idle > Duration::ZERO).then_some(idle)
}

/// Whether protocols that runtimes do not know are taken here.
fn extended(api: &Api) -> bool {
    gates::enabled(&api.config.kubelet.feature_gates, gates::WEB_SOCKETS)
}

fn speaks_v5(api: &Api, request: &Request) -> bool {
    extended(api)
        && is_web_socket(request.headers())
        && websocket::offered(request.headers()).any(|protocol| protocol == v5::PROTOCOL)
}

/// A session of that kind with a client that speaks v5: answered here, and begun when the client has the answer.
fn translate(
    api: &Api,
    request: Request,
    (kind, url): (&'static str, String),
    streams: Streams,
) -> Result<Answer, Refusal> {
    api.metrics.http.web_socket(kind);
    let (head, client) = upgraded(request).map_err(|error| no_relay(&error))?;
    let answer = websocket::accept(&head, v5::PROTOCOL).map_err(unfit)?;
    let session = Session {
        url,
        streams,
        idle: idle(api),
    };
    tokio::spawn(session.run(client).in_current_span());
    Ok(answer.map(answer::full))
}

/// In the words of the reference's library for WebSockets.
fn unfit(unfit: Unfit) -> Refusal {
    match unfit {
        Unfit::Method => Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "bad method"),
        Unfit::Key => Refusal::bad_request("mismatch challenge/response"),
        Unfit::Version => {
            Refusal::bad_request("missing or bad WebSocket Version").with(SEC_WEBSOCKET_VERSION, "13")
        }
    }
}

/// A port-forward in SPDY inside of a WebSocket.
async fn take_out(api: &Api, request: Request, url: &str) -> Result<Answer, Refusal> {
    api.metrics.http.web_socket("portforward");
    let (head, client) = upgraded(request).map_err(|error| no_relay(&error))?;
    let answered = tunnelled::answer(url, &head).await;
    let (answer, session) = answered.map_err(|error| error.refusal(no_relay))?;
    if let Some(backend) = session {
        tokio::spawn(tunnelled::run(client, backend, idle(api)).in_current_span());
    }
    Ok(answer.map(answer::full))
}

fn no_relay(error: &RelayError) -> Refusal {
    Refusal::line(StatusCode::INTERNAL_SERVER_ERROR, &Chain(error).to_string())
}

fn no_target(error: streaming::TargetError) -> Refusal {
    Refusal::internal(error.to_string())
}

/// The runtime prepared nothing.
fn no_session(error: &RuntimeError) -> Refusal {
    let text = error.as_status();
    if error.is_not_found() {
        Refusal::not_found(text)
    } else if error.is_exhausted() {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).with(RETRY_AFTER, RETRY_SECS)
    } else {
        Refusal::internal(text)
    }
}

#[cfg(test)]
mod tests;
