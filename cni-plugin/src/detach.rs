//! Deletes a pod's devices without waiting for the kernel's clean-up.
//!
//! Measured on Linux 6.18 with two cores: RTM_DELLINK of a veth that is a bridge port takes 18 to 22 ms, but
//! - after 0.3 ms both ends are out of every list: no packet passes, no tool sees them, their names are free;
//! - after 0.9 ms the kernel has released the routing lock: other changes go on;
//! - the rest is a wait for an RCU barrier outside of that lock, after which only memory is freed.
//!
//! So a child process sends the request and does that wait, and DEL returns as soon as the interface is out of the lists,
//! from where nothing brings it back. That is what the specification demands of DEL, and holds whether the namespace lives
//! on or not. Leaving the interface to the teardown of its namespace would be wrong when the namespace lives on, which a
//! plugin cannot know. Ten DELs at once wait for one barrier together instead of one after the other.
//!
//! The child is a copy and not a program: a program's start is more work than all the rest of DEL. Whether an interface is
//! there is asked without the routing lock, which a hundred who ask at once would keep from those who delete.

use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::fault;
use crate::netlink::{Netlink, NetlinkError};

/// Pauses between two looks, until the child's request has reached the kernel: from the first to the longest. They grow with
/// the time that has passed, so that many who wait leave the processors to those who delete.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Deletes these interfaces; false when there was none of them.
pub(crate) fn delete(host: &mut Netlink, names: &[String]) -> Result<bool, NetlinkError> {
    fault::kill_before("devices");
    let present = names.iter().filter(|name| host.has_link(name));
    let mut left: Vec<_> = present.map(|name| (name.as_str(), fork(name))).collect();
    if left.is_empty() {
        return Ok(false);
    }
    fault::kill_before("waiting");
    let mut pause = FIRST_PAUSE;
    loop {
        for (name, child) in std::mem::take(&mut left) {
            if !host.has_link(name) {
                continue;
            }
            if child.is_some_and(is_working) {
                left.push((name, child));
            } else {
                // No child, or one that is done, and an interface that is still there: so do it here and see why.
                host.delete_link(name)?;
            }
        }
        if left.is_empty() {
            return Ok(true);
        }
        std::thread::sleep(pause);
        pause = (pause * 4 / 3).min(LONGEST_PAUSE);
    }
}

fn is_working(child: Pid) -> bool {
    matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None))
}

/// Starts a child that deletes the interface. It outlives us and is reaped by init.
#[allow(unsafe_code, reason = "fork has no safe form")]
fn fork(name: &str) -> Option<Pid> {
    // SAFETY: this process has one thread, so no lock is held in the copy by a thread that the copy lacks.
    let child = unsafe { libc::fork() };
    if child == 0 {
        fault::kill_before("child");
        let deleted = let_go_of_the_caller()
            && Netlink::open()
                .and_then(|mut host| host.delete_link(name))
                .is_ok();
        // SAFETY: nothing of this process is used afterwards.
        unsafe { libc::_exit(i32::from(!deleted)) }
    }
    Pid::from_raw(child)
}

/// Closes the copies of the caller's standard streams: it reads ours to their end.
#[allow(unsafe_code, reason = "the standard streams have no owner to ask")]
fn let_go_of_the_caller() -> bool {
    use std::os::fd::AsRawFd;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    null.is_ok_and(|null| {
        // SAFETY: the three streams are ours alone in this process, and nothing else has these numbers.
        (0..3).all(|stream| unsafe { libc::dup2(null.as_raw_fd(), stream) } == stream)
    })
}
