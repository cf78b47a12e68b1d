//! Asking a map for its keys only.

use super::Rule;
use crate::uapi::expr;

impl Rule {
    /// Matches if a map of data (not of verdicts) has an entry for what was loaded, whatever it says. What was loaded is lost.
    #[must_use]
    pub fn in_map(self, map: &str) -> Self {
        self.lookup(map, Some(expr::REG32_00), false)
    }
}
