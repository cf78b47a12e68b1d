//! The files on the node that a container's configuration points to, and the links to its log. Blocking, small.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use gantry_agent_core::hosts::{host_network_hosts, managed_hosts, pod_hostname};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::container::log_path;
pub(crate) use super::sandbox::log_directory;
use super::{ContainerInput, SpecError};

/// Where the node's own hosts file is.
const NODE_HOSTS: &str = "/etc/hosts";
/// Where log collectors look for logs by name.
pub(crate) const LOG_LINKS: &str = "/var/log/containers";
/// The longest file name.
const NAME_MAX: usize = 255;

/// Files made for one container instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostFiles {
    /// The pod's hosts file; `None` for a pod without addresses.
    pub(crate) etc_hosts: Option<PathBuf>,
    /// The file for the termination message; `None` when the container wants none.
    pub(crate) termination_log: Option<PathBuf>,
}

/// Makes the pod's hosts file, the container's termination message file and its log directory.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn prepare(input: &ContainerInput<'_>) -> Result<HostFiles, SpecError> {
    let pod_dir = input.node.root_dir.join("pods").join(uid(input.pod));
    let logs = log_directory(&input.node.pod_logs_dir, input.pod).join(&input.container.name);
    make_dir(&logs, 0o755)?;
    make_dir(&pod_dir, 0o750)?;
    let wants_message = input
        .container
        .termination_message_path
        .as_deref()
        .is_some_and(|path| !path.is_empty());
    let termination_log = if wants_message {
        Some(termination_log(
            &pod_dir.join("containers").join(&input.container.name),
        )?)
    } else {
        None
    };
    Ok(HostFiles {
        etc_hosts: etc_hosts(input, &pod_dir)?,
        termination_log,
    })
}

/// Makes the pod's log directory, before its sandbox.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_log_directory(pod_logs_dir: &Path, pod: &Pod) -> Result<(), SpecError> {
    make_dir(&log_directory(pod_logs_dir, pod), 0o755)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn etc_hosts(input: &ContainerInput<'_>, pod_dir: &Path) -> Result<Option<PathBuf>, SpecError> {
    let default = PodSpec::default();
    let spec = input.pod.spec.as_ref().unwrap_or(&default);
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    let content = if spec.host_network.unwrap_or(false) {
        let node = fs::read_to_string(NODE_HOSTS).map_err(|source| SpecError::File {
            path: PathBuf::from(NODE_HOSTS),
            source,
        })?;
        host_network_hosts(&node, aliases)
    } else if input.pod_ips.is_empty() {
        return Ok(None);
    } else {
        let name = pod_hostname(input.pod, &input.node.dns.cluster_domain)?;
        managed_hosts(input.pod_ips, &name, aliases)
    };
    let path = pod_dir.join("etc-hosts");
    // In place: running containers have this very file mounted.
    if fs::read_to_string(&path).is_ok_and(|old| old == content) {
        return Ok(Some(path));
    }
    write(&path, content.as_bytes(), 0o644)?;
    Ok(Some(path))
}

/// A new file for each instance, as the name says by chance: an older instance's message stays readable.
fn termination_log(dir: &Path) -> Result<PathBuf, SpecError> {
    make_dir(dir, 0o750)?;
    let path = dir.join(format!("{:08x}", rand::random::<u32>()));
    write(&path, b"", 0o666)?;
    Ok(path)
}

fn make_dir(path: &Path, mode: u32) -> Result<(), SpecError> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| SpecError::File {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), SpecError> {
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(path)?;
        // Whatever the umask is.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)
    };
    write().map_err(|source| SpecError::File {
        path: path.to_owned(),
        source,
    })
}

/// The restart count that the log directory proves, for a container that the runtime has forgotten: one more than the
/// newest log's.
pub(crate) fn attempt_from_logs(pod_logs_dir: &Path, pod: &Pod, container: &str) -> u32 {
    let Ok(entries) = fs::read_dir(log_directory(pod_logs_dir, pod).join(container)) else {
        return 0;
    };
    let attempt = |name: &str| name.split_once(".log")?.0.parse::<u32>().ok();
    let attempts = entries
        .flatten()
        .filter_map(|entry| attempt(entry.file_name().to_str()?));
    attempts.max().map_or(0, |newest| newest.saturating_add(1))
}

/// Links `/var/log/containers/<pod>_<namespace>_<container>-<id>.log` to the container's log, which exists once the
/// container has been started. A link that is there already is fine.
///
/// # Errors
/// When the link cannot be made: log collectors then miss this container, nothing else.
pub(crate) fn link_log(input: &ContainerInput<'_>, container_id: &str) -> io::Result<()> {
    link_log_in(Path::new(LOG_LINKS), input, container_id)
}

fn link_log_in(links: &Path, input: &ContainerInput<'_>, container_id: &str) -> io::Result<()> {
    let container = &input.container.name;
    let log = log_directory(&input.node.pod_logs_dir, input.pod).join(log_path(container, input.attempt));
    if !log.exists() {
        return Ok(());
    }
    fs::create_dir_all(links)?;
    match symlink(&log, links.join(link_name(input.pod, container, container_id))) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The link's name, cut to what a file system takes.
pub(crate) fn link_name(pod: &Pod, container: &str, container_id: &str) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let m = &pod.metadata;
    let name = format!(
        "{}_{}_{container}-{container_id}",
        text(&m.name),
        text(&m.namespace)
    );
    let cut = name.get(..NAME_MAX - ".log".len()).unwrap_or(&name);
    format!("{cut}.log")
}

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
