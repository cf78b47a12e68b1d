//! Registry credentials: of the pod's pull secrets and of the node's docker configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::runtime::PullAuth;

/// Where Docker Hub's credentials are filed, `https://index.docker.io/v1/` in most files.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// `config.json`, `.dockerconfigjson`.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

/// Credentials in the order in which they are tried: the pod's, then the node's.
pub(super) struct Keyring {
    /// Each group by key, the longest first.
    groups: Vec<Vec<(String, PullAuth)>>,
}

impl Keyring {
    /// What cannot be read or parsed is left out, with a line in the log that names its place.
    pub(super) fn new(secrets: &[Arc<Secret>], dirs: &[PathBuf]) -> Self {
        let of_pod = secrets.iter().flat_map(|secret| secret_entries(secret)).collect();
        let of_node = dirs.iter().find_map(|dir| dir_entries(dir)).unwrap_or_default();
        let sorted = |entries: Vec<(String, Entry)>| {
            let mut keys: Vec<_> = entries
                .into_iter()
                .filter_map(|(key, e)| usable(&key, e))
                .collect();
            keys.sort_by(|a, b| b.0.cmp(&a.0));
            keys
        };
        Self {
            groups: vec![sorted(of_pod), sorted(of_node)],
        }
    }

    /// Credentials for a full repository name (`docker.io/library/busybox`).
    pub(super) fn lookup(&self, repository: &str) -> Vec<PullAuth> {
        let mut found: Vec<PullAuth> = Vec::new();
        for group in &self.groups {
            let matching = group.iter().filter(|(key, _)| matches(key, repository));
            let default = group.iter().filter(|(key, _)| {
                let host = key.split('/').next();
                host == Some(DEFAULT_REGISTRY) && repository.starts_with("docker.io/")
            });
            for (_, auth) in matching.chain(default) {
                if !found.contains(auth) {
                    found.push(auth.clone());
                }
            }
        }
        found
    }
}

