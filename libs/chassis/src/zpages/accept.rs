//! The format of `/flagz` and `/statusz`: text for people, or a versioned object for those who ask for it by name.

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `text/plain`.
    Text,
    /// `application/json;g=config.k8s.io;v=v1beta1;as=<kind>`; the version.
    Json(&'static str),
    /// `application/yaml` with the same parameters.
    Yaml(&'static str),
}

const GROUP: &str = "config.k8s.io";
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// The first of an `Accept` header's formats that there is; `None`: none of them.
pub(super) fn format(accept: &str, kind: &str) -> Option<Format> {
    if accept.trim().is_empty() {
        return Some(Format::Text);
    }
    accept.split(',').find_map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            parameters
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value)
        };
        let named = parameter("as").is_some();
        match media {
            "text/plain" | "text/*" | "*/*" if !named => Some(Format::Text),
            "application/json" | "application/yaml" | "application/*" | "*/*" => {
                let wanted = parameter("g") == Some(GROUP) && parameter("as") == Some(kind);
                let version = VERSIONS
                    .into_iter()
                    .find(|version| parameter("v") == Some(version));
                let format = if media == "application/yaml" {
                    Format::Yaml
                } else {
                    Format::Json
                };
                version.filter(|_| wanted).map(format)
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_unless_the_object_is_named() {
        let flagz = |accept| format(accept, "Flagz");
        assert_eq!(flagz(""), Some(Format::Text));
        assert_eq!(flagz("application/json, */*"), Some(Format::Text));
        assert_eq!(flagz("text/plain;q=0.9"), Some(Format::Text));
        let named = "application/json;g=config.k8s.io;v=v1beta1;as=Flagz";
        assert_eq!(flagz(named), Some(Format::Json("v1beta1")));
        assert_eq!(
            format(&named.replace("json", "yaml"), "Flagz"),
            Some(Format::Yaml("v1beta1"))
        );
        assert_eq!(format(&named.replace("json", "cbor"), "Flagz"), None);
        assert_eq!(format(named, "Statusz"), None);
        assert_eq!(flagz("application/json"), None);
        assert_eq!(flagz("application/vnd.kubernetes.protobuf"), None);
    }

    proptest! {
        #[test]
        fn never_panics(accept in ".{0,60}") {
            let _ = format(&accept, "Flagz");
        }
    }
}
