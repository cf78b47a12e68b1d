use proptest::prelude::*;

use super::*;

const ALL: Surface = Surface {
    debugging: true,
    system_log: true,
    profiling: true,
    debug_flags: true,
    checkpoint: true,
};

fn ask(method: &str, path: &str, surface: Surface) -> Resolution {
    let head = Head {
        method,
        path,
        accept: "",
    };
    resolve(head, surface)
}

/// The route, or why there is none.
fn get(path: &str) -> Result<Route, Miss> {
    match ask("GET", path, ALL) {
        Resolution::Found { route, .. } => route,
        other => panic!("{path}: {other:?}"),
    }
}

fn of(uid: Option<&str>) -> ContainerRef {
    ContainerRef {
        pod: PodRef {
            namespace: "ns".into(),
            name: "p".into(),
            uid: uid.map(str::to_owned),
        },
        container: "c".into(),
    }
}

#[test]
fn paths_become_routes() {
    assert_eq!(get("/pods"), Ok(Route::Pods));
    assert_eq!(get("/pods/"), Ok(Route::Pods));
    assert_eq!(get("/pods/x"), Err(Miss::Path));
    assert_eq!(get("/runningpods/"), Ok(Route::RunningPods));
    assert_eq!(
        get("/healthz/syncloop"),
        Ok(Route::Healthz(HealthCheck::SyncLoop))
    );
    assert_eq!(get("/metrics/slis"), Ok(Route::MetricsSlis));
    assert_eq!(get("/stats/summary"), Ok(Route::StatsSummary));
    assert_eq!(get("/stats/"), Err(Miss::Path));
    assert_eq!(get("/containerLogs/ns/p/c"), Ok(Route::ContainerLogs(of(None))));
    assert_eq!(get("/containerLogs/ns/p/u/c"), Err(Miss::Path));
    assert_eq!(get("/exec/ns/p/c"), Ok(Route::Exec(of(None))));
    assert_eq!(get("/attach/ns/p/u/c"), Ok(Route::Attach(of(Some("u")))));
    assert_eq!(
        get("/portForward/ns/p/u"),
        Ok(Route::PortForward(of(Some("u")).pod))
    );
    assert_eq!(get("/logs/"), Ok(Route::Logs(String::new())));
    assert_eq!(get("/logs/a/b.log"), Ok(Route::Logs("a/b.log".into())));
    assert_eq!(
        get("/logs/%2e%2e/etc/shadow"),
        Ok(Route::Logs("../etc/shadow".into()))
    );
    assert_eq!(get("/debug/pprof/heap"), Ok(Route::Pprof("heap".into())));
    assert_eq!(get("/exec/ns/p/a%20b"), {
        let mut wanted = of(None);
        wanted.container = "a b".into();
        Ok(Route::Exec(wanted))
    });
    // An escaped slash is a slash: four segments are no log.
    assert_eq!(get("/containerLogs/ns/a%2Fb/c"), Err(Miss::Path));
}

