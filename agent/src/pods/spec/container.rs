//! A container's configuration.

use std::path::Path;

use gantry_agent_core::env::{Variable, expand_text};
use gantry_cri::v1;
use k8s_openapi::api::core::v1::VolumeMount;

use super::files::HostFiles;
use super::{ContainerInput, SpecError, labels, resources, security};
use crate::volumes::ContainerMount;

/// The container's configuration. `mounts` are those of its `volumeMounts`, one for each, from
/// `Volumes::container_mounts`.
///
/// # Errors
/// See [`SpecError`].
pub(crate) fn container_config(
    input: &ContainerInput<'_>,
    environment: &[Variable],
    mounts: &[ContainerMount],
    files: &HostFiles,
) -> Result<v1::ContainerConfig, SpecError> {
    let container = input.container;
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter()
            .flatten()
            .map(|text| expand_text(text, |name| value(environment, name)))
            .collect()
    };
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: container.name.clone(),
            attempt: input.attempt,
        }),
        image: Some(v1::ImageSpec {
            image: input.image.id.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..v1::ImageSpec::default()
        }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment
            .iter()
            .map(|v| v1::KeyValue {
                key: v.name.clone(),
                value: v.value.clone(),
            })
            .collect(),
        mounts: all_mounts(input, mounts, files)?,
        labels: labels::container_labels(input.pod, container),
        annotations: labels::container_annotations(input.pod, container, input.attempt),
        log_path: log_path(&container.name, input.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources::of_container(input.pod, container, input.node)),
            security_context: Some(security::of_container(input)?),
        }),
        ..v1::ContainerConfig::default()
    })
}

/// The log file, relative to the sandbox's log directory.
pub(super) fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// A `subPathExpr` with the container's environment; the error is the waiting message.
///
/// # Errors
/// When it refers to a variable that is unknown or empty.
pub(crate) fn expand_sub_path(expression: &str, environment: &[Variable]) -> Result<String, String> {
    let known = |name: &str| value(environment, name).filter(|value| !value.is_empty());
    gantry_agent_core::env::expand_strict(expression, known).map_err(|mut unknown| {
        unknown.sort_unstable();
        unknown.dedup();
        format!("missing value for {}", unknown.join(", "))
    })
}

fn value<'e>(environment: &'e [Variable], name: &str) -> Option<&'e [u8]> {
    environment
        .iter()
        .find(|v| v.name == name)
        .map(|v| v.value.as_slice())
}

fn all_mounts(
    input: &ContainerInput<'_>,
    mounts: &[ContainerMount],
    files: &HostFiles,
) -> Result<Vec<v1::Mount>, SpecError> {
    let specs = input.container.volume_mounts.as_deref().unwrap_or_default();
    if let Some(device) = input.container.volume_devices.iter().flatten().next() {
        // Not silently without its disk.
        let why = format!("block volume {:?} is not supported by this agent", device.name);
        return Err(SpecError::Mount(why));
    }
    if specs.len() != mounts.len() {
        let name = &input.container.name;
        return Err(SpecError::Mount(format!(
            "volumes of container {name:?} are not all mounted"
        )));
    }
    let mut all = Vec::with_capacity(mounts.len() + 2);
    for (spec, mount) in specs.iter().zip(mounts) {
        all.push(volume_mount(spec, mount, input.recursive_read_only)?);
    }
    // A container may bring its own /etc/hosts.
    if let Some(path) = files
        .etc_hosts
        .as_ref()
        .filter(|_| !specs.iter().any(|m| m.mount_path == ETC_HOSTS))
    {
        all.push(file_mount(path, ETC_HOSTS));
    }
    if let (Some(path), Some(inside)) = (&files.termination_log, &input.container.termination_message_path) {
        all.push(file_mount(path, &absolute(inside)));
    }
    Ok(all)
}

const ETC_HOSTS: &str = "/etc/hosts";

fn file_mount(host: &Path, inside: &str) -> v1::Mount {
    v1::Mount {
        host_path: host.display().to_string(),
        container_path: inside.to_owned(),
        ..v1::Mount::default()
    }
}

fn volume_mount(
    spec: &VolumeMount,
    mount: &ContainerMount,
    can_recurse: bool,
) -> Result<v1::Mount, SpecError> {
    let propagation = match spec.mount_propagation.as_deref() {
        None | Some("None") => v1::MountPropagation::PropagationPrivate,
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        Some(other) => {
            return Err(SpecError::Mount(format!(
                "invalid MountPropagation mode: {other:?}"
            )));
        }
    };
    Ok(v1::Mount {
        host_path: mount.host_path.display().to_string(),
        container_path: absolute(&spec.mount_path),
        readonly: mount.read_only || spec.read_only.unwrap_or(false),
        propagation: propagation.into(),
        recursive_read_only: recursive_read_only(spec, can_recurse)?,
        ..v1::Mount::default()
    })
}

fn recursive_read_only(spec: &VolumeMount, supported: bool) -> Result<bool, SpecError> {
    let refuse = |why: String| {
        let message = format!(
            "volume {:?} requested recursive read-only mode, but it is {why}",
            spec.name
        );
        Err(SpecError::Mount(format!(
            "failed to resolve recursive read-only mode: {message}"
        )))
    };
    match spec.recursive_read_only.as_deref() {
        None | Some("Disabled") => Ok(false),
        Some(_) if !spec.read_only.unwrap_or(false) => refuse("not read-only".to_owned()),
        Some(_) if spec.mount_propagation.as_deref().is_some_and(|p| p != "None") => {
            let propagation = spec.mount_propagation.as_deref().unwrap_or_default();
            refuse(format!("not compatible with propagation {propagation:?}"))
        }
        Some("IfPossible") => Ok(supported),
        Some("Enabled") if supported => Ok(true),
        Some("Enabled") => refuse("not supported by the runtime".to_owned()),
        Some(other) => Err(SpecError::Mount(format!(
            "unknown recursive read-only mode {other:?}"
        ))),
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}
