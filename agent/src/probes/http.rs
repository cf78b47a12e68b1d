//! HTTP GET for probes and hooks: one connection per request, unverified TLS, no proxy, no compression, at most 10 KiB
//! of the body, redirects followed on the same host only (`pkg/probe/http`).

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::check::{connect_reason, plain};
use super::tls;

/// The rest of a body is not read, in bytes.
const MAX_BODY: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

/// Encrypted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) scheme: Scheme,
    host: String,
    port: u16,
    /// Path and query, beginning with a slash.
    path: String,
    headers: HeaderMap,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    location: Option<String>,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection.
    #[error("Get {url:?}: dial tcp {address}: {}", connect_reason(source))]
    Connect {
        url: String,
        address: String,
        #[source]
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("Get {url:?}: {}", plain(source))]
    Tls {
        url: String,
        #[source]
        source: io::Error,
    },
    /// The server talks plain HTTP.
    #[error("Get {url:?}: http: server gave HTTP response to HTTPS client")]
    NotTls { url: String },
    /// No answer that is HTTP.
    #[error("Get {url:?}: {source}")]
    Exchange {
        url: String,
        #[source]
        source: hyper::Error,
    },
    /// The answer broke off.
    #[error("{source}")]
    Body {
        #[source]
        source: hyper::Error,
    },
    /// Redirected in circles.
    #[error("Get {url:?}: stopped after 10 redirects")]
    Redirects { url: String },
}

impl HttpError {
    /// For events. The texts of these errors name their causes themselves.
    pub(crate) fn message(&self) -> String {
        self.to_string()
    }
}

impl Request {
    /// The request of an action. `pod_ip` is the default host. The error is a message.
    pub(crate) fn new(
        action: &HTTPGetAction,
        container: &Container,
        pod_ip: &str,
        user_agent: &'static str,
    ) -> Result<Self, String> {
        let scheme = match action.scheme.as_deref() {
            Some(word) if word.eq_ignore_ascii_case("https") => Scheme::Https,
            Some(_) | None => Scheme::Http,
        };
        let mut headers = HeaderMap::new();
        for header in action.http_headers.iter().flatten() {
            let name =
                HeaderName::try_from(&header.name).map_err(|error| format!("{}: {error}", header.name))?;
            let value = HeaderValue::try_from(&header.value).map_err(|error| format!("{name}: {error}"))?;
            headers.append(name, value);
        }
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(user_agent));
        // An empty value takes the header away.
        if headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("*/*"))
            .is_empty()
        {
            headers.remove(ACCEPT);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let host = action
            .host
            .as_deref()
            .filter(|host| !host.is_empty())
            .unwrap_or(pod_ip);
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port: port(&action.port, container)?,
            path: path_and_query(action.path.as_deref().unwrap_or_default()),
            headers,
        })
    }

    /// For messages.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!(
            "{scheme}://{}{}",
            join_host_port(&self.host, self.port),
            self.path
        )
    }

    /// The request that a redirect leads to; `None` when it leaves the host, or is none.
    fn redirected(&self, response: &Response) -> Option<Self> {
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let location = response.location.as_deref()?;
        let mut next = self.clone();
        let absolute = location
            .strip_prefix("http://")
            .map(|rest| (Scheme::Http, rest))
            .or_else(|| {
                location
                    .strip_prefix("https://")
                    .map(|rest| (Scheme::Https, rest))
            })
            .or_else(|| location.strip_prefix("//").map(|rest| (self.scheme, rest)));
        if let Some((scheme, rest)) = absolute {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (host, port) = split_host_port(&rest[..end], scheme)?;
            if host != self.host {
                return None;
            }
            (next.scheme, next.port, next.path) = (scheme, port, path_and_query(&rest[end..]));
            next.headers.remove(HOST);
        } else if location.starts_with('/') {
            next.path = path_and_query(location);
        } else {
            let directory = self
                .path
                .split('?')
                .next()
                .and_then(|path| path.rsplit_once('/'))
                .map_or("", |(dir, _)| dir);
            next.path = path_and_query(&format!("{directory}/{location}"));
        }
        Some(next)
    }
}

/// Sends a request and follows redirects. The caller bounds the time.
pub(crate) async fn get(mut request: Request) -> Result<Response, HttpError> {
    for _ in 0..MAX_REDIRECTS {
        let response = exchange(&request).await?;
        match request.redirected(&response) {
            Some(next) => request = next,
            None => return Ok(response),
        }
    }
    Err(HttpError::Redirects { url: request.url() })
}

/// The same request without encryption.
pub(crate) fn without_tls(request: &Request) -> Request {
    Request {
        scheme: Scheme::Http,
        ..request.clone()
    }
}

async fn exchange(request: &Request) -> Result<Response, HttpError> {
    let stream = TcpStream::connect((request.host.as_str(), request.port))
        .await
        .map_err(|source| {
            let address = join_host_port(&request.host, request.port);
            HttpError::Connect {
                url: request.url(),
                address,
                source,
            }
        })?;
    match request.scheme {
        Scheme::Http => talk(request, stream).await,
        Scheme::Https => {
            let name = ServerName::try_from(request.host.clone()).map_err(|error| HttpError::Tls {
                url: request.url(),
                source: io::Error::other(error),
            })?;
            let stream = tls::connector().connect(name, stream).await.map_err(|source| {
                let url = request.url();
                if is_plain_http(&source) {
                    HttpError::NotTls { url }
                } else {
                    HttpError::Tls { url, source }
                }
            })?;
            talk(request, stream).await
        }
    }
}

async fn talk<S>(request: &Request, stream: S) -> Result<Response, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |source| HttpError::Exchange {
        url: request.url(),
        source,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its errors reach the request, too.
        let _ = connection.await;
    }));
    let mut message = hyper::Request::new(Empty::<Bytes>::new());
    // Checked when the path was made: it holds no byte that a request line cannot.
    *message.uri_mut() = request.path.parse().unwrap_or_default();
    *message.headers_mut() = request.headers.clone();
    if !message.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::try_from(join_host_port(&request.host, request.port))
    {
        message.headers_mut().insert(HOST, host);
    }
    let response = sender.send_request(message).await.map_err(failed)?;
    let status = response.status().as_u16();
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let body = read(response.into_body()).await?;
    Ok(Response {
        status,
        body,
        location,
    })
}

async fn read(mut body: hyper::body::Incoming) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|source| HttpError::Body { source })?;
        if let Some(data) = frame.data_ref() {
            let room = MAX_BODY - bytes.len();
            bytes.extend_from_slice(&data[..room.min(data.len())]);
        }
    }
    Ok(bytes)
}

/// rustls was answered by something that is no TLS record.
fn is_plain_http(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}

/// The number of a port, which may be named in the container.
pub(crate) fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name.as_str()));
            match named {
                Some(port) => port.container_port,
                None => name.parse().map_err(|_| format!("port {name} not found"))?,
            }
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn split_host_port(authority: &str, scheme: Scheme) -> Option<(String, u16)> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let default = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => authority
            .split_once(':')
            .map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse().ok()?,
        None => default,
    };
    Some((host.to_owned(), port))
}

/// Makes what users write a valid path and query: begins with a slash, no fragment, other bytes escaped.
fn path_and_query(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let mut path = String::with_capacity(text.len() + 1);
    if !text.starts_with('/') {
        path.push('/');
    }
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
        if plain {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
pub(crate) mod tests;
