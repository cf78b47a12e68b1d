//! Security contexts: who a container runs as, what it may do, which namespaces it shares.

use gantry_agent_core::dns::pod_label;
use gantry_cri::v1;
use gantry_cri::v1::security_profile::ProfileType;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, Pod, PodSecurityContext, PodSpec, SELinuxOptions,
    SeccompProfile, SecurityContext,
};

use super::{ContainerInput, ImageUser, SpecError};

/// Hidden from containers unless `procMount: Unmasked`; the list that container engines share.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// Deprecated, still used by static pods.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The container's own context over the pod's, for what both can say.
struct Effective {
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: bool,
    selinux: Option<SELinuxOptions>,
}

fn effective(own: &SecurityContext, pod: &PodSecurityContext) -> Effective {
    Effective {
        run_as_user: own.run_as_user.or(pod.run_as_user),
        run_as_group: own.run_as_group.or(pod.run_as_group),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false),
        selinux: own
            .se_linux_options
            .clone()
            .or_else(|| pod.se_linux_options.clone()),
    }
}

/// The container's security context.
pub(super) fn of_container(
    input: &ContainerInput<'_>,
) -> Result<v1::LinuxContainerSecurityContext, SpecError> {
    let (default_spec, default_pod, default_own) = Default::default();
    let spec: &PodSpec = input.pod.spec.as_ref().unwrap_or(&default_spec);
    let pod: &PodSecurityContext = spec.security_context.as_ref().unwrap_or(&default_pod);
    let own: &SecurityContext = input.container.security_context.as_ref().unwrap_or(&default_own);
    let effective = effective(own, pod);
    verify_non_root(input, &effective)?;
    let (image_uid, username) = match &input.image.user {
        ImageUser::Uid(uid) => (Some(*uid), String::new()),
        ImageUser::Name(name) => (None, name.clone()),
    };
    let named_by_image = effective.run_as_user.is_none();
    let mut namespace_options = namespaces(spec)?;
    if let Some(target) = input.target
        && namespace_options.pid() == v1::NamespaceMode::Container
    {
        namespace_options.set_pid(v1::NamespaceMode::Target);
        target.clone_into(&mut namespace_options.target_id);
    }
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let hidden = MASKED.iter().map(|path| (*path).to_owned());
    let hidden = hidden.chain(input.node.kernel.thermal_throttle_paths.iter().cloned());
    let (apparmor, apparmor_profile) = apparmor(input.pod, input.container)?;
    let groups = pod
        .fs_group
        .into_iter()
        .chain(pod.supplemental_groups.iter().flatten().copied());
    // The two deprecated fields are still what older runtimes read.
    #[allow(deprecated, reason = "CRI's apparmor_profile, filled as the reference does")]
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities),
        privileged: own.privileged.unwrap_or(false),
        namespace_options: Some(namespace_options),
        selinux_options: effective.selinux.as_ref().map(selinux),
        run_as_user: effective
            .run_as_user
            .or(image_uid)
            .map(|value| v1::Int64Value { value }),
        run_as_group: effective.run_as_group.map(|value| v1::Int64Value { value }),
        run_as_username: if named_by_image { username } else { String::new() },
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups.collect(),
        supplemental_groups_policy: supplemental_groups_policy(pod)?.into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { Vec::new() } else { hidden.collect() },
        readonly_paths: if unmasked {
            Vec::new()
        } else {
            READ_ONLY.map(str::to_owned).to_vec()
        },
        seccomp: Some(seccomp(input, own, pod)?),
        apparmor,
        apparmor_profile,
        ..v1::LinuxContainerSecurityContext::default()
    })
}

/// `runAsNonRoot`: only a numeric user can be verified.
fn verify_non_root(input: &ContainerInput<'_>, effective: &Effective) -> Result<(), SpecError> {
    if !effective.run_as_non_root {
        return Ok(());
    }
    let place = format!(
        "(pod: {:?}, container: {})",
        pod_label(input.pod),
        input.container.name
    );
    let refuse = |why: String| Err(SpecError::Security(format!("{why} {place}")));
    match (effective.run_as_user, &input.image.user) {
        (Some(0), _) => refuse("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _) => Ok(()),
        (None, ImageUser::Name(name)) => refuse(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
        (None, ImageUser::Uid(0)) => {
            refuse("container has runAsNonRoot and image will run as root".to_owned())
        }
        (None, ImageUser::Uid(uid)) if !(0..=i64::from(i32::MAX)).contains(uid) => refuse(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({})): must be between 0 \
             and {}, inclusive",
            i32::MAX,
            i32::MAX
        )),
        (None, ImageUser::Uid(_)) => Ok(()),
    }
}