fn secret_entries(secret: &Secret) -> Vec<(String, Entry)> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|value| value.0.as_slice())
    };
    let parsed = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson").map(|json| serde_json::from_slice::<Document>(json).map(|d| d.auths))
        }
        Some("kubernetes.io/dockercfg") => {
            data(".dockercfg").map(serde_json::from_slice::<BTreeMap<String, Entry>>)
        }
        _ => None,
    };
    match parsed {
        Some(Ok(entries)) => entries.into_iter().collect(),
        Some(Err(_)) => {
            // The error may quote the secret, so it is not printed.
            tracing::warn!(
                secret = secret.metadata.name,
                "pull secret is no docker configuration; ignoring it"
            );
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn dir_entries(dir: &Path) -> Option<Vec<(String, Entry)>> {
    let read = |name: &str| fs::read(dir.join(name)).ok();
    let parsed = match read("config.json") {
        Some(json) => serde_json::from_slice::<Document>(&json).map(|d| d.auths),
        None => serde_json::from_slice::<BTreeMap<String, Entry>>(&read(".dockercfg")?),
    };
    if parsed.is_err() {
        tracing::warn!(dir = %dir.display(), "registry credentials are no docker configuration; ignoring them");
    }
    parsed.ok().map(|entries| entries.into_iter().collect())
}

/// The key in the form that is matched, and the user and password behind `auth`.
fn usable(key: &str, entry: Entry) -> Option<(String, PullAuth)> {
    let (mut username, mut password) = (entry.username, entry.password);
    if !entry.auth.is_empty() {
        let text = entry.auth.trim();
        let bytes = STANDARD
            .decode(text)
            .or_else(|_| STANDARD_NO_PAD.decode(text))
            .ok()?;
        let decoded = String::from_utf8(bytes).ok()?;
        let (user, pass) = decoded.split_once(':')?;
        // Docker pads with zero bytes.
        (username, password) = (user.to_owned(), pass.trim_end_matches('\0').to_owned());
    }
    let without_scheme = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = without_scheme.split_once('/').unwrap_or((without_scheme, ""));
    let path = format!("/{path}");
    let path = path
        .strip_prefix("/v2/")
        .or_else(|| path.strip_prefix("/v1/"))
        .unwrap_or(&path[1..]);
    let key = if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    };
    Some((
        key,
        PullAuth {
            username,
            password,
            ..PullAuth::default()
        },
    ))
}

/// `*.example.com:443/team` against `eu.example.com:443/team/app`: host labels may be globs, ports must be equal, the
/// path is a prefix.
fn matches(key: &str, repository: &str) -> bool {
    let split = |text: &str| -> (String, String, String) {
        let (authority, path) = text.split_once('/').unwrap_or((text, ""));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let ((host, port, path), (of_host, of_port, of_path)) = (split(key), split(repository));
    let labels: Vec<&str> = host.split('.').collect();
    let of_labels: Vec<&str> = of_host.split('.').collect();
    port == of_port
        && of_path.starts_with(&path)
        && labels.len() == of_labels.len()
        && labels
            .iter()
            .zip(of_labels)
            .all(|(glob, label)| glob_matches(glob, label))
}

/// `*` for any number of characters, `?` for one. Only the last star is ever tried again, so that no pattern (they
/// come from users' secrets) costs more than the product of the lengths.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(b'?') => (g, t) = (g + 1, t + 1),
            Some(byte) if *byte == text[t] => (g, t) = (g + 1, t + 1),
            Some(_) | None => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (g, t) = (at + 1, taken + 1);
            }
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(kind: &str, key: &str, json: &str) -> Arc<Secret> {
        let data = [(key.to_owned(), ByteString(json.as_bytes().to_vec()))];
        Arc::new(Secret {
            type_: Some(kind.to_owned()),
            data: Some(data.into()),
            ..Secret::default()
        })
    }

    fn users(keyring: &Keyring, repository: &str) -> Vec<String> {
        keyring
            .lookup(repository)
            .into_iter()
            .map(|auth| format!("{}:{}", auth.username, auth.password))
            .collect()
    }

    #[test]
    fn secrets_come_before_the_nodes_own() {
        let dir = tempfile::tempdir().unwrap();
        let node = format!(
            r#"{{"auths":{{"r.example.com":{{"auth":"{}"}}}}}}"#,
            STANDARD.encode("node:pw")
        );
        fs::write(dir.path().join("config.json"), node).unwrap();
        let of_pod = r#"{"auths":{"r.example.com":{"username":"pod","password":"pw"},"r.example.com/team":{"username":"team","password":"pw"}}}"#;
        let secrets = [secret(
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            of_pod,
        )];
        let keyring = Keyring::new(&secrets, &[dir.path().to_owned()]);
        assert_eq!(
            users(&keyring, "r.example.com/team/app"),
            ["team:pw", "pod:pw", "node:pw"]
        );
        assert_eq!(users(&keyring, "r.example.com/other"), ["pod:pw", "node:pw"]);
        assert_eq!(users(&keyring, "r.example.org/team"), Vec::<String>::new());
    }

    #[test]
    fn docker_hub_and_old_files() {
        let hub = r#"{"https://index.docker.io/v1/":{"username":"hub","password":"pw"}}"#;
        let keyring = Keyring::new(&[secret("kubernetes.io/dockercfg", ".dockercfg", hub)], &[]);
        assert_eq!(users(&keyring, "docker.io/library/busybox"), ["hub:pw"]);
        assert_eq!(users(&keyring, "quay.io/a"), Vec::<String>::new());
    }

    #[test]
    fn globs_ports_and_paths() {
        for (key, repository, wanted) in [
            ("*.example.com", "eu.example.com/a", true),
            ("*.example.com", "a.b.example.com/a", false),
            ("ex*le.com", "example.com/a", true),
            ("example.com:443", "example.com/a", false),
            ("example.com:443/a", "example.com:443/a/b", true),
            ("example.com/b", "example.com/a", false),
        ] {
            assert_eq!(matches(key, repository), wanted, "{key} {repository}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_no_trouble() {
        assert!(!glob_matches(
            &"*a".repeat(500),
            &format!("{}b", "a".repeat(5000))
        ));
        assert!(glob_matches("*a*?c*", "xaabbc"));
        assert!(!glob_matches("a?", "a"));
    }

    #[test]
    fn rubbish_is_left_out() {
        let bad = [
            secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "no json"),
            secret(
                "kubernetes.io/dockercfg",
                ".dockercfg",
                r#"{"a.b":{"auth":"%%%"}}"#,
            ),
            secret("Opaque", "x", "{}"),
        ];
        assert!(users(&Keyring::new(&bad, &[PathBuf::from("/nowhere")]), "a.b/c").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_secret_and_repository_have_an_answer(
            json in "\\{\"auths\": \\{\"[a-z.*:/]{0,12}\": \\{\"auth\": \"[a-zA-Z0-9+/=]{0,12}\"\\}\\}\\}|.{0,40}",
            repository in "[a-z.*:/]{0,20}|.{0,20}",
        ) {
            let secret = secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &json);
            let _ = Keyring::new(&[secret], &[]).lookup(&repository);
        }
    }
}
