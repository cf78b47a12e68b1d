//! One connection: HTTP/1.1 with upgrades, or HTTP/2, and the limits of both.
//!
//! A connection is closed when nobody known has used it for [`STRANGER`], or when no request is under way for [`IDLE`].
//! A request is under way until the last byte of its answer is sent.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry_agent_core::api::{Head, Resolution, Surface, resolve};
use hyper::{
    Method, StatusCode, Version,
    body::{Body as _, Frame, SizeHint},
    header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderValue, LOCATION},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::{Answer, Api, Body, Refusal, Request, auth::Auth};
use crate::metrics::{Counted, Port};

/// A connection without an allowed request is closed after this time.
const STRANGER: Duration = Duration::from_secs(30);
/// A connection without a request under way is closed after this time; the reference's.
const IDLE: Duration = Duration::from_secs(90);
/// How long a client may take to send a request's head. HTTP/1.1 counts from the end of the answer before.
const HEADER: Duration = IDLE;
/// The size of a request's head, bytes. A path and its query (the command of an exec) may have 64 KiB.
const HEADER_BYTES: usize = 128 * 1024;
/// Of an answer, what an HTTP/2 stream takes before its client has read any of it.
const SEND_BYTES: usize = 128 * 1024;
/// Requests at the same time on one HTTP/2 connection; Go's default.
const STREAMS: u32 = 250;
/// A silent HTTP/2 peer is asked this often whether it lives, and has as long to answer.
const PING: Duration = Duration::from_secs(30);

/// What connections are served with.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) api: Api,
    /// `None` on the read-only port: everybody may ask.
    pub(crate) auth: Option<Arc<Auth>>,
    pub(crate) surface: Surface,
}

/// When a connection was last used, and by whom.
struct Usage {
    state: Mutex<State>,
}

struct State {
    under_way: usize,
    since: Instant,
    known: bool,
}

/// A request under way.
struct UnderWay(Arc<Usage>);

/// A body that holds its request under way until it ends or is dropped.
struct Tracked {
    body: Body,
    /// Only its size is told. On HTTP/1.1 hyper sees to that itself.
    only_size: bool,
    _request: UnderWay,
    _counted: Counted,
}

/// Serves a connection until it ends or has outstayed its welcome.
pub(super) async fn serve<S>(stream: S, service: Service, chain: Vec<CertificateDer<'static>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let usage = Arc::new(Usage::new());
    let chain: Arc<[CertificateDer<'static>]> = chain.into();
    let answers = {
        let usage = usage.clone();
        service_fn(move |request| {
            let (service, chain, usage) = (service.clone(), chain.clone(), usage.clone());
            async move {
                let under_way = UnderWay::new(&usage);
                let counted = service.counted(&request);
                let only_size = request.method() == Method::HEAD && request.version() == Version::HTTP_2;
                let mut answer = service.answer(request, &chain, &usage).await;
                if only_size && let Some(bytes) = answer.body().size_hint().exact() {
                    answer.headers_mut().insert(CONTENT_LENGTH, bytes.into());
                }
                let track = |body| Tracked {
                    body,
                    only_size,
                    _request: under_way,
                    _counted: counted,
                };
                Ok::<_, Infallible>(answer.map(track))
            }
        })
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND_BYTES)
        .max_header_list_size(u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answers);
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            // Polled until it is over, or dropped: then the connection is closed.
            served = &mut connection => {
                if let Err(error) = served {
                    debug!(error, "a connection ended early");
                }
                return;
            }
            // Cancel safe: asked for again.
            () = tokio::time::sleep_until(usage.deadline().into()) => {
                if usage.deadline() <= Instant::now() {
                    return;
                }
            }
        }
    }
}

impl Service {
    fn counted(&self, request: &Request) -> Counted {
        let port = if self.auth.is_some() {
            Port::Secure
        } else {
            Port::ReadOnly
        };
        let http = &self.api.metrics.http;
        http.begins(request.method().as_str(), request.uri().path(), port)
    }

    async fn answer(&self, mut request: Request, chain: &[CertificateDer<'_>], usage: &Usage) -> Answer {
        if request.version() == Version::HTTP_11 {
            let hosts = request.headers().get_all(HOST).iter().count();
            // RFC 9112, section 3.2.
            match hosts {
                1 => {}
                0 => {
                    return Refusal::bad_request("400 Bad Request: missing required Host header")
                        .into_answer();
                }
                _ => return Refusal::bad_request("400 Bad Request: too many Host headers").into_answer(),
            }
        }
        let resolution = {
            let accept = request
                .headers()
                .get(ACCEPT)
                .and_then(|value| value.to_str().ok());
            let head = Head {
                method: request.method().as_str(),
                path: request.uri().path(),
                accept: accept.unwrap_or_default(),
            };
            resolve(head, self.surface)
        };
        let (area, route) = match resolution {
            Resolution::Found { area, route } => (area, route),
            Resolution::Unknown => {
                return Refusal::line(StatusCode::NOT_FOUND, "404 page not found").into_answer();
            }
            Resolution::Malformed => return Refusal::bad_request("400 Bad Request").into_answer(),
            Resolution::Redirect(path) => return redirect(&path, request.uri().query()),
        };
        if let Some(auth) = &self.auth {
            let method = request.method().clone();
            match auth
                .admit(chain, request.headers_mut(), (area, method.as_str()))
                .await
            {
                Ok(user) => debug!(user = user.name, %method, path = request.uri().path(), "request"),
                Err(refusal) => return refusal.into_answer(),
            }
        }
        usage.known();
        self.api.answer(route, request).await
    }
}

fn redirect(path: &str, query: Option<&str>) -> Answer {
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let escaped = target
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    let page = format!("<a href=\"{escaped}\">Temporary Redirect</a>.\n\n");
    let mut answer = super::answer::with_type("text/html; charset=utf-8", page);
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    match HeaderValue::try_from(target) {
        Ok(target) => {
            answer.headers_mut().insert(LOCATION, target);
            answer
        }
        Err(_) => Refusal::bad_request("400 Bad Request").into_answer(),
    }
}

impl Usage {
    fn new() -> Self {
        let state = State {
            under_way: 0,
            since: Instant::now(),
            known: false,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// When the connection has outstayed its welcome, unless it is used.
    fn deadline(&self) -> Instant {
        self.with(|state| match (state.known, state.under_way) {
            (false, _) => state.since + STRANGER,
            (true, 0) => state.since + IDLE,
            (true, _) => Instant::now() + IDLE,
        })
    }

    fn known(&self) {
        self.with(|state| state.known = true);
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl UnderWay {
    fn new(usage: &Arc<Usage>) -> Self {
        usage.with(|state| state.under_way += 1);
        Self(usage.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.under_way -= 1;
            if state.known {
                state.since = Instant::now();
            }
        });
    }
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.only_size {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.only_size || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