#[test]
fn methods_and_formats_are_refused_after_the_path_is_known() {
    let post = |path| match ask("POST", path, ALL) {
        Resolution::Found { route, .. } => route,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(post("/pods"), Err(Miss::Method("GET")));
    assert_eq!(post("/run/ns/p/c"), Ok(Route::Run(of(None))));
    assert_eq!(post("/checkpoint/ns/p/c"), Ok(Route::Checkpoint(of(None))));
    assert_eq!(post("/metrics"), Ok(Route::Metrics));
    assert_eq!(get("/run/ns/p/c"), Err(Miss::Method("POST")));
    assert_eq!(get("/checkpoint/ns/p/c"), Err(Miss::Method("POST")));
    let accept = |accept: &str| {
        let (method, path) = ("GET", "/pods");
        resolve(Head { method, path, accept }, ALL)
    };
    for (text, found) in [
        ("application/json", true),
        ("text/html, application/json;q=0.5", true),
        ("*/*", true),
        ("text/html", false),
    ] {
        let Resolution::Found { route, .. } = accept(text) else {
            panic!("{text}")
        };
        assert_eq!(route == Ok(Route::Pods), found, "{text}");
    }
}

#[test]
fn other_spellings_are_redirected_and_strange_paths_are_unknown() {
    let redirect = |path: &str| match ask("GET", path, ALL) {
        Resolution::Redirect(to) => to,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(redirect("/logs"), "/logs/");
    assert_eq!(redirect("/runningpods"), "/runningpods/");
    assert_eq!(redirect("//pods"), "/pods");
    assert_eq!(redirect("/x/../pods/./"), "/pods/");
    assert_eq!(redirect("/a//b"), "/a/b");
    for path in [
        "/",
        "/x",
        "/healthz/",
        "/metrics/x",
        "/debug/flags",
        "/podsx",
        "/api",
    ] {
        assert_eq!(ask("GET", path, ALL), Resolution::Unknown, "{path}");
    }
    assert_eq!(ask("GET", "/pods/%zz", ALL), Resolution::Malformed);
}

#[test]
fn what_is_switched_off_says_so() {
    let off = |path: &str, surface| match ask("GET", path, surface) {
        Resolution::Found {
            route: Err(Miss::Disabled(text)),
            ..
        } => text,
        other => panic!("{path}: {other:?}"),
    };
    for path in [
        "/exec/ns/p/c",
        "/run/",
        "/attach/x",
        "/portForward/",
        "/containerLogs/a",
        "/runningpods/",
        "/debug/pprof/heap",
        "/logs/",
    ] {
        assert_eq!(off(path, Surface::READ_ONLY), "Debug endpoints are disabled.");
    }
    for path in [
        "/configz",
        "/flagz",
        "/statusz",
        "/checkpoint/a/b/c",
        "/debug/flags/v",
    ] {
        assert_eq!(
            ask("GET", path, Surface::READ_ONLY),
            Resolution::Unknown,
            "{path}"
        );
    }
    for path in [
        "/pods",
        "/metrics",
        "/metrics/cadvisor",
        "/stats/summary",
        "/healthz",
    ] {
        let found = ask("GET", path, Surface::READ_ONLY);
        assert!(
            matches!(found, Resolution::Found { route: Ok(_), .. }),
            "{path}: {found:?}"
        );
    }
    let surface = Surface {
        system_log: false,
        profiling: false,
        debug_flags: false,
        ..ALL
    };
    assert_eq!(off("/logs/x", surface), "logs endpoint is disabled.");
    assert_eq!(off("/debug/pprof/x", surface), "profiling endpoint is disabled.");
    assert_eq!(off("/debug/flags/v", surface), "flags endpoint is disabled.");
}

#[test]
fn running_something_is_create_whatever_the_method() {
    for area in [Area::Exec, Area::Attach, Area::PortForward, Area::Run] {
        for method in ["GET", "POST", "HEAD"] {
            assert_eq!(
                (area.verb(method), area.subresources()),
                ("create", &["proxy"][..])
            );
        }
    }
    assert_eq!(Area::ContainerLogs.verb("GET"), "get");
    assert_eq!(Area::Pods.verb("OPTIONS"), "");
    assert_eq!(Area::Pods.subresources(), ["pods", "proxy"]);
    assert_eq!(Area::Flagz.subresources(), ["configz"]);
}

proptest! {
    #[test]
    fn arbitrary_paths_never_panic(method in "[A-Z]{0,7}", path in ".{0,60}", accept in ".{0,20}", bits in 0_u8..32) {
        let surface = Surface {
            debugging: bits & 1 != 0,
            system_log: bits & 2 != 0,
            profiling: bits & 4 != 0,
            debug_flags: bits & 8 != 0,
            checkpoint: bits & 16 != 0,
        };
        let _ = resolve(Head { method: &method, path: &path, accept: &accept }, surface);
    }

    /// No spelling of a path reaches an area by the rights of another one.
    #[test]
    fn the_first_segment_decides_the_area(
        path in "(/(pods|exec|logs|metrics|configz|healthz|run|\\.\\.|\\.|%2e%2e|%2F|x|))+",
    ) {
        let head = Head { method: "GET", path: &path, accept: "" };
        if let Resolution::Found { area, .. } = resolve(head, ALL) {
            let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
            let first = percent_decode_str(first).decode_utf8_lossy().into_owned();
            let first = first.trim_matches('/').split('/').next().unwrap_or_default().to_owned();
            let wanted = match area {
                Area::Pods => "pods",
                Area::Exec => "exec",
                Area::Logs => "logs",
                Area::Metrics => "metrics",
                Area::Configz => "configz",
                Area::Healthz => "healthz",
                Area::Run => "run",
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(first, wanted);
        }
    }

    /// A redirect leads to something that is not redirected again.
    #[test]
    fn redirects_end(path in "(/(pods|exec|logs|stats|\\.\\.|\\.|x|))+") {
        let head = Head { method: "GET", path: &path, accept: "" };
        if let Resolution::Redirect(to) = resolve(head, ALL) {
            let again = resolve(Head { path: &to, ..head }, ALL);
            prop_assert!(!matches!(again, Resolution::Redirect(_)), "{} -> {} -> {:?}", path, to, again);
        }
    }
}
