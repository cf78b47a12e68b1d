//! Failures on demand, for tests; release builds have none.

use std::fmt::Display;

use crate::error::Failure;

/// `GANTRY_CNI_FAULT=kill:N` dies as by SIGKILL before step N of ADD's plan, `fail:N` lets it fail.
pub(crate) fn before(step: usize) -> Result<(), Failure> {
    kill_before(step);
    if wanted("fail", step) {
        let source = std::io::Error::other("a fault was injected");
        return Err(crate::netlink::NetlinkError::Refused {
            operation: format!("take step {step}"),
            source,
        }
        .into());
    }
    Ok(())
}

/// `kill:<name>` dies as by SIGKILL before this step of DEL or GC.
pub(crate) fn kill_before(step: impl Display) {
    if wanted("kill", step) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

fn wanted(kind: &str, step: impl Display) -> bool {
    cfg!(debug_assertions)
        && std::env::var("GANTRY_CNI_FAULT").is_ok_and(|wanted| wanted == format!("{kind}:{step}"))
}
