//! Who asks.

use std::collections::BTreeMap;

/// A user as the API server knows users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    /// `system:serviceaccount:monitoring:prometheus`.
    pub(crate) name: String,
    /// Tells users of one name apart; may be empty.
    pub(crate) uid: String,
    /// `system:masters`, ...
    pub(crate) groups: Vec<String>,
    /// What else the authenticator knows.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

const AUTHENTICATED: &str = "system:authenticated";

impl User {
    pub(super) fn new(name: String, groups: Vec<String>) -> Self {
        Self {
            name,
            groups,
            ..Self::default()
        }
    }

    /// Somebody without credentials.
    pub(super) fn anonymous() -> Self {
        Self::new(
            "system:anonymous".to_owned(),
            vec!["system:unauthenticated".to_owned()],
        )
    }

    /// In the group of those with credentials.
    pub(super) fn authenticated(mut self) -> Self {
        if !self.groups.iter().any(|group| group == AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
