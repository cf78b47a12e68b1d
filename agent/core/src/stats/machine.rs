//! The machine in `/metrics/cadvisor`: what it has, not what is used.

use super::text::{Kind, Text, Value, label};

/// What does not change while the machine runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineFacts {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's UUID.
    pub system_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// Logical processors.
    pub cpus: u64,
    /// Processor cores.
    pub cores: u64,
    /// Processor packages.
    pub sockets: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub swap_bytes: u64,
    /// Memory modules, where the kernel knows them.
    pub dimms: Vec<Dimms>,
}

/// Memory modules of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dimms {
    /// `Unbuffered-DDR4`.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// All together.
    pub bytes: u64,
}

/// How many cores and packages `/proc/cpuinfo` names: lines `core id` and `physical id` with different numbers, counted
/// as the reference does (over all packages).
#[must_use]
pub fn cores_and_sockets(cpuinfo: &str) -> (u64, u64) {
    let different = |key: &str| {
        let values = cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| name.trim_end() == key)
            .map(|(_, value)| value.trim());
        let all: std::collections::BTreeSet<&str> = values.collect();
        u64::try_from(all.len()).unwrap_or(0)
    };
    (different("core id"), different("physical id"))
}

/// The line that names the versions. There is no cadvisor here: its version is empty, as in a kubelet.
pub(super) fn version(facts: &MachineFacts, text: &mut Text) {
    text.family(
        "cadvisor_version_info",
        "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.",
        Kind::Gauge,
    );
    let mut labels = String::new();
    for (name, value) in [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", facts.kernel.as_str()),
        ("osVersion", facts.os_image.as_str()),
    ] {
        label(&mut labels, name, value);
    }
    text.plain("cadvisor_version_info", &labels)
        .value(Value::Number(1));
}

/// All other lines. They are facts: none has a time.
pub(super) fn write(facts: &MachineFacts, text: &mut Text) {
    let own = labels(facts, None);
    for (name, help, value) in [
        (
            "machine_cpu_physical_cores",
            "Number of physical CPU cores.",
            facts.cores,
        ),
        ("machine_cpu_cores", "Number of logical CPU cores.", facts.cpus),
        ("machine_cpu_sockets", "Number of CPU sockets.", facts.sockets),
        // Mainframes have these.
        ("machine_cpu_books", "Number of CPU books.", 0),
        ("machine_cpu_drawers", "Number of CPU drawers.", 0),
        (
            "machine_memory_bytes",
            "Amount of memory installed on the machine.",
            facts.memory_bytes,
        ),
        (
            "machine_swap_bytes",
            "Amount of swap memory available on the machine.",
            facts.swap_bytes,
        ),
        // Nobody builds a kubelet with the library that could tell.
        ("machine_nvm_avg_power_budget_watts", "NVM power budget.", 0),
    ] {
        text.family(name, help, Kind::Gauge);
        text.plain(name, &own).value(Value::Number(value));
    }
    text.family(
        "machine_nvm_capacity",
        "NVM capacity value labeled by NVM mode (memory mode or app direct mode).",
        Kind::Gauge,
    );
    for mode in ["app_direct_mode", "memory_mode"] {
        let labels = labels(facts, Some(("mode", mode)));
        text.plain("machine_nvm_capacity", &labels)
            .value(Value::Number(0));
    }
    dimms(facts, text);
    text.family(
        "machine_scrape_error",
        "1 if there was an error while getting machine metrics, 0 otherwise.",
        Kind::Gauge,
    );
    text.plain("machine_scrape_error", "").value(Value::Number(0));
}

fn dimms(facts: &MachineFacts, text: &mut Text) {
    type Figure = fn(&Dimms) -> u64;
    let families: [(&str, &str, Figure); 2] = [
        (
            "machine_dimm_count",
            "Number of RAM DIMM (all types memory modules) value labeled by dimm type.",
            |dimms| dimms.count,
        ),
        (
            "machine_dimm_capacity_bytes",
            "Total RAM DIMM capacity (all types memory modules) value labeled by dimm type.",
            |dimms| dimms.bytes,
        ),
    ];
    for (name, help, of) in families {
        if !facts.dimms.is_empty() {
            text.family(name, help, Kind::Gauge);
        }
        for dimms in &facts.dimms {
            let labels = labels(facts, Some(("type", &dimms.kind)));
            text.plain(name, &labels).value(Value::Number(of(dimms)));
        }
    }
}

/// In alphabetical order.
fn labels(facts: &MachineFacts, extra: Option<(&str, &str)>) -> String {
    let mut all = vec![
        ("boot_id", facts.boot_id.as_str()),
        ("machine_id", &facts.machine_id),
        ("system_uuid", &facts.system_uuid),
    ];
    all.extend(extra);
    all.sort_unstable();
    let mut text = String::new();
    for (name, value) in all {
        label(&mut text, name, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_cores_and_packages() {
        let cpu = |core: u32, package: u32| {
            format!("processor\t: 0\nphysical id\t: {package}\ncore id\t\t: {core}\n\n")
        };
        let text: String = [cpu(0, 0), cpu(1, 0), cpu(0, 0), cpu(1, 0)].concat();
        assert_eq!(cores_and_sockets(&text), (2, 1));
        assert_eq!(cores_and_sockets(""), (0, 0));
    }

    #[test]
    fn a_label_of_its_own_is_in_its_place() {
        let facts = MachineFacts {
            dimms: vec![Dimms {
                kind: "DDR".to_owned(),
                count: 2,
                bytes: 8,
            }],
            ..MachineFacts::default()
        };
        let mut text = Text::default();
        write(&facts, &mut text);
        let text = String::from_utf8(text.finish()).unwrap();
        assert!(
            text.contains(
                "machine_nvm_capacity{boot_id=\"\",machine_id=\"\",mode=\"memory_mode\",system_uuid=\"\"} 0\n"
            ),
            "{text}"
        );
        assert!(text.contains("system_uuid=\"\",type=\"DDR\"} 8\n"), "{text}");
    }
}
