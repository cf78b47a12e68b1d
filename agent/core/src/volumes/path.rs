//! What paths inside a volume may look like. Everything here is refused before a file is touched; the shell's file
//! access is confined besides (CVE-2017-1002101, CVE-2021-25741).

use k8s_openapi::api::core::v1::Pod;

use super::plan::containers;

const MAX_PATH_LEN: usize = 4096;
const MAX_NAME_LEN: usize = 255;

/// Why a path is refused. The texts are the reference's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty.
    #[error("invalid path: must not be empty: \"\"")]
    Empty,
    /// Begins with `/`.
    #[error("invalid path: must be relative path: {0}")]
    Absolute(String),
    /// An element is `..`.
    #[error("invalid path: must not contain '..': {0}")]
    Backstep(String),
    /// Begins with two dots, as the writer's own files do.
    #[error("invalid path: must not start with '..': {0}")]
    Reserved(String),
    /// Over 4096 bytes.
    #[error("invalid path: must be less than or equal to 4096 characters")]
    TooLong,
    /// An element over 255 bytes.
    #[error("invalid path: filenames must be less than or equal to 255 characters")]
    NameTooLong,
    /// A sub path that begins with `/`.
    #[error("error SubPath `{0}` must not be an absolute path")]
    SubPathAbsolute(String),
    /// A sub path with a `..` element.
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    SubPathBackstep(String),
    /// A mount point that leaves the container's root.
    #[error("invalid container mount point {0}")]
    MountPoint(String),
}

/// Checks a path of a payload and answers it without `.` elements and doubled slashes.
///
/// # Errors
/// When it is empty, absolute, too long, leaves the volume or begins with two dots.
pub fn clean(path: &str) -> Result<String, PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute(path.to_owned()));
    }
    if path.len() > MAX_PATH_LEN {
        return Err(PathError::TooLong);
    }
    let mut elements = Vec::new();
    for element in path.split('/') {
        if element == ".." {
            return Err(PathError::Backstep(path.to_owned()));
        }
        if element.len() > MAX_NAME_LEN {
            return Err(PathError::NameTooLong);
        }
        if !element.is_empty() && element != "." {
            elements.push(element);
        }
    }
    match elements.first() {
        None => Err(PathError::Empty),
        Some(first) if first.starts_with("..") => Err(PathError::Reserved(path.to_owned())),
        Some(_) => Ok(elements.join("/")),
    }
}

/// Checks a sub path (after expansion of `subPathExpr`).
///
/// # Errors
/// When it is absolute or has a `..` element. The container then waits with `CreateContainerConfigError`.
pub fn check_sub_path(sub_path: &str) -> Result<(), PathError> {
    if sub_path.starts_with('/') {
        return Err(PathError::SubPathAbsolute(sub_path.to_owned()));
    }
    if sub_path.split('/').any(|element| element == "..") {
        return Err(PathError::SubPathBackstep(sub_path.to_owned()));
    }
    Ok(())
}

/// The directories that must exist inside volume `name` because another mount of the same container lies beneath
/// it: relative paths, only the outermost of those that are nested in each other.
///
/// # Errors
/// [`PathError::MountPoint`] for a mount path that leaves the container's root.
pub fn nested_mount_points(pod: &Pod, name: &str) -> Result<Vec<String>, PathError> {
    let mut found = Vec::new();
    for container in containers(pod) {
        let mut all: Vec<(String, &str)> = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            if mount.mount_path.split('/').any(|element| element == "..") {
                return Err(PathError::MountPoint(mount.mount_path.clone()));
            }
            all.push((normal(&mount.mount_path), &mount.name));
        }
        all.sort();
        for (mine, _) in all.iter().filter(|(_, volume)| *volume == name) {
            let prefix = format!("{mine}/");
            let mut outermost: Vec<String> = Vec::new();
            for (path, _) in all.iter().filter(|(path, _)| path.starts_with(&prefix)) {
                if !outermost.iter().any(|outer| path.starts_with(outer)) {
                    outermost.push(format!("{path}/"));
                    found.push(path[prefix.len()..].to_owned());
                }
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Without doubled and trailing slashes and `.` elements.
fn normal(path: &str) -> String {
    let elements: Vec<&str> = path.split('/').filter(|e| !e.is_empty() && *e != ".").collect();
    format!("/{}", elements.join("/"))
}
