//! Waits for a file descriptor that tokio has no type for: inotify, netlink.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches for `fd` to become readable. Must be called within a tokio runtime.
///
/// # Errors
/// When the system cannot watch it.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is made here: it is open and the same as long as that lives.
    #[allow(unsafe_code, reason = "tokio cannot tell that an OwnedFd keeps its word")]
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(watched?)
}
