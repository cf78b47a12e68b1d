use proptest::prelude::*;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Result<Command, EnvironmentError> {
    Command::parse(|name| {
        pairs
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

const FULL: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "abc"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/run/netns/x"),
    (
        "CNI_ARGS",
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=b;IP=10.0.0.9",
    ),
];

#[test]
fn a_full_environment_is_read() {
    let Ok(Command::Add(attachment)) = environment(&FULL) else {
        panic!("not an ADD")
    };
    assert_eq!(attachment.container, "abc");
    assert_eq!(attachment.args.ip.as_deref(), Some("10.0.0.9"));
    assert_eq!(attachment.args.pod.name.as_deref(), Some("a"));
    assert_eq!(
        attachment.args.pod.namespace, None,
        "an empty word says as much as none"
    );
}

#[test]
fn each_needed_variable_is_named_when_missing() {
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
        let pairs: Vec<_> = FULL.into_iter().filter(|(key, _)| *key != name).collect();
        assert_eq!(environment(&pairs), Err(EnvironmentError::Missing(name)));
    }
}

#[test]
fn del_needs_no_namespace() {
    let mut pairs = FULL;
    pairs[0].1 = "DEL";
    pairs[3].1 = "";
    let Ok(Command::Del(attachment)) = environment(&pairs) else {
        panic!("not a DEL")
    };
    assert_eq!(attachment.netns, None);
}

#[test]
fn bad_values_are_refused() {
    for (index, value) in [
        (0, "add"),
        (1, "../x"),
        (1, "-a"),
        (2, "a/b"),
        (2, ".."),
        (2, "sixteen-letters-"),
        (4, "novalue"),
        (4, "UNKNOWN=1"),
    ] {
        let mut pairs = FULL;
        pairs[index].1 = value;
        assert!(
            matches!(environment(&pairs), Err(EnvironmentError::Invalid { .. })),
            "{value}"
        );
    }
}

proptest! {
    #[test]
    fn nothing_in_the_environment_panics(values in proptest::collection::vec(".*", 5)) {
        let pairs: Vec<_> = FULL.iter().map(|(key, _)| *key).zip(values.iter().map(String::as_str)).collect();
        let _ = environment(&pairs);
        let mut pairs = pairs;
        pairs[0].1 = "DEL";
        let _ = environment(&pairs);
    }
}
