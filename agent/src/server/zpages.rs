//! `/flagz` and `/statusz` (KEP-4828, KEP-4827): the command line, and what process this is. Text for people, or an
//! object of `config.k8s.io` for those who name it in their `Accept` header.

use std::collections::BTreeMap;

use gantry_agent_core::api::accept::{Format, format};
use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT, HeaderName},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{Answer, Api, Refusal, answer};
use crate::cli::VERSION;

const NAME: &str = "kubelet";
/// What the reference lists: the first segments of paths that are pages and not for debugging.
const PATHS: [&str; 3] = ["/configz", "/healthz", "/metrics"];
const WARNING: HeaderName = HeaderName::from_static("warning");

/// `/flagz`.
pub(super) fn flags(api: &Api, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let flags: &BTreeMap<String, String> = &api.config.flags;
    match wanted(headers, "Flagz")? {
        Format::Text => {
            let lines = flags.iter().map(|(name, value)| format!("{name}={value}\n"));
            Ok(answer::text(heading("flagz") + &lines.collect::<String>()))
        }
        Format::Json(version) => object(version, "Flagz", json!({"flags": flags})),
    }
}

/// `/statusz`.
pub(super) fn status(headers: &HeaderMap) -> Result<Answer, Refusal> {
    let started =
        process_start().ok_or_else(|| Refusal::internal("cannot tell when this process started"))?;
    let up = Timestamp::now().duration_since(started).max(SignedDuration::ZERO);
    let binary = VERSION.trim_start_matches('v');
    let emulated = binary.rsplit_once('.').map_or(binary, |(minor, _)| minor);
    match wanted(headers, "Statusz")? {
        Format::Text => Ok(answer::text(
            heading("statusz") + &status_text(started, up, (binary, emulated)),
        )),
        Format::Json(version) => {
            let fields = json!({
                "startTime": started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "uptimeSeconds": up.as_secs(),
                "goVersion": "",
                "binaryVersion": binary,
                "emulationVersion": emulated,
                "paths": PATHS,
            });
            object(version, "Statusz", fields)
        }
    }
}

fn status_text(started: Timestamp, up: SignedDuration, (binary, emulated): (&str, &str)) -> String {
    let secs = up.as_secs();
    let started = started
        .to_zoned(TimeZone::UTC)
        .strftime("%a %b %e %H:%M:%S UTC %Y");
    format!(
        "\nStarted: {started}\nUp: {} hr {:02} min {:02} sec\nGo version: none\nBinary version: {binary}\nEmulation version: {emulated}\nPaths: {}\n",
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
        PATHS.join(" "),
    )
}

fn heading(page: &str) -> String {
    format!(
        "\n{NAME} {page}\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"
    )
}

fn wanted(headers: &HeaderMap, kind: &str) -> Result<Format, Refusal> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    format(accept.unwrap_or_default(), kind).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "only the following media types are accepted: application/json, text/plain",
        )
    })
}

fn object(version: &str, kind: &str, fields: Value) -> Result<Answer, Refusal> {
    let mut object = json!({
        "kind": kind,
        "apiVersion": format!("config.k8s.io/{version}"),
        "metadata": {"name": NAME},
    });
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    let mut answer = answer::json(&object)?;
    if version == "v1alpha1" {
        let text = format!(
            "299 - \"This version of the {} endpoint is deprecated. Please use a newer version.\"",
            kind.to_lowercase()
        );
        if let Ok(text) = text.try_into() {
            answer.headers_mut().insert(WARNING, text);
        }
    }
    Ok(answer)
}

/// When this process was started, by the kernel.
fn process_start() -> Option<Timestamp> {
    let ticks = procfs::process::Process::myself().ok()?.stat().ok()?.starttime;
    let since_boot = ticks / procfs::ticks_per_second().max(1);
    let boot = procfs::boot_time_secs().ok()?;
    Timestamp::from_second(i64::try_from(boot + since_boot).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::server::answer::testing::content;

    fn accept(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))])
    }

    #[tokio::test]
    async fn status_is_text_or_an_object() {
        let text = content(status(&HeaderMap::new()).unwrap()).await;
        assert!(text.starts_with("\nkubelet statusz\nWarning: "), "{text}");
        assert!(
            text.contains("\nBinary version: 1.36.3\nEmulation version: 1.36\n"),
            "{text}"
        );
        let named = accept("application/json;g=config.k8s.io;v=v1beta1;as=Statusz");
        let object: Value = serde_json::from_str(&content(status(&named).unwrap()).await).unwrap();
        assert_eq!(
            (&object["kind"], &object["binaryVersion"]),
            (&json!("Statusz"), &json!("1.36.3"))
        );
        assert_eq!(object["apiVersion"], "config.k8s.io/v1beta1");
        let refused = status(&accept("application/json")).unwrap_err();
        assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE);
    }

    #[test]
    fn this_process_started_a_while_ago() {
        let age = Timestamp::now().duration_since(process_start().unwrap());
        assert!(
            age > SignedDuration::from_secs(-5) && age < SignedDuration::from_hours(24 * 365),
            "{age}"
        );
    }
}
