use super::*;
use crate::pods::spec::tests::{configure_as, node, pod, security};

#[test]
fn who_a_container_runs_as() {
    let plain = security("", "");
    assert_eq!(plain.run_as_user.unwrap().value, 0);
    assert!(!plain.no_new_privs && !plain.readonly_rootfs && plain.capabilities.is_none());
    assert!(plain.masked_paths.contains(&"/proc/kcore".to_owned()) && plain.readonly_paths.len() == 5);
    assert_eq!(plain.seccomp.unwrap().profile_type(), ProfileType::Unconfined);
    assert_eq!(plain.namespace_options.unwrap().pid(), v1::NamespaceMode::Target);
}

#[test]
fn the_container_says_who_it_runs_as_before_the_pod_does() {
    let own = security(
        r#","shareProcessNamespace":true,"securityContext":{"runAsUser":1,"runAsGroup":2,"fsGroup":3,"supplementalGroups":[4],"seccompProfile":{"type":"RuntimeDefault"}}"#,
        r#","securityContext":{"runAsUser":7,"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false,"procMount":"Unmasked",
            "capabilities":{"add":["NET_BIND_SERVICE"],"drop":["ALL"]},"seccompProfile":{"type":"Localhost","localhostProfile":"p.json"},"appArmorProfile":{"type":"RuntimeDefault"}}"#,
    );
    assert_eq!(
        (own.run_as_user.unwrap().value, own.run_as_group.unwrap().value),
        (7, 2)
    );
    assert_eq!(own.supplemental_groups, [3, 4]);
    assert!(own.no_new_privs && own.readonly_rootfs && own.masked_paths.is_empty());
    let caps = own.capabilities.unwrap();
    assert_eq!(
        (caps.add_capabilities, caps.drop_capabilities),
        (vec!["NET_BIND_SERVICE".into()], vec!["ALL".into()])
    );
    assert_eq!(
        own.seccomp.unwrap().localhost_ref,
        "/var/lib/kubelet/seccomp/p.json"
    );
    assert_eq!(own.apparmor.unwrap().profile_type(), ProfileType::RuntimeDefault);
    assert_eq!(own.namespace_options.unwrap().pid(), v1::NamespaceMode::Pod);
}

#[test]
fn the_pod_says_it_for_containers_that_do_not() {
    let of_pod = security(
        r#","securityContext":{"runAsUser":1,"seccompProfile":{"type":"RuntimeDefault"}}"#,
        "",
    );
    assert_eq!(of_pod.run_as_user.unwrap().value, 1);
    assert_eq!(
        of_pod.seccomp.unwrap().profile_type(),
        ProfileType::RuntimeDefault
    );
}

#[test]
fn non_root_is_verified() {
    let non_root = r#","securityContext":{"runAsNonRoot":true}"#;
    let check = |container: &str, user: ImageUser| {
        configure_as(&pod(non_root, container), &node(), user)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let place = r#"(pod: "web-0_ns(u-1)", container: c)"#;
    assert_eq!(check("", ImageUser::Uid(1000)), Ok(()));
    assert_eq!(
        check(r#","securityContext":{"runAsUser":5}"#, ImageUser::Uid(0)),
        Ok(())
    );
    assert_eq!(
        check(r#","securityContext":{"runAsNonRoot":false}"#, ImageUser::Uid(0)),
        Ok(())
    );
    assert_eq!(
        check("", ImageUser::Uid(0)).unwrap_err(),
        format!("container has runAsNonRoot and image will run as root {place}")
    );
    assert_eq!(
        check(r#","securityContext":{"runAsUser":0}"#, ImageUser::Uid(5)).unwrap_err(),
        format!("container's runAsUser breaks non-root policy {place}")
    );
    assert_eq!(
        check("", ImageUser::Name("www".into())).unwrap_err(),
        format!(
            "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root {place}"
        )
    );
}

#[test]
fn what_cannot_be_configured_says_why() {
    let error = |spec: &str, container: &str| {
        configure_as(&pod(spec, container), &node(), ImageUser::Uid(0))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(
            "",
            r#","securityContext":{"seccompProfile":{"type":"Localhost","localhostProfile":""}}"#
        ),
        "localhostProfile must be set if seccompProfile type is Localhost."
    );
    assert_eq!(
        error(
            "",
            r#","securityContext":{"appArmorProfile":{"type":"Localhost"}}"#
        ),
        "missing localhost apparmor profile name"
    );
    assert_eq!(
        error(r#","securityContext":{"supplementalGroupsPolicy":"X"}"#, ""),
        "unsupported supplementalGroupsPolicy: X"
    );
    assert!(error(r#","hostUsers":false"#, "").contains("hostUsers: false"));
    assert_eq!(
        error(
            "",
            r#","volumeMounts":[{"name":"v","mountPath":"/v","mountPropagation":"X"}]"#
        ),
        "invalid MountPropagation mode: \"X\""
    );
}
