//! From the API's volume, with its thirty optional fields, to the one thing that it is.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The mode of files when the volume does not say: `rw-r--r--`.
pub const DEFAULT_MODE: u32 = 0o644;
/// The life of a service account token when the volume does not say, in seconds.
pub const DEFAULT_TOKEN_SECS: i64 = 3600;

/// One volume of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumePlan<'a> {
    /// Its name in the pod's spec.
    pub name: &'a str,
    /// What it is.
    pub source: Source<'a>,
}

/// The kinds of volumes.
#[derive(Debug, Clone, PartialEq)]
pub enum Source<'a> {
    /// Scratch space that lives as long as the pod.
    EmptyDir {
        /// On disk or in memory.
        medium: Medium<'a>,
        /// The most it may hold.
        size_limit: Option<&'a Quantity>,
    },
    /// A path of the node.
    HostPath {
        /// Absolute.
        path: &'a str,
        /// What must be there.
        kind: HostPathKind,
    },
    /// Files from the API.
    Content(Content<'a>),
    /// An image, mounted by the runtime: no directory on the node.
    Image,
    /// Never: the word names the kind (gitRepo, CVE-2024-10220).
    Refused(&'static str),
    /// A kind that this agent cannot mount yet.
    Unsupported(&'static str),
}

/// Where an emptyDir lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium<'a> {
    /// The file system of the agent's root directory.
    Disk,
    /// tmpfs.
    Memory,
    /// Huge pages and everything else.
    Other(&'a str),
}

/// What a hostPath demands (`HostPathType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPathKind {
    /// No check.
    Any,
    /// A directory; made (0755) when nothing is there.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file; made (0644) when nothing is there.
    FileOrCreate,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A word that the API does not know.
    Unknown,
}

/// A volume whose files come from the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Content<'a> {
    /// The plugin, which names the directory.
    pub plugin: Plugin,
    /// Later parts win over earlier ones.
    pub parts: Vec<Part<'a>>,
    /// The mode of files that have none of their own.
    pub default_mode: u32,
}

/// The plugins that write files from the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// `configMap`.
    ConfigMap,
    /// `secret`.
    Secret,
    /// `downwardAPI`.
    DownwardApi,
    /// `projected`.
    Projected,
}

/// A source of files.
#[derive(Debug, Clone, PartialEq)]
pub enum Part<'a> {
    /// Keys of a configMap.
    ConfigMap(Keys<'a>),
    /// Keys of a secret.
    Secret(Keys<'a>),
    /// The pod's own fields.
    Downward(&'a [DownwardAPIVolumeFile]),
    /// A token of the pod's service account.
    Token(TokenPart<'a>),
    /// A projection that this agent does not know; the word names it.
    Unsupported(&'static str),
}

/// Keys of a configMap or secret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keys<'a> {
    /// The object's name, in the pod's namespace.
    pub name: &'a str,
    /// Key to path; empty: every key under its own name.
    pub items: &'a [KeyToPath],
    /// A missing object or key is no error.
    pub optional: bool,
}

/// A projected service account token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenPart<'a> {
    /// Empty: the API server's own.
    pub audience: &'a str,
    /// The life that is asked for, in seconds.
    pub expiration_secs: i64,
    /// The file.
    pub path: &'a str,
}

impl Plugin {
    /// The directory under `volumes/` of the pod (kubelet-surface.md, section 5).
    #[must_use]
    pub fn dir_name(self) -> &'static str {
        match self {
            Self::ConfigMap => "kubernetes.io~configmap",
            Self::Secret => "kubernetes.io~secret",
            Self::DownwardApi => "kubernetes.io~downward-api",
            Self::Projected => "kubernetes.io~projected",
        }
    }

    /// Its files never touch a disk.
    #[must_use]
    pub fn in_memory(self) -> bool {
        match self {
            Self::Secret | Self::Projected | Self::DownwardApi => true,
            Self::ConfigMap => false,
        }
    }
}

/// The volumes that some container of the pod mounts, in the order of the spec. Others are not set up (the
/// reference's populator skips them too).
#[must_use]
pub fn plans(pod: &Pod) -> Vec<VolumePlan<'_>> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mounts = containers(pod).map(|c| c.volume_mounts.as_deref());
    // An ephemeral container may be the first to mount a volume.
    let late = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|c| c.volume_mounts.as_deref());
    let mut used: HashSet<&str> = mounts
        .chain(late)
        .flatten()
        .flatten()
        .map(|m| m.name.as_str())
        .collect();
    used.extend(
        containers(pod)
            .flat_map(|c| c.volume_devices.iter().flatten())
            .map(|d| d.name.as_str()),
    );
    spec.volumes
        .iter()
        .flatten()
        .filter(|volume| used.contains(volume.name.as_str()))
        .map(|volume| VolumePlan {
            name: &volume.name,
            source: source(volume),
        })
        .collect()
}

