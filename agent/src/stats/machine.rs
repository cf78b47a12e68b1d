//! What the machine is, for `/metrics/cadvisor`.

use std::fs;
use std::path::Path;

use gantry_agent_core::stats::machine::{Dimms, MachineFacts, cores_and_sockets};
use jiff::{SignedDuration, Timestamp};

use crate::node::Machine;

/// Memory modules, where the kernel has a driver for the memory controller.
const MEMORY_CONTROLLERS: &str = "/sys/devices/system/edac/mc";

/// From what the Node object tells, and what only this page does.
pub(super) fn facts(machine: &Machine) -> MachineFacts {
    let bytes = |amount: i64| u64::try_from(amount).unwrap_or(0);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let (cores, sockets) = cores_and_sockets(&cpuinfo);
    let cpus = u64::from(machine.cpus);
    MachineFacts {
        machine_id: machine.machine_id.clone(),
        system_uuid: machine.system_uuid.clone(),
        boot_id: machine.boot_id.clone(),
        kernel: machine.kernel.clone(),
        os_image: machine.os_image.clone(),
        cpus,
        // Some architectures name no cores in cpuinfo.
        cores: if cores == 0 { cpus } else { cores },
        sockets: sockets.max(1),
        memory_bytes: bytes(machine.memory_bytes),
        swap_bytes: bytes(machine.swap_bytes),
        dimms: dimms(Path::new(MEMORY_CONTROLLERS)),
    }
}

/// When the machine was booted; the epoch when nobody knows.
pub(super) fn boot_time() -> Timestamp {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    seconds
        .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok())
        .and_then(|uptime| Timestamp::now().checked_sub(uptime).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn dimms(controllers: &Path) -> Vec<Dimms> {
    let below = |folder: &Path, prefix: &'static str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter(move |entry| {
                entry
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(prefix.as_bytes())
            })
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
    };
    let mut found: Vec<Dimms> = Vec::new();
    let modules = below(controllers, "mc")
        .into_iter()
        .flat_map(|of| below(&of, "dimm"));
    for module in modules {
        let text = |name: &str| fs::read_to_string(module.join(name)).ok();
        let (Some(kind), Some(size)) = (text("dimm_mem_type"), text("size")) else {
            continue;
        };
        let (kind, mebibytes) = (kind.trim(), size.trim().parse::<u64>().unwrap_or(0));
        let bytes = mebibytes.saturating_mul(1 << 20);
        match found.iter_mut().find(|dimms| dimms.kind == kind) {
            Some(dimms) => {
                dimms.count += 1;
                dimms.bytes = dimms.bytes.saturating_add(bytes);
            }
            None => found.push(Dimms {
                kind: kind.to_owned(),
                count: 1,
                bytes,
            }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_modules_are_summed_by_kind() {
        let root = tempfile::tempdir().unwrap();
        for (module, kind, size) in [
            ("mc0/dimm0", "DDR4", "1024"),
            ("mc0/dimm1", "DDR4", "1024"),
            ("mc1/dimm0", "DDR5", "1"),
        ] {
            let folder = root.path().join(module);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("dimm_mem_type"), format!("{kind}\n")).unwrap();
            fs::write(folder.join("size"), format!("{size}\n")).unwrap();
        }
        let mut found = dimms(root.path());
        found.sort_by(|one, other| one.kind.cmp(&other.kind));
        let seen: Vec<_> = found
            .iter()
            .map(|dimms| (dimms.kind.as_str(), dimms.count, dimms.bytes))
            .collect();
        assert_eq!(seen, [("DDR4", 2, 2 << 30), ("DDR5", 1, 1 << 20)]);
    }

    #[test]
    fn this_machine_was_booted() {
        let boot = boot_time();
        assert!(boot > Timestamp::UNIX_EPOCH && boot < Timestamp::now());
    }
}
