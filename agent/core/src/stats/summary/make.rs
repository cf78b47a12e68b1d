//! The parts of the summary, from the model.

use jiff::Timestamp;

use super::{Cpu, Fs, Interface, Io, Memory, Network, Psi, PsiData, Swap, Time};
use crate::stats::figures::{self, Figures, Limits, Pressure, Room, Stall, Usage, limited};

/// What one cgroup uses, may use, and uses just now.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// What it uses.
    pub figures: &'a Figures,
    /// What it may use.
    pub limits: &'a Limits,
    /// Thousand-millionths of a CPU.
    pub nano_cores: u64,
}

impl Reading<'_> {
    /// CPU.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        Cpu {
            usage_nano_cores: Some(self.nano_cores),
            usage_core_nano_seconds: Some(self.figures.cpu.usage_ns),
            psi: Some(psi(self.figures.pressures.unwrap_or_default().cpu)),
            ..Cpu::at(self.figures.at)
        }
    }

    /// Memory; a working set of zero without the controller.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let at = Memory::at(self.figures.at);
        let Some(memory) = self.figures.memory else {
            return Memory {
                working_set_bytes: Some(0),
                ..at
            };
        };
        let working_set = memory.working_set();
        Memory {
            available_bytes: limited(self.limits.memory).map(|limit| limit.saturating_sub(working_set)),
            usage_bytes: Some(memory.usage),
            working_set_bytes: Some(working_set),
            rss_bytes: Some(memory.rss),
            page_faults: Some(memory.faults),
            major_page_faults: Some(memory.major_faults),
            psi: Some(psi(self.figures.pressures.unwrap_or_default().memory)),
            ..at
        }
    }

    /// Swap; `None` without the memory controller.
    #[must_use]
    pub fn swap(&self) -> Option<Swap> {
        let memory = self.figures.memory?;
        Some(Swap {
            swap_available_bytes: limited(self.limits.swap).map(|limit| limit.saturating_sub(memory.swap)),
            swap_usage_bytes: Some(memory.swap),
            ..Swap::at(self.figures.at)
        })
    }

    /// Disks' pressure; `None` without the controller.
    #[must_use]
    pub fn io(&self) -> Option<Io> {
        self.figures.has_io.then(|| Io {
            psi: Some(psi(self.figures.pressures.unwrap_or_default().io)),
            ..Io::at(self.figures.at)
        })
    }

    /// The network of a sandbox or of the node.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        let all = self.figures.interfaces.as_ref()?;
        let interfaces: Vec<Interface> = all.iter().map(interface).collect();
        Some(Network {
            time: Time(self.figures.at),
            main: interfaces
                .iter()
                .find(|interface| interface.name == "eth0")
                .cloned()
                .unwrap_or_default(),
            interfaces,
        })
    }
}

fn psi(of: Pressure) -> Psi {
    let data = |stall: Stall| PsiData {
        total: stall.total_us,
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
    };
    Psi {
        full: data(of.full),
        some: data(of.some),
    }
}

fn interface(of: &figures::Interface) -> Interface {
    Interface {
        name: of.name.clone(),
        rx_bytes: Some(of.rx_bytes),
        rx_errors: Some(of.rx_errors),
        tx_bytes: Some(of.tx_bytes),
        tx_errors: Some(of.tx_errors),
    }
}

/// A file system's room, and what is taken of it when that is known.
#[must_use]
pub fn fs(at: Timestamp, room: Option<Room>, usage: Option<Usage>) -> Fs {
    Fs {
        available_bytes: room.map(|room| room.available),
        capacity_bytes: room.map(|room| room.capacity),
        inodes: room.map(|room| room.inodes),
        inodes_free: room.map(|room| room.inodes_free),
        used_bytes: usage.map(|usage| usage.bytes),
        inodes_used: usage.map(|usage| usage.inodes),
        ..Fs::at(at)
    }
}

/// A whole file system: what is taken is what is not free.
#[must_use]
pub fn whole_fs(at: Timestamp, room: Room) -> Fs {
    let usage = Usage {
        bytes: room.used(),
        inodes: room.inodes_used(),
    };
    fs(at, Some(room), Some(usage))
}

/// All that a pod has on the node's own disk: what its parts take, in the file system of the agent's directory. The
/// time is that of the newest part.
#[must_use]
pub fn ephemeral<'a>(whole: &Fs, parts: impl Iterator<Item = &'a Fs>) -> Fs {
    let mut sum = Fs {
        used_bytes: None,
        inodes_used: None,
        ..*whole
    };
    for part in parts {
        sum.time = sum.time.max(part.time);
        sum.used_bytes = add(sum.used_bytes, part.used_bytes);
        sum.inodes_used = add(sum.inodes_used, part.inodes_used);
    }
    sum
}

fn add(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