/// The namespaces that the pod's containers share with each other or with the node.
pub(super) fn namespaces(spec: &PodSpec) -> Result<v1::NamespaceOption, SpecError> {
    if spec.host_users == Some(false) {
        return Err(SpecError::UserNamespace);
    }
    let node_or = |host: Option<bool>, mode| {
        if host.unwrap_or(false) {
            v1::NamespaceMode::Node
        } else {
            mode
        }
    };
    let shared = spec.share_process_namespace.unwrap_or(false);
    let pid = if shared {
        v1::NamespaceMode::Pod
    } else {
        v1::NamespaceMode::Container
    };
    Ok(v1::NamespaceOption {
        network: node_or(spec.host_network, v1::NamespaceMode::Pod).into(),
        pid: node_or(spec.host_pid, pid).into(),
        ipc: node_or(spec.host_ipc, v1::NamespaceMode::Pod).into(),
        ..v1::NamespaceOption::default()
    })
}

pub(super) fn supplemental_groups_policy(
    context: &PodSecurityContext,
) -> Result<v1::SupplementalGroupsPolicy, SpecError> {
    match context.supplemental_groups_policy.as_deref() {
        None | Some("Merge") => Ok(v1::SupplementalGroupsPolicy::Merge),
        Some("Strict") => Ok(v1::SupplementalGroupsPolicy::Strict),
        Some(other) => Err(SpecError::Security(format!(
            "unsupported supplementalGroupsPolicy: {other}"
        ))),
    }
}

pub(super) fn selinux(options: &SELinuxOptions) -> v1::SeLinuxOption {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    v1::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

pub(super) fn profile(kind: ProfileType) -> v1::SecurityProfile {
    v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: String::new(),
    }
}

fn local_profile(localhost_ref: String) -> v1::SecurityProfile {
    v1::SecurityProfile {
        profile_type: ProfileType::Localhost.into(),
        localhost_ref,
    }
}

fn capabilities(caps: &Capabilities) -> v1::Capability {
    v1::Capability {
        add_capabilities: caps.add.clone().unwrap_or_default(),
        drop_capabilities: caps.drop.clone().unwrap_or_default(),
        ..v1::Capability::default()
    }
}

/// The container's profile, else the pod's, else `seccompDefault`. A local one lies below `<root>/seccomp`.
fn seccomp(
    input: &ContainerInput<'_>,
    own: &SecurityContext,
    pod: &PodSecurityContext,
) -> Result<v1::SecurityProfile, SpecError> {
    let chosen: Option<&SeccompProfile> = own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref());
    let fallback = if input.node.seccomp_default {
        ProfileType::RuntimeDefault
    } else {
        ProfileType::Unconfined
    };
    let Some(chosen) = chosen else {
        return Ok(profile(fallback));
    };
    match (chosen.type_.as_str(), chosen.localhost_profile.as_deref()) {
        ("RuntimeDefault", _) => Ok(profile(ProfileType::RuntimeDefault)),
        ("Localhost", None | Some("")) => Err(SpecError::Security(
            "localhostProfile must be set if seccompProfile type is Localhost.".to_owned(),
        )),
        ("Localhost", Some(name)) => {
            let path = input.node.root_dir.join("seccomp").join(name);
            Ok(local_profile(path.display().to_string()))
        }
        _ => Ok(profile(ProfileType::Unconfined)),
    }
}

/// The profile, also in the form that older runtimes read.
fn apparmor(pod: &Pod, container: &Container) -> Result<(Option<v1::SecurityProfile>, String), SpecError> {
    let own = container
        .security_context
        .as_ref()
        .and_then(|c| c.app_armor_profile.clone());
    let annotated = || {
        let key = format!("{APPARMOR_ANNOTATION}{}", container.name);
        annotated_profile(pod.metadata.annotations.as_ref()?.get(&key)?)
    };
    let of_pod = || {
        pod.spec
            .as_ref()?
            .security_context
            .as_ref()?
            .app_armor_profile
            .clone()
    };
    let Some(chosen) = own.or_else(annotated).or_else(of_pod) else {
        return Ok((None, String::new()));
    };
    match (chosen.type_.as_str(), chosen.localhost_profile) {
        ("RuntimeDefault", _) => Ok((
            Some(profile(ProfileType::RuntimeDefault)),
            "runtime/default".to_owned(),
        )),
        ("Unconfined", _) => Ok((Some(profile(ProfileType::Unconfined)), "unconfined".to_owned())),
        ("Localhost", Some(name)) => Ok((Some(local_profile(name.clone())), format!("localhost/{name}"))),
        ("Localhost", None) => Err(SpecError::Security(
            "missing localhost apparmor profile name".to_owned(),
        )),
        (other, _) => Err(SpecError::Security(format!(
            "unknown apparmor profile type: {other:?}"
        ))),
    }
}

fn annotated_profile(value: &str) -> Option<AppArmorProfile> {
    let of = |kind: &str, name: Option<&str>| AppArmorProfile {
        type_: kind.to_owned(),
        localhost_profile: name.map(str::to_owned),
    };
    match value {
        "runtime/default" => Some(of("RuntimeDefault", None)),
        "unconfined" => Some(of("Unconfined", None)),
        _ => value
            .strip_prefix("localhost/")
            .map(|name| of("Localhost", Some(name))),
    }
}

#[cfg(test)]
#[path = "security/tests.rs"]
mod tests;