/// The containers that a pod begins with: init and regular ones.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

fn source(volume: &Volume) -> Source<'_> {
    if let Some(empty) = &volume.empty_dir {
        let medium = match empty.medium.as_deref().unwrap_or_default() {
            "" => Medium::Disk,
            "Memory" => Medium::Memory,
            other => Medium::Other(other),
        };
        Source::EmptyDir {
            medium,
            size_limit: empty.size_limit.as_ref(),
        }
    } else if let Some(host) = &volume.host_path {
        Source::HostPath {
            path: &host.path,
            kind: HostPathKind::from_api(host.type_.as_deref()),
        }
    } else if let Some(content) = content(volume) {
        Source::Content(content)
    } else if volume.image.is_some() {
        Source::Image
    } else if volume.git_repo.is_some() {
        Source::Refused("gitRepo")
    } else {
        Source::Unsupported(unsupported(volume))
    }
}

fn content(volume: &Volume) -> Option<Content<'_>> {
    if let Some(map) = &volume.config_map {
        let keys = Keys {
            name: &map.name,
            items: map.items.as_deref().unwrap_or_default(),
            optional: map.optional.unwrap_or(false),
        };
        return Some(Content::new(
            Plugin::ConfigMap,
            vec![Part::ConfigMap(keys)],
            map.default_mode,
        ));
    }
    if let Some(secret) = &volume.secret {
        let keys = Keys {
            name: secret.secret_name.as_deref().unwrap_or_default(),
            items: secret.items.as_deref().unwrap_or_default(),
            optional: secret.optional.unwrap_or(false),
        };
        return Some(Content::new(
            Plugin::Secret,
            vec![Part::Secret(keys)],
            secret.default_mode,
        ));
    }
    if let Some(downward) = &volume.downward_api {
        let part = Part::Downward(downward.items.as_deref().unwrap_or_default());
        return Some(Content::new(
            Plugin::DownwardApi,
            vec![part],
            downward.default_mode,
        ));
    }
    let projected = volume.projected.as_ref()?;
    let parts = projected.sources.iter().flatten().map(part).collect();
    Some(Content::new(Plugin::Projected, parts, projected.default_mode))
}

fn part(projection: &VolumeProjection) -> Part<'_> {
    if let Some(map) = &projection.config_map {
        Part::ConfigMap(Keys {
            name: &map.name,
            items: map.items.as_deref().unwrap_or_default(),
            optional: map.optional.unwrap_or(false),
        })
    } else if let Some(secret) = &projection.secret {
        Part::Secret(Keys {
            name: &secret.name,
            items: secret.items.as_deref().unwrap_or_default(),
            optional: secret.optional.unwrap_or(false),
        })
    } else if let Some(downward) = &projection.downward_api {
        Part::Downward(downward.items.as_deref().unwrap_or_default())
    } else if let Some(token) = &projection.service_account_token {
        Part::Token(TokenPart {
            audience: token.audience.as_deref().unwrap_or_default(),
            expiration_secs: token.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECS),
            path: &token.path,
        })
    } else if projection.cluster_trust_bundle.is_some() {
        Part::Unsupported("clusterTrustBundle")
    } else if projection.pod_certificate.is_some() {
        Part::Unsupported("podCertificate")
    } else {
        Part::Unsupported("unknown")
    }
}

fn unsupported(volume: &Volume) -> &'static str {
    let kinds = [
        (volume.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (volume.ephemeral.is_some(), "ephemeral"),
        (volume.csi.is_some(), "csi"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.fc.is_some(), "fc"),
        (volume.flex_volume.is_some(), "flexVolume"),
    ];
    kinds
        .iter()
        .find(|(is, _)| *is)
        .map_or("unknown", |(_, name)| name)
}

impl<'a> Content<'a> {
    fn new(plugin: Plugin, parts: Vec<Part<'a>>, default_mode: Option<i32>) -> Self {
        Self {
            plugin,
            parts,
            default_mode: mode(default_mode).unwrap_or(DEFAULT_MODE),
        }
    }
}

impl HostPathKind {
    fn from_api(word: Option<&str>) -> Self {
        match word.unwrap_or_default() {
            "" => Self::Any,
            "DirectoryOrCreate" => Self::DirectoryOrCreate,
            "Directory" => Self::Directory,
            "FileOrCreate" => Self::FileOrCreate,
            "File" => Self::File,
            "Socket" => Self::Socket,
            "CharDevice" => Self::CharDevice,
            "BlockDevice" => Self::BlockDevice,
            _ => Self::Unknown,
        }
    }
}

/// A file mode from the API, cut to the permission bits.
pub(crate) fn mode(value: Option<i32>) -> Option<u32> {
    value
        .and_then(|mode| u32::try_from(mode).ok())
        .map(|mode| mode & 0o777)
}
