//! The effective configuration as Go writes the API type: durations in full (`1m0s`), fields that are zero and not
//! optional left out, the rest as it was given.

use serde_json::{Map, Value};

use super::{
    Config, Kind,
    document::{API_VERSION, KIND, get, set},
    duration,
    fields::{FIELDS, Field},
};

/// Objects that are there even when nothing is in them.
const GROUPS: [&str; 5] = [
    "authentication.x509",
    "authentication.webhook",
    "authorization.webhook",
    "memorySwap",
    "crashLoopBackOff",
];

impl Config {
    /// KubeletConfiguration with everything that is in effect.
    pub(crate) fn shown(&self) -> Map<String, Value> {
        let mut shown = document(&self.kubelet.document);
        // As the reference, which makes these files and then goes on as if it had been told to use them.
        let own = !self.kubelet.server_tls_bootstrap
            && self.kubelet.tls_cert_file.is_empty()
            && self.kubelet.tls_private_key_file.is_empty();
        if own {
            for (field, file) in [
                ("tlsCertFile", "kubelet.crt"),
                ("tlsPrivateKeyFile", "kubelet.key"),
            ] {
                let path = self.cert_dir.join(file).display().to_string();
                shown.insert(field.to_owned(), Value::from(path));
            }
        }
        shown
    }
}

/// The same of a completed document.
fn document(values: &Map<String, Value>) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("kind".to_owned(), Value::from(KIND));
    shown.insert("apiVersion".to_owned(), Value::from(API_VERSION));
    for group in GROUPS {
        set(&mut shown, group, Value::Object(Map::new()));
    }
    for field in FIELDS {
        if let Some(value) = get(values, field.path).and_then(|value| written(field, value)) {
            set(&mut shown, field.path, value);
        }
    }
    shown
}

/// The value as it is written; `None` when it is left out.
fn written(field: &Field, value: &Value) -> Option<Value> {
    if value.is_null() {
        return None;
    }
    let zero = field.kind.is_zero(value);
    match field.kind {
        Kind::Duration | Kind::DurationOrNanos => {
            let nanos = value.as_str().and_then(|text| duration::parse_nanos(text).ok());
            // A number of nanoseconds stays a number.
            return Some(nanos.map_or_else(|| value.clone(), |nanos| Value::from(duration::format(nanos))));
        }
        Kind::Quantity if zero => return Some(Value::from("0")),
        Kind::StrList | Kind::IntList | Kind::Taints | Kind::Opaque(_) if zero => return None,
        _ => {}
    }
    let kept = match field.path {
        "containerRuntimeEndpoint" | "logging.verbosity" => true,
        // Optional as a whole: absent unless somebody set it.
        "userNamespaces.idsPerPod" => value.as_i64() != Some(65536),
        _ => !(zero && field.zero_is_default),
    };
    kept.then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing;

    /// kubeadm's file on a node of the test bed, and what the reference v1.36.3 made of it.
    const KUBEADM: &str = include_str!("testdata/kubeadm.yaml");
    const CONFIGZ: &str = include_str!("testdata/configz.json");

    #[test]
    fn a_kubeadm_node_shows_what_the_reference_shows() {
        let shown = testing::config(KUBEADM).shown();
        let mut reference: serde_json::Value = serde_json::from_str(CONFIGZ).unwrap();
        // The runtime's answer takes its place in both.
        reference["cgroupDriver"] = json!("systemd");
        let reference = reference.as_object().unwrap();
        let keys = |map: &serde_json::Map<_, _>| map.keys().cloned().collect::<Vec<String>>();
        assert_eq!(keys(&shown), keys(reference));
        for (key, value) in reference {
            assert_eq!(shown[key], *value, "{key}");
        }
    }

    #[test]
    fn what_is_set_is_shown() {
        let shown = testing::config(
            "readOnlyPort: 10255\ntlsMinVersion: VersionTLS13\nenforceNodeAllocatable: []\n\
             serverTLSBootstrap: true\nfeatureGates: {EventedPLEG: false}\nuserNamespaces: {idsPerPod: 131072}\n\
             logging: {flushFrequency: 7000000000, options: {text: {splitStream: true}}}\nclusterDNS: []",
        )
        .shown();
        assert_eq!(shown["readOnlyPort"], 10255);
        assert_eq!(shown["featureGates"], json!({"EventedPLEG": false}));
        assert_eq!(shown["userNamespaces"], json!({"idsPerPod": 131_072}));
        assert_eq!(shown["logging"]["flushFrequency"], 7_000_000_000_i64);
        assert_eq!(
            shown["logging"]["options"]["text"],
            json!({"splitStream": true, "infoBufferSize": "0"})
        );
        for absent in [
            "enforceNodeAllocatable",
            "tlsCertFile",
            "clusterDNS",
            "tracing",
            "registerWithTaints",
        ] {
            assert!(!shown.contains_key(absent), "{absent}");
        }
    }
}
