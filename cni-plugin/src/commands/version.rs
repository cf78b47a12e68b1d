//! VERSION: which versions are spoken.

use serde_json::{Value, json};

use crate::version::Version;

/// The version object. `stdin` may name the caller's version, which is then repeated.
pub(crate) fn run(stdin: &[u8]) -> String {
    let asked: Option<Value> = serde_json::from_slice(stdin).ok();
    let asked = asked
        .as_ref()
        .and_then(|object| object.get("cniVersion")?.as_str());
    let newest = Version::V1_1_0.as_str();
    let supported = Version::ALL.map(Version::as_str);
    json!({ "cniVersion": asked.unwrap_or(newest), "supportedVersions": supported }).to_string()
}
