//! A network namespace of a test's own. Needs root.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace with its loopback interface up, deleted with this value.
#[derive(Debug)]
pub(crate) struct Netns(String);

impl Netns {
    /// Whose addresses are of use at once, those of IPv6 too.
    pub(crate) fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let netns = Self(format!("gp-{}-{turn}-{role}", std::process::id()));
        ip(&["netns", "add", netns.name()]);
        netns.run(|| {
            for what in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{what}/accept_dad"), "0").expect("IPv6");
            }
        });
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// `ip` in the namespace; its output.
    pub(crate) fn ip(&self, args: &[&str]) -> String {
        ip(&[&["-n", self.name()], args].concat())
    }

    /// Runs something on a thread inside the namespace: what it opens or starts stays there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(format!("/var/run/netns/{}", self.0)).expect("the namespace exists");
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("these tests need root");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        ip(&["netns", "delete", self.name()]);
    }
}

fn ip(args: &[&str]) -> String {
    let out = Command::new("ip")
        .args(args)
        .output()
        .expect("iproute2 is installed");
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ip {}: {error}", args.join(" "));
    String::from_utf8(out.stdout).unwrap()
}
