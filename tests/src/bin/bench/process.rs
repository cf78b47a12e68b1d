//! What a program of a machine uses: processor time and memory.

use std::time::Duration;

use gantry_tests::cluster::{Cluster, Machine, NodeProxy};

/// Clock ticks in a second: the kernel shows user space 100, whatever it uses itself (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// A unit's main process.
pub(crate) struct Process {
    machine: Machine,
    pid: u32,
}

impl Process {
    pub(crate) fn of(unit: &str, machine: &str) -> Self {
        let machine = Machine::named(machine);
        let pid = machine.main_process(unit);
        Self { machine, pid }
    }

    /// The node's service proxy, a unit's or a pod's.
    pub(crate) fn of_proxy(cluster: &Cluster, machine: &str) -> Self {
        let pid = NodeProxy::on(cluster, machine).process();
        Self {
            machine: Machine::named(machine),
            pid,
        }
    }

    fn read(&self, file: &str) -> String {
        let path = self.machine.path(&format!("/proc/{}/{file}", self.pid));
        std::fs::read_to_string(&path).expect("the process lives")
    }

    /// User and system time so far, also of the programs that it ran and waited for: kube-proxy writes by running nft.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.read("stat");
        // The name, in brackets, may have spaces; user and system time are fields 14 and 15, the children's 16 and 17.
        let fields: Vec<_> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11..15]
            .iter()
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        Duration::from_secs_f64(ticks / TICKS_PER_SECOND)
    }

    /// Resident memory in MiB.
    pub(crate) fn rss_mib(&self) -> f64 {
        let status = self.read("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        let kib: f64 = line
            .split_whitespace()
            .next()
            .and_then(|kib| kib.parse().ok())
            .expect("VmRSS is a number");
        kib / 1024.0
    }

    /// Processor use over that time, in thousandths of a core.
    pub(crate) fn millicores(&self, over: Duration) -> f64 {
        let before = self.cpu();
        std::thread::sleep(over);
        (self.cpu() - before).as_secs_f64() / over.as_secs_f64() * 1000.0
    }
}
