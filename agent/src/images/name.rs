//! Image names: `[host[:port]/]path[:tag][@digest]`, as the distribution project defines them.

use thiserror::Error;

/// The name cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("couldn't parse image name {name:?}: {why}")]
pub(super) struct NameError {
    name: String,
    why: String,
}

/// The longest path, without tag and digest.
const MAX_PATH: usize = 255;

struct Parts<'n> {
    /// With the host.
    path: &'n str,
    tag: Option<&'n str>,
    digest: Option<&'n str>,
}

/// The name, with `:latest` when it has neither tag nor digest.
pub(super) fn with_default_tag(name: &str) -> Result<String, NameError> {
    let error = |why: String| NameError {
        name: name.to_owned(),
        why,
    };
    let parts = split(name);
    let hex = name.len() == 64
        && name
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex {
        return Err(error(format!(
            "invalid repository name ({name}), cannot specify 64-byte hexadecimal strings"
        )));
    }
    let (host, path) = split_host(parts.path);
    if path.bytes().any(|b| b.is_ascii_uppercase()) && is_path(&path.to_ascii_lowercase()) {
        let path = if host.is_none() && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        return Err(error(format!(
            "invalid reference format: repository name ({path}) must be lowercase"
        )));
    }
    let valid = host.is_none_or(is_host)
        && is_path(path)
        && parts.tag.is_none_or(is_tag)
        && parts.digest.is_none_or(is_digest);
    if !valid {
        return Err(error("invalid reference format".to_owned()));
    }
    if path.len() > MAX_PATH {
        return Err(error(format!(
            "repository name must not be more than {MAX_PATH} characters"
        )));
    }
    match (parts.tag, parts.digest) {
        (None, None) => Ok(format!("{name}:latest")),
        (Some(_), _) | (None, Some(_)) => Ok(name.to_owned()),
    }
}

/// The full repository, `docker.io/library/busybox`, which credentials are looked up by.
pub(super) fn repository(name: &str) -> String {
    let path = split(name).path;
    match split_host(path) {
        (Some("index.docker.io"), path) => format!("docker.io/{path}"),
        (Some(_), _) => path.to_owned(),
        (None, path) if path.contains('/') => format!("docker.io/{path}"),
        (None, path) => format!("docker.io/library/{path}"),
    }
}

fn split(name: &str) -> Parts<'_> {
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    // A colon before the last slash belongs to the host's port.
    match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => Parts {
            path,
            tag: Some(tag),
            digest,
        },
        _ => Parts {
            path: rest,
            tag: None,
            digest,
        },
    }
}

/// The first element is a host when it looks like one.
fn split_host(path: &str) -> (Option<&str>, &str) {
    match path.split_once('/') {
        Some((host, rest))
            if host.contains(['.', ':'])
                || host == "localhost"
                || host.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(host), rest)
        }
        _ => (None, path),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || is_port(port.strip_prefix(':')));
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(label) && (port.is_none() || is_port(port))
}

fn is_port(port: Option<&str>) -> bool {
    port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = component.starts_with(alphanumeric) && component.ends_with(alphanumeric);
    let separators = component.split(alphanumeric).filter(|part| !part.is_empty());
    let joined =
        |separator: &str| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
    ends && separators.into_iter().all(joined)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    let hexadecimal = hex
        .bytes()
        .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    let long = match algorithm {
        "sha256" => hex.len() == 64,
        "sha512" => hex.len() == 128,
        "sha384" => hex.len() == 96,
        _ => hex.len() >= 32,
    };
    algorithm.split(['+', '.', '-', '_']).all(word) && hexadecimal && long
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_name_or_not(name in "[a-zA-Z0-9._:/@-]{0,40}|.{0,20}") {
            let _ = repository(&name);
            if let Ok(tagged) = with_default_tag(&name) {
                prop_assert_eq!(with_default_tag(&tagged), Ok(tagged.clone()));
            }
        }
    }

    #[test]
    fn names_get_a_tag() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        for (name, wanted) in [
            ("busybox", "busybox:latest"),
            ("busybox:1.36", "busybox:1.36"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b"),
            (digest.as_str(), digest.as_str()),
            ("x/a__b.c-d--e", "x/a__b.c-d--e:latest"),
        ] {
            assert_eq!(with_default_tag(name).unwrap(), wanted, "{name}");
        }
    }

    #[test]
    fn invalid_names() {
        let hex = "a".repeat(64);
        for name in [
            "",
            " ",
            "a b",
            "a:",
            "a:b:c",
            "/a",
            "a/",
            "a//b",
            "-a",
            "a..b",
            "a@sha256:12",
            "a_-b",
            &hex,
        ] {
            assert!(with_default_tag(name).is_err(), "{name:?}");
        }
        assert_eq!(
            with_default_tag("Busybox").unwrap_err().to_string(),
            "couldn't parse image name \"Busybox\": invalid reference format: repository name (library/Busybox) must be \
             lowercase"
        );
    }

    #[test]
    fn repositories() {
        assert_eq!(repository("busybox:latest"), "docker.io/library/busybox");
        assert_eq!(repository("a/b:1"), "docker.io/a/b");
        assert_eq!(repository("quay.io:443/a/b:1@sha256:x"), "quay.io:443/a/b");
    }
}
