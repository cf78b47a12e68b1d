//! Files that somebody else may have removed first.

use std::io;

/// What was to be removed and is not there any more is removed.
///
/// # Errors
/// Every other failure.
pub fn gone_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
