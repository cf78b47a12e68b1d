use k8s_openapi::ByteString;

use super::*;
use crate::quantity::Quantity;

fn pod() -> Pod {
    serde_json::from_str(
        r#"{"metadata":{"name":"p","namespace":"ns","uid":"u","labels":{"app":"web"},"annotations":{"a/b":"c"}},
            "spec":{"containers":[],"enableServiceLinks":true,"nodeName":"n1","serviceAccountName":"sa"}}"#,
    )
    .unwrap()
}

fn container(json: &str) -> Container {
    serde_json::from_str(&format!(r#"{{"name":"c",{json}}}"#)).unwrap()
}

fn run(container: &Container, sources: &Sources<'_>) -> Result<Vec<(String, String)>, EnvError> {
    let pod = pod();
    let ips = ["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
    let hosts = ["192.168.0.2".parse().unwrap()];
    let allocatable = Amounts::from([
        ("cpu".to_owned(), Quantity::from_milli(3500)),
        ("memory".to_owned(), "7Gi".parse().unwrap()),
    ]);
    let facts = Facts {
        pod: &pod,
        host_ips: &hosts,
        pod_ips: &ips,
        allocatable: &allocatable,
    };
    let variables = environment(container, facts, sources)?;
    Ok(variables
        .into_iter()
        .map(|v| (v.name, String::from_utf8(v.value).unwrap()))
        .collect())
}

fn value(container: &Container, name: &str) -> String {
    let all = run(
        container,
        &Sources {
            services: Some(&[]),
            ..Sources::default()
        },
    )
    .unwrap();
    all.into_iter().find(|(n, _)| n == name).map(|(_, v)| v).unwrap()
}

fn config_map(data: &[(&str, &str)]) -> ConfigMap {
    let data = data
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    ConfigMap {
        data: Some(data),
        ..ConfigMap::default()
    }
}

#[test]
fn later_sources_win_and_expansion_sees_what_came_before() {
    let services = [ServiceLink {
        namespace: "default".into(),
        name: "kubernetes".into(),
        cluster_ip: "10.96.0.1".into(),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: "TCP".into(),
            port: 443,
        }],
    }];
    let map = config_map(&[("A", "map"), ("B", "map")]);
    let secret = Secret {
        data: Some([("B".to_owned(), ByteString(b"secret".to_vec()))].into()),
        ..Secret::default()
    };
    let sources = Sources {
        config_maps: [("m".to_owned(), Lookup::Found(&map))].into(),
        secrets: [("s".to_owned(), Lookup::Found(&secret))].into(),
        services: Some(&services),
    };
    let container = container(
        r#""envFrom":[{"configMapRef":{"name":"m"}},{"secretRef":{"name":"s"}},{"prefix":"P_","configMapRef":{"name":"m"}}],
           "env":[{"name":"A","value":"own $(B) $(KUBERNETES_SERVICE_HOST)"},{"name":"C","value":"$(A) $(D) $$(A)"},
                  {"name":"D","value":"late"},{"name":"KUBERNETES_SERVICE_PORT","value":"1"},{"name":"E"}]"#,
    );
    let all = run(&container, &sources).unwrap();
    let get = |name: &str| all.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(get("A"), Some("own secret 10.96.0.1"));
    assert_eq!(get("C"), Some("own secret 10.96.0.1 $(D) $(A)"));
    assert_eq!(
        (get("P_A"), get("P_B"), get("E")),
        (Some("map"), Some("map"), Some(""))
    );
    assert_eq!(get("KUBERNETES_SERVICE_PORT"), Some("1"));
    assert_eq!(get("KUBERNETES_PORT_443_TCP"), Some("tcp://10.96.0.1:443"));
    let names: std::collections::BTreeSet<_> = all.iter().map(|(n, _)| n).collect();
    assert_eq!(names.len(), all.len(), "each name once");
}

#[test]
fn what_is_missing_says_so_unless_optional() {
    let map = config_map(&[("k", "v")]);
    let sources = Sources {
        config_maps: [
            ("m".to_owned(), Lookup::Found(&map)),
            ("none".to_owned(), Lookup::NotFound),
        ]
        .into(),
        secrets: [("bad".to_owned(), Lookup::Failed("timed out".to_owned()))].into(),
        services: Some(&[]),
    };
    let error = |json: &str| run(&container(json), &sources).unwrap_err().to_string();
    assert_eq!(
        error(r#""envFrom":[{"configMapRef":{"name":"none"}}]"#),
        r#"configmap "none" not found"#
    );
    assert_eq!(
        error(r#""env":[{"name":"X","valueFrom":{"secretKeyRef":{"name":"gone","key":"k"}}}]"#),
        r#"secret "gone" not found"#
    );
    assert_eq!(
        error(r#""envFrom":[{"secretRef":{"name":"bad","optional":true}}]"#),
        "timed out"
    );
    assert_eq!(
        error(r#""env":[{"name":"X","valueFrom":{"configMapKeyRef":{"name":"m","key":"z"}}}]"#),
        "couldn't find key z in ConfigMap ns/m"
    );
    let optional = container(
        r#""envFrom":[{"configMapRef":{"name":"none","optional":true}}],
           "env":[{"name":"X","valueFrom":{"configMapKeyRef":{"name":"m","key":"z","optional":true}}},
                  {"name":"Y","valueFrom":{"secretKeyRef":{"name":"gone","key":"k","optional":true}}}]"#,
    );
    assert_eq!(run(&optional, &sources).unwrap(), []);
}

#[test]
fn services_must_have_been_read() {
    assert_eq!(
        run(&container(r#""image":"i""#), &Sources::default()),
        Err(EnvError::ServicesNotRead)
    );
}

#[test]
fn field_references() {
    let field = |path: &str| {
        let json = format!(r#""env":[{{"name":"X","valueFrom":{{"fieldRef":{{"fieldPath":"{path}"}}}}}}]"#);
        value(&container(&json), "X")
    };
    for (path, wanted) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['a/b']", "c"),
        ("spec.nodeName", "n1"),
        ("spec.serviceAccountName", "sa"),
        ("status.hostIP", "192.168.0.2"),
        ("status.podIP", "10.1.0.5"),
        ("status.podIPs", "10.1.0.5,fd00::5"),
    ] {
        assert_eq!(field(path), wanted, "{path}");
    }
}

#[test]
fn resource_references_round_up_and_fall_back_to_the_node() {
    let limited = r#""resources":{"limits":{"cpu":"1200m"},"requests":{"memory":"65M"}},"#;
    let resource = |resources: &str, resource: &str, divisor: &str| {
        let json = format!(
            r#"{resources}"env":[{{"name":"X","valueFrom":{{"resourceFieldRef":{{"resource":"{resource}","divisor":"{divisor}"}}}}}}]"#
        );
        value(&container(&json), "X")
    };
    assert_eq!(resource(limited, "limits.cpu", "0"), "2");
    assert_eq!(resource(limited, "limits.cpu", "1m"), "1200");
    assert_eq!(resource(limited, "requests.memory", "1Mi"), "62");
    assert_eq!(resource("", "limits.cpu", "1m"), "3500");
    assert_eq!(resource("", "limits.memory", "1Gi"), "7");
    assert_eq!(resource("", "requests.cpu", "1"), "0");
}

#[test]
fn references_are_listed_once() {
    let container = container(
        r#""envFrom":[{"configMapRef":{"name":"m"}},{"configMapRef":{"name":"m"}}],
           "env":[{"name":"X","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]"#,
    );
    let wanted = References {
        config_maps: vec!["m".into()],
        secrets: vec!["s".into()],
    };
    assert_eq!(references(&container), wanted);
}
