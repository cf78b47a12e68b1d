//! What the machine is: identity, kernel, processors, memory. Read once at the start, except what can change.
//!
//! The sources are those of the reference (cadvisor `machine` and `utils/sysinfo`), so that a node keeps its
//! identity when the agent replaces a kubelet.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Facts that do not change while the machine runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// `/etc/machine-id`.
    pub(crate) machine_id: String,
    /// The firmware's UUID, else the machine id.
    pub(crate) system_uuid: String,
    /// Changes with each boot.
    pub(crate) boot_id: String,
    /// `uname -r`.
    pub(crate) kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub(crate) os_image: String,
    /// Go's word for the processor architecture.
    pub(crate) arch: &'static str,
    /// Online logical processors.
    pub(crate) cpus: u32,
    /// Total memory.
    pub(crate) memory_bytes: i64,
    /// Total swap space.
    pub(crate) swap_bytes: i64,
    /// How many processes and threads there can be.
    pub(crate) pids: Option<i64>,
    /// Resource name (`hugepages-2Mi`) to bytes reserved.
    pub(crate) hugepages: BTreeMap<String, i64>,
}

impl Machine {
    /// Read everything below `root`, which is `/` except in tests. What is missing stays empty.
    pub(crate) fn read(root: &Path) -> Self {
        let text = |path: &str| read(root, path);
        let machine_id = first([text("etc/machine-id"), text("var/lib/dbus/machine-id")]);
        let meminfo = meminfo(root);
        Self {
            system_uuid: first([
                text("sys/class/dmi/id/product_uuid"),
                text("proc/device-tree/system-id"),
                text("proc/device-tree/vm,uuid"),
                machine_id.clone(),
            ])
            .trim_end_matches('\0')
            .to_owned(),
            machine_id,
            boot_id: text("proc/sys/kernel/random/boot_id"),
            kernel: text("proc/sys/kernel/osrelease"),
            os_image: os_image(&first([text("etc/os-release"), text("usr/lib/os-release")])),
            arch: go_arch(std::env::consts::ARCH),
            cpus: count_cpus(&text("sys/devices/system/cpu/online")),
            memory_bytes: meminfo.get("MemTotal").copied().unwrap_or(0),
            swap_bytes: meminfo.get("SwapTotal").copied().unwrap_or(0),
            pids: [
                text("proc/sys/kernel/pid_max"),
                text("proc/sys/kernel/threads-max"),
            ]
            .iter()
            .filter_map(|number| number.parse().ok())
            .min(),
            hugepages: hugepages(root),
        }
    }
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn first<const N: usize>(texts: [String; N]) -> String {
    texts
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// `/proc/meminfo` in bytes.
pub(super) fn meminfo(root: &Path) -> BTreeMap<String, i64> {
    read(root, "proc/meminfo")
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let mut words = rest.split_ascii_whitespace();
            let amount: i64 = words.next()?.parse().ok()?;
            let unit = if words.next() == Some("kB") { 1024 } else { 1 };
            Some((name.to_owned(), amount.checked_mul(unit)?))
        })
        .collect()
}

fn os_image(os_release: &str) -> String {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map_or_else(
        || "Unknown".to_owned(),
        |name| name.trim_matches(['"', '\'']).to_owned(),
    )
}

fn go_arch(arch: &'static str) -> &'static str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Processors in the kernel's list notation, `0-3,8`; at least one.
fn count_cpus(list: &str) -> u32 {
    let part = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
        Some(high.checked_sub(low)?.saturating_add(1))
    };
    list.split(',')
        .filter_map(part)
        .fold(0, u32::saturating_add)
        .max(1)
}

/// Pages of each size that the kernel supports, also when none are reserved.
fn hugepages(root: &Path) -> BTreeMap<String, i64> {
    let dir: PathBuf = root.join("sys/kernel/mm/hugepages");
    let sizes = fs::read_dir(&dir).into_iter().flatten().flatten();
    sizes
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: i64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let pages: i64 = fs::read_to_string(entry.path().join("nr_hugepages"))
                .ok()?
                .trim()
                .parse()
                .ok()?;
            let size = super::resources::binary(kib.checked_mul(1024)?);
            Some((
                format!("hugepages-{}", size.0),
                pages.checked_mul(kib)?.checked_mul(1024)?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_machine_from_files() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/machine-id", "0123abc\n"),
            (
                "etc/os-release",
                "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n",
            ),
            ("proc/sys/kernel/random/boot_id", "b00t\n"),
            ("proc/sys/kernel/osrelease", "6.12.0-amd64\n"),
            (
                "proc/meminfo",
                "MemTotal:       16384000 kB\nHugePages_Total:       0\nSwapTotal: 1024 kB\n",
            ),
            ("sys/devices/system/cpu/online", "0-3,8\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4\n"),
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine::read(root.path());
        assert_eq!(machine.machine_id, "0123abc");
        assert_eq!(machine.system_uuid, "0123abc");
        assert_eq!(machine.boot_id, "b00t");
        assert_eq!(machine.os_image, "Debian GNU/Linux 13 (trixie)");
        assert_eq!(
            (machine.cpus, machine.memory_bytes, machine.swap_bytes),
            (5, 16_777_216_000, 1 << 20)
        );
        let pages: Vec<_> = machine.hugepages.into_iter().collect();
        assert_eq!(
            pages,
            [
                ("hugepages-1Gi".to_owned(), 0),
                ("hugepages-2Mi".to_owned(), 8 << 20)
            ]
        );
    }

    #[test]
    fn an_empty_machine_is_no_panic() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::read(root.path());
        assert_eq!((machine.cpus, machine.memory_bytes), (1, 0));
        assert_eq!(machine.os_image, "Unknown");
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::read(Path::new("/"));
        assert!(
            machine.cpus > 0 && machine.memory_bytes > 0 && !machine.boot_id.is_empty(),
            "{machine:?}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_list_of_processors_and_any_release_is_read(list in "[0-9,-]{0,30}|.{0,30}", release: String) {
            proptest::prop_assert!(count_cpus(&list) >= 1);
            let _ = os_image(&release);
        }
    }
}
