//! From a request's method and path to what it asks for.
//!
//! Two layers, as in the reference: what is registered (a path or a whole prefix, see [`Area`]) is looked up first, and
//! a path that is not registered is 404 without asking who the caller is. Below a prefix the rest of the path is
//! matched after the caller was authorised, so a wrong method or a path that is too long tells strangers nothing.

use percent_encoding::percent_decode_str;

use super::{Area, path::cleaned, query::escapes_are_sound};

/// A pod as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, when the path has one.
    pub uid: Option<String>,
}

/// A container as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    /// Its pod.
    pub pod: PodRef,
    /// Its name.
    pub container: String,
}

/// One of the health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthCheck {
    /// All of them: `/healthz`.
    All,
    /// The agent answers.
    Ping,
    /// The log is written.
    Log,
    /// The pod manager goes round.
    SyncLoop,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`, `/healthz/ping`, `/healthz/log`, `/healthz/syncloop`.
    Healthz(HealthCheck),
    /// `/pods`.
    Pods,
    /// `/runningpods/`.
    RunningPods,
    /// `/metrics`.
    Metrics,
    /// `/metrics/cadvisor`.
    MetricsCadvisor,
    /// `/metrics/resource`.
    MetricsResource,
    /// `/metrics/probes`.
    MetricsProbes,
    /// `/metrics/slis`.
    MetricsSlis,
    /// `/stats/summary`.
    StatsSummary,
    /// `/containerLogs/{namespace}/{pod}/{container}`.
    ContainerLogs(ContainerRef),
    /// `/exec/{namespace}/{pod}[/{uid}]/{container}`.
    Exec(ContainerRef),
    /// `/attach/{namespace}/{pod}[/{uid}]/{container}`.
    Attach(ContainerRef),
    /// `/portForward/{namespace}/{pod}[/{uid}]`.
    PortForward(PodRef),
    /// `/run/{namespace}/{pod}[/{uid}]/{container}`.
    Run(ContainerRef),
    /// `/logs/{path}`; the path as it came, decoded, without the prefix. It may hold `..`.
    Logs(String),
    /// `/checkpoint/{namespace}/{pod}/{container}`.
    Checkpoint(ContainerRef),
    /// `/configz`.
    Configz,
    /// `/flagz`.
    Flagz,
    /// `/statusz`.
    Statusz,
    /// `/debug/pprof/{name}`.
    Pprof(String),
    /// `/debug/flags/v`.
    DebugFlags,
}

/// Why a registered path has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nothing at this path: 404.
    Path,
    /// Not with this method: 405; these are.
    Method(&'static str),
    /// Not in a format that the client accepts: 406; these are.
    Accept(&'static str),
    /// Switched off by the configuration: 405 with this text.
    Disabled(&'static str),
}

/// What is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surface {
    /// `enableDebuggingHandlers`; off on the read-only port.
    pub debugging: bool,
    /// `enableSystemLogHandler`.
    pub system_log: bool,
    /// `enableProfilingHandler`.
    pub profiling: bool,
    /// `enableDebugFlagsHandler`.
    pub debug_flags: bool,
    /// The feature gate ContainerCheckpoint.
    pub checkpoint: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// No such path; nobody is asked who he is.
    Unknown,
    /// The path is not an escaped path at all: 400.
    Malformed,
    /// The same, properly spelt: 307 to this path, with the query that came.
    Redirect(String),
    /// A part of the API.
    Found {
        /// Decides what the caller must be allowed.
        area: Area,
        /// What is asked for there.
        route: Result<Route, Miss>,
    },
}

/// The method, path (still escaped) and `Accept` header (empty: none) of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `GET`.
    pub method: &'a str,
    /// `/pods`.
    pub path: &'a str,
    /// `application/json, */*`.
    pub accept: &'a str,
}

impl Surface {
    /// The read-only port: what needs no rights, and a hint in place of the rest.
    pub const READ_ONLY: Self = Self {
        debugging: false,
        system_log: false,
        profiling: false,
        debug_flags: false,
        checkpoint: false,
    };
}

/// Finds out what a request asks for.
#[must_use]
pub fn resolve(head: Head<'_>, surface: Surface) -> Resolution {
    if !escapes_are_sound(head.path) {
        return Resolution::Malformed;
    }
    let clean = cleaned(head.path);
    let decoded = percent_decode_str(&clean).decode_utf8_lossy().into_owned();
    let Some(area) = registered(&decoded, surface) else {
        let slashed = format!("{clean}/");
        let redirected = registered(&format!("{decoded}/"), surface).is_some();
        return match (redirected, clean == head.path) {
            (true, _) => Resolution::Redirect(slashed),
            (false, true) => Resolution::Unknown,
            (false, false) => Resolution::Redirect(clean),
        };
    };
    if clean != head.path {
        return Resolution::Redirect(clean);
    }
    let route = switched_on(area, surface).and_then(|()| below(area, &decoded, head));
    Resolution::Found { area, route }
}

/// Prefixes with everything below them, with and without the slash at the end.
const SUBTREES: &[(&str, Area)] = &[
    ("/pods", Area::Pods),
    ("/containerLogs", Area::ContainerLogs),
    ("/exec", Area::Exec),
    ("/attach", Area::Attach),
    ("/portForward", Area::PortForward),
    ("/run", Area::Run),
];

/// Prefixes that end in a slash; without it they are redirected.
const SLASHED: &[(&str, Area)] = &[
    ("/runningpods/", Area::RunningPods),
    ("/stats/", Area::Stats),
    ("/logs/", Area::Logs),
    ("/checkpoint/", Area::Checkpoint),
    ("/debug/pprof/", Area::Pprof),
];

/// Paths with nothing below them.
const EXACT: &[(&str, Area)] = &[
    ("/healthz", Area::Healthz),
    ("/healthz/ping", Area::Healthz),
    ("/healthz/log", Area::Healthz),
    ("/healthz/syncloop", Area::Healthz),
    ("/metrics", Area::Metrics),
    ("/metrics/cadvisor", Area::Metrics),
    ("/metrics/resource", Area::Metrics),
    ("/metrics/probes", Area::Metrics),
    ("/metrics/slis", Area::Metrics),
    ("/configz", Area::Configz),
    ("/flagz", Area::Flagz),
    ("/statusz", Area::Statusz),
    ("/debug/flags/v", Area::DebugFlags),
];

/// The area in which a path lies.
fn registered(path: &str, surface: Surface) -> Option<Area> {
    let exact = EXACT.iter().find(|(known, _)| *known == path);
    let subtree = || {
        SUBTREES
            .iter()
            .find(|(prefix, _)| match path.strip_prefix(prefix) {
                // With debugging off only the prefix with its slash is registered.
                Some("") => surface.debugging || *prefix == "/pods",
                Some(rest) => rest.starts_with('/'),
                None => false,
            })
    };
    let slashed = || SLASHED.iter().find(|(prefix, _)| path.starts_with(prefix));
    let area = exact.or_else(subtree).or_else(slashed).map(|(_, area)| *area)?;
    is_installed(area, surface).then_some(area)
}

fn is_installed(area: Area, surface: Surface) -> bool {
    match area {
        Area::Checkpoint => surface.debugging && surface.checkpoint,
        Area::Configz | Area::Flagz | Area::Statusz | Area::DebugFlags => surface.debugging,
        Area::Healthz
        | Area::Pods
        | Area::RunningPods
        | Area::Metrics
        | Area::Stats
        | Area::ContainerLogs
        | Area::Exec
        | Area::Attach
        | Area::PortForward
        | Area::Run
        | Area::Logs
        | Area::Pprof => true,
    }
}

fn switched_on(area: Area, surface: Surface) -> Result<(), Miss> {
    let off = match area {
        Area::Healthz | Area::Pods | Area::Metrics | Area::Stats => None,
        _ if !surface.debugging => Some("Debug endpoints are disabled."),
        Area::Logs if !surface.system_log => Some("logs endpoint is disabled."),
        Area::Pprof if !surface.profiling => Some("profiling endpoint is disabled."),
        Area::DebugFlags if !surface.debug_flags => Some("flags endpoint is disabled."),
        Area::Logs
        | Area::Pprof
        | Area::DebugFlags
        | Area::RunningPods
        | Area::ContainerLogs
        | Area::Exec
        | Area::Attach
        | Area::PortForward
        | Area::Run
        | Area::Checkpoint
        | Area::Configz
        | Area::Flagz
        | Area::Statusz => None,
    };
    off.map_or(Ok(()), |text| Err(Miss::Disabled(text)))
}

/// The route of a path in its area.
fn below(area: Area, path: &str, head: Head<'_>) -> Result<Route, Miss> {
    let tokens: Vec<&str> = path.trim_matches('/').split('/').collect();
    let rest = &tokens[1..];
    let json = "application/json";
    match area {
        Area::Healthz => Ok(Route::Healthz(match rest {
            ["ping"] => HealthCheck::Ping,
            ["log"] => HealthCheck::Log,
            ["syncloop"] => HealthCheck::SyncLoop,
            _ => HealthCheck::All,
        })),
        Area::Metrics => Ok(match rest {
            ["cadvisor"] => Route::MetricsCadvisor,
            ["resource"] => Route::MetricsResource,
            ["probes"] => Route::MetricsProbes,
            ["slis"] => Route::MetricsSlis,
            _ => Route::Metrics,
        }),
        Area::Configz => Ok(Route::Configz),
        Area::Flagz => Ok(Route::Flagz),
        Area::Statusz => Ok(Route::Statusz),
        Area::DebugFlags => Ok(Route::DebugFlags),
        Area::Pods => routed(rest.is_empty().then_some(Route::Pods), "GET", json, head),
        Area::RunningPods => routed(rest.is_empty().then_some(Route::RunningPods), "GET", json, head),
        Area::Stats => routed(
            (rest == ["summary"]).then_some(Route::StatsSummary),
            "GET, POST",
            json,
            head,
        ),
        Area::ContainerLogs => routed(short(rest).map(Route::ContainerLogs), "GET", "", head),
        Area::Exec => routed(container(rest).map(Route::Exec), "GET, POST", "", head),
        Area::Attach => routed(container(rest).map(Route::Attach), "GET, POST", "", head),
        Area::PortForward => routed(pod(rest).map(Route::PortForward), "GET, POST", "", head),
        Area::Run => routed(container(rest).map(Route::Run), "POST", "", head),
        Area::Checkpoint => routed(short(rest).map(Route::Checkpoint), "POST", json, head),
        Area::Logs => {
            let file = path.strip_prefix("/logs/").unwrap_or_default();
            routed(Some(Route::Logs(file.to_owned())), "GET", "", head)
        }
        Area::Pprof => {
            let name = path.strip_prefix("/debug/pprof/").unwrap_or_default();
            // The index itself has no route in the reference: `{subpath:*}` wants a segment.
            let route = (!name.is_empty()).then(|| Route::Pprof(name.to_owned()));
            routed(route, "GET", "", head)
        }
    }
}

/// A route with its methods (separated by `, `) and formats (empty: none is declared).
fn routed(
    route: Option<Route>,
    methods: &'static str,
    formats: &'static str,
    head: Head<'_>,
) -> Result<Route, Miss> {
    let route = route.ok_or(Miss::Path)?;
    if !methods.split(", ").any(|method| method == head.method) {
        return Err(Miss::Method(methods));
    }
    let mut accepted = head
        .accept
        .split(',')
        .map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let fits = |kind: &str| kind == "*/*" || (!formats.is_empty() && kind == formats);
    if head.accept.is_empty() || accepted.any(fits) {
        Ok(route)
    } else {
        Err(Miss::Accept(formats))
    }
}

fn pod(rest: &[&str]) -> Option<PodRef> {
    let (namespace, name, uid) = match rest {
        [namespace, name] => (namespace, name, None),
        [namespace, name, uid] => (namespace, name, Some((*uid).to_owned())),
        _ => return None,
    };
    Some(PodRef {
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
        uid,
    })
}

/// `namespace/pod/container`, or with the pod's UID before the container.
fn container(rest: &[&str]) -> Option<ContainerRef> {
    let (container, before) = rest.split_last()?;
    Some(ContainerRef {
        pod: pod(before)?,
        container: (*container).to_owned(),
    })
}

/// `namespace/pod/container` and nothing else.
fn short(rest: &[&str]) -> Option<ContainerRef> {
    container(rest).filter(|found| found.pod.uid.is_none())
}

#[cfg(test)]
mod tests;
