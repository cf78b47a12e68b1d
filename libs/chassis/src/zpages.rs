//! `/flagz` and `/statusz` (KEP-4828, KEP-4827): the command line, and what process this is. Text for people, or an
//! object of `config.k8s.io` for those who name it in their `Accept` header.

mod accept;

use std::collections::BTreeMap;

use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderName},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use self::accept::{Format, format};
use crate::http::{Answer, json as json_answer, text};

const WARNING: HeaderName = HeaderName::from_static("warning");

/// Whose pages they are.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The name of the program that this one stands in for: `kubelet`.
    pub name: &'static str,
    /// Its version: `v1.36.3`.
    pub version: &'static str,
    /// What `/statusz` lists: the first segments of paths that are pages and not for debugging.
    pub paths: &'static [&'static str],
}

impl Program {
    /// `/flagz`: every flag with its value.
    #[must_use]
    pub fn flags(&self, flags: &BTreeMap<String, String>, headers: &HeaderMap) -> Answer {
        match wanted(headers, "Flagz") {
            None => not_acceptable(),
            Some(Format::Text) => {
                let lines = flags.iter().map(|(name, value)| format!("{name}={value}\n"));
                text(StatusCode::OK, self.heading("flagz") + &lines.collect::<String>())
            }
            Some(format @ (Format::Json(version) | Format::Yaml(version))) => {
                self.object((format, version), "Flagz", json!({"flags": flags}))
            }
        }
    }

    /// `/statusz`.
    #[must_use]
    pub fn status(&self, headers: &HeaderMap) -> Answer {
        let Some(started) = process_start() else {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "cannot tell when this process started",
            );
        };
        let up = Timestamp::now().duration_since(started).max(SignedDuration::ZERO);
        let binary = self.version.trim_start_matches('v');
        let emulated = binary.rsplit_once('.').map_or(binary, |(minor, _)| minor);
        match wanted(headers, "Statusz") {
            None => not_acceptable(),
            Some(Format::Text) => text(
                StatusCode::OK,
                self.heading("statusz") + &self.status_text(started, up, (binary, emulated)),
            ),
            Some(format @ (Format::Json(version) | Format::Yaml(version))) => {
                let fields = json!({
                    "startTime": started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                    "uptimeSeconds": up.as_secs(),
                    "goVersion": "",
                    "binaryVersion": binary,
                    "emulationVersion": emulated,
                    "paths": self.paths,
                });
                self.object((format, version), "Statusz", fields)
            }
        }
    }

    fn status_text(
        &self,
        started: Timestamp,
        up: SignedDuration,
        (binary, emulated): (&str, &str),
    ) -> String {
        let secs = up.as_secs();
        let started = started
            .to_zoned(TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S UTC %Y");
        format!(
            "\nStarted: {started}\nUp: {} hr {:02} min {:02} sec\nGo version: none\nBinary version: {binary}\nEmulation version: {emulated}\nPaths: {}\n",
            secs / 3600,
            secs / 60 % 60,
            secs % 60,
            self.paths.join(" "),
        )
    }

    fn heading(&self, page: &str) -> String {
        let name = self.name;
        format!(
            "\n{name} {page}\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"
        )
    }

    fn object(&self, (format, version): (Format, &str), kind: &str, fields: Value) -> Answer {
        let mut object = json!({
            "kind": kind,
            "apiVersion": format!("config.k8s.io/{version}"),
            "metadata": {"name": self.name},
        });
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
            object.extend(fields);
        }
        let (media, body) = match format {
            Format::Yaml(_) => ("yaml", serde_saphyr::to_string(&object).unwrap_or_default()),
            Format::Text | Format::Json(_) => ("json", object.to_string()),
        };
        let mut answer = json_answer(StatusCode::OK, body);
        let named = format!("application/{media};g=config.k8s.io;v={version};as={kind}");
        if let Ok(named) = named.try_into() {
            answer.headers_mut().insert(CONTENT_TYPE, named);
        }
        if version == "v1alpha1" {
            let text = format!(
                "299 - \"This version of the {} endpoint is deprecated. Please use a newer version.\"",
                kind.to_lowercase()
            );
            if let Ok(text) = text.try_into() {
                answer.headers_mut().insert(WARNING, text);
            }
        }
        answer
    }
}

fn wanted(headers: &HeaderMap, kind: &str) -> Option<Format> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    format(accept.unwrap_or_default(), kind)
}

fn not_acceptable() -> Answer {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "only the following media types are accepted: application/json, application/yaml, text/plain",
        "reason": "NotAcceptable",
        "code": 406,
    });
    json_answer(StatusCode::NOT_ACCEPTABLE, status.to_string())
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
    use http_body_util::BodyExt as _;
    use hyper::header::HeaderValue;

    use super::*;

    const KUBELET: Program = Program {
        name: "kubelet",
        version: "v1.36.3",
        paths: &["/configz", "/healthz", "/metrics"],
    };

    async fn content(answer: Answer) -> String {
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    fn accept(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))])
    }

    #[tokio::test]
    async fn status_is_text_or_an_object() {
        let text = content(KUBELET.status(&HeaderMap::new())).await;
        assert!(text.starts_with("\nkubelet statusz\nWarning: "), "{text}");
        assert!(
            text.contains("\nBinary version: 1.36.3\nEmulation version: 1.36\n"),
            "{text}"
        );
        let named = accept("application/json;g=config.k8s.io;v=v1beta1;as=Statusz");
        let object: Value = serde_json::from_str(&content(KUBELET.status(&named)).await).expect("JSON");
        assert_eq!(
            (&object["kind"], &object["binaryVersion"]),
            (&json!("Statusz"), &json!("1.36.3"))
        );
        assert_eq!(object["apiVersion"], "config.k8s.io/v1beta1");
        let yaml =
            content(KUBELET.status(&accept("application/yaml;g=config.k8s.io;v=v1beta1;as=Statusz"))).await;
        let read: Value = serde_saphyr::from_str(&yaml).expect("YAML");
        assert_eq!(
            (&read["kind"], &read["paths"]),
            (&object["kind"], &object["paths"])
        );
        let refused = KUBELET.status(&accept("application/json"));
        assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE);
    }

    #[tokio::test]
    async fn flags_are_lines() {
        let flags = BTreeMap::from([("v".to_owned(), "2".to_owned())]);
        let text = content(KUBELET.flags(&flags, &HeaderMap::new())).await;
        assert!(text.ends_with("purposes only.\nv=2\n"), "{text}");
        let deprecated = accept("application/json;g=config.k8s.io;v=v1alpha1;as=Flagz");
        assert!(KUBELET.flags(&flags, &deprecated).headers().contains_key(WARNING));
    }

    #[test]
    fn this_process_started_a_while_ago() {
        let age = Timestamp::now().duration_since(process_start().expect("a time"));
        assert!(
            age > SignedDuration::from_secs(-5) && age < SignedDuration::from_hours(24 * 365),
            "{age}"
        );
    }
}
