//! The user and group that own a pod's files.

use k8s_openapi::api::core::v1::Pod;

use super::plan::containers;

/// Owners that the pod's security context asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    /// The one user that every container runs as, when there is one: owns token files.
    pub user: Option<u32>,
    /// `fsGroup`: owns every file of every volume that belongs to the pod.
    pub group: Option<u32>,
}

impl Identity {
    /// From the pod's and its containers' security contexts.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let group = context
            .and_then(|c| c.fs_group)
            .and_then(|id| u32::try_from(id).ok());
        let default_user = context.and_then(|c| c.run_as_user);
        let mut users = containers(pod).map(|container| {
            let own = container.security_context.as_ref().and_then(|c| c.run_as_user);
            own.or(default_user).and_then(|id| u32::try_from(id).ok())
        });
        let first = users.next().flatten();
        let user = first.filter(|_| users.all(|user| user == first));
        Self { user, group }
    }

    /// Files with credentials are for their owner alone, because somebody is named.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.user.is_some() || self.group.is_some()
    }
}
