//! What the kernel remembers of clients: read, and forgotten in part.

use gantry_nft::CommitError;
use gantry_proxy_core::Remembered;
use rustix::io::Errno;

use super::layout::names;
use super::{FindError, TABLE, Table, encode};

impl Table {
    /// All clients that are remembered now.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn remembered(&mut self) -> Result<Vec<Remembered>, FindError> {
        let family = self.layout.family;
        let mut all = Vec::new();
        for set in [names::AFFINITY, names::NP_AFFINITY] {
            let listing = self.nft.elements(family, TABLE, set)?;
            all.extend(
                listing
                    .iter()
                    .filter_map(|raw| encode::remembered(family, set, raw)),
            );
        }
        Ok(all)
    }

    /// Forgets clients.
    ///
    /// # Errors
    /// When the kernel refuses it. One that is forgotten already is none.
    pub fn forget(&mut self, entries: &[Remembered]) -> Result<(), CommitError> {
        let mut tx = self.transaction();
        encode::forget(&mut tx, entries);
        match self.nft.commit(tx) {
            // One of them has expired since it was read: the others go one by one.
            Err(error) if is_absent(&error) => entries.iter().try_for_each(|entry| {
                let mut tx = self.transaction();
                encode::forget(&mut tx, std::slice::from_ref(entry));
                match self.nft.commit(tx) {
                    Err(error) if is_absent(&error) => Ok(()),
                    other => other,
                }
            }),
            other => other,
        }
    }
}

fn is_absent(error: &CommitError) -> bool {
    error.errno() == Some(Errno::NOENT.raw_os_error())
}
