//! The text of `/metrics/cadvisor`: some fifty figures for each cgroup, after those of the machine.
//!
//! Rows are the node (`/`), the cgroups above pods, pods, their sandboxes and containers, and the agent's own cgroup.
//! A pod's own row has no container and no image, so that sums over containers count nothing twice. Figures carry the
//! time when they were read, facts (limits, start) do not. Differences to the reference, on purpose:
//!
//! * figures are read when they are asked for, not up to 15 seconds before;
//! * the seconds of a file system's disk are seconds (the reference divides milliseconds as if they were nanoseconds);
//! * OOM kills are the kernel's count of the cgroup, so that none is missed while the agent is away.

mod cpu;
mod disk;
mod general;
mod memory;
mod network;

#[cfg(test)]
mod tests;

use std::iter::{Copied, Flatten};
use std::slice;
use std::sync::Arc;

use jiff::Timestamp;

use super::figures::{Device, Figures, FileSystem, Limits};
use super::machine::MachineFacts;
use super::text::{Kind, Labels, Place, Stamp, Text, Value};

/// One cgroup.
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose it is.
    pub labels: Arc<Labels>,
    /// What it uses.
    pub figures: Arc<Figures>,
    /// What it may use.
    pub limits: Limits,
    /// The node's own row has its file systems.
    pub file_systems: Vec<FileSystem>,
}

/// A block device's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceName {
    /// Device numbers.
    pub major: u64,
    /// Device numbers.
    pub minor: u64,
    /// `/dev/sda`.
    pub name: String,
}

/// Everything that one scrape tells.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// Now.
    pub at: Timestamp,
    /// The machine.
    pub machine: Arc<MachineFacts>,
    /// The cgroups.
    pub rows: Vec<Row>,
    /// Block devices; the first that fits names a device.
    pub devices: Vec<DeviceName>,
    /// Something could not be read.
    pub failed: bool,
}

/// The answer, in parts of whole families. A part is made when it is asked for, so it is sent while it is still in the
/// processor's cache, and a full node's four megabytes are never in memory together.
pub struct Parts {
    scrape: Scrape,
    now: Stamp,
    /// When each row was read.
    stamps: Vec<Stamp>,
    devices: Vec<DeviceText>,
    /// Room for a label that has to be written.
    spare: String,
    families: Flatten<Copied<slice::Iter<'static, &'static [Family]>>>,
    stage: Stage,
    /// The size of the part before, bytes.
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Families,
    Done,
}

/// A part has at least so many bytes, unless it is the last.
const PART: usize = 64 * 1024;

impl Scrape {
    /// The answer.
    #[must_use]
    pub fn parts(self) -> Parts {
        Parts {
            now: Stamp::new(self.at),
            stamps: self.rows.iter().map(|row| Stamp::new(row.figures.at)).collect(),
            devices: self.devices.iter().map(DeviceText::new).collect(),
            spare: String::new(),
            families: GROUPS.iter().copied().flatten(),
            stage: Stage::Head,
            size: PART,
            scrape: self,
        }
    }
}

impl Iterator for Parts {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.stage == Stage::Done {
            return None;
        }
        // Families of a node are about as long as each other.
        let mut text = Text::with_capacity(self.size + self.size / 2);
        if self.stage == Stage::Head {
            super::machine::version(&self.scrape.machine, &mut text);
            self.stage = Stage::Families;
        }
        while text.len() < PART {
            let Some(family) = self.families.next() else {
                self.finish(&mut text);
                self.stage = Stage::Done;
                break;
            };
            self.family(family, &mut text);
        }
        self.size = text.len();
        Some(text.finish())
    }
}

impl Parts {
    /// One family, unless nothing is in it.
    fn family(&mut self, family: &Family, text: &mut Text) {
        let before = text.len();
        text.family(family.name, family.help, family.kind);
        let head = text.len();
        for (row, at) in self.scrape.rows.iter().zip(&self.stamps) {
            let mut out = Out {
                text,
                name: family.name,
                labels: &row.labels,
                at,
                now: &self.now,
                seconds: self.scrape.at.as_second(),
                devices: &self.devices,
                spare: &mut self.spare,
            };
            (family.values)(row, &mut out);
        }
        if text.len() == head {
            text.truncate(before);
        }
    }

    fn finish(&self, text: &mut Text) {
        text.family(
            "container_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
            Kind::Gauge,
        );
        text.plain("container_scrape_error", "")
            .value(Value::Number(u64::from(self.scrape.failed)));
        super::machine::write(&self.scrape.machine, text);
    }
}

/// All families, in groups; the order of families has no meaning in the format.
const GROUPS: &[&[Family]] = &[
    general::FAMILIES,
    cpu::FAMILIES,
    memory::FAMILIES,
    disk::SPACE,
    disk::WORK,
    disk::COST,
    network::FAMILIES,
];

/// One family: its name and what a row has to say in it.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    values: fn(&Row, &mut Out<'_>),
}

const fn counter(name: &'static str, help: &'static str, values: fn(&Row, &mut Out<'_>)) -> Family {
    Family {
        name,
        help,
        kind: Kind::Counter,
        values,
    }
}

const fn gauge(name: &'static str, help: &'static str, values: fn(&Row, &mut Out<'_>)) -> Family {
    Family {
        name,
        help,
        kind: Kind::Gauge,
        values,
    }
}

/// Where a row's values of one family go.
struct Out<'a> {
    text: &'a mut Text,
    name: &'static str,
    labels: &'a Labels,
    at: &'a Stamp,
    now: &'a Stamp,
    seconds: i64,
    devices: &'a [DeviceText],
    /// Room for a label that has to be written.
    spare: &'a mut String,
}

/// A block device as a label, written once for all rows.
struct DeviceText {
    major: u64,
    minor: u64,
    label: String,
}

impl DeviceText {
    fn new(of: &DeviceName) -> Self {
        let mut label = String::new();
        super::text::label(&mut label, "device", &of.name);
        Self {
            major: of.major,
            minor: of.minor,
            label,
        }
    }
}

impl<'a> Out<'a> {
    /// A figure, at the time when it was read.
    fn put(&mut self, value: Value) {
        self.with(&[], value);
    }

    /// A figure with labels of its own, written out.
    fn with(&mut self, extra: &[(Place, &str)], value: Value) {
        self.text
            .line(self.name, self.labels, extra)
            .value_at(value, self.at);
    }

    /// A fact, without a time.
    fn fact(&mut self, value: Value) {
        self.text.line(self.name, self.labels, &[]).value(value);
    }

    /// Something of this moment.
    fn seen(&mut self) {
        let value = Value::Signed(self.seconds);
        self.text
            .line(self.name, self.labels, &[])
            .value_at(value, self.now);
    }

    /// A figure with one label of its own.
    fn named(&mut self, (place, name, of): (Place, &str, &str), value: Value) {
        self.spare.clear();
        super::text::label(self.spare, name, of);
        self.text
            .line(self.name, self.labels, &[(place, self.spare)])
            .value_at(value, self.at);
    }

    /// A device as a label; its name is empty when nobody knows it, as in the reference.
    fn device(&self, of: &Device) -> &'a str {
        let mut known = self.devices.iter();
        let found = known.find(|device| (device.major, device.minor) == (of.major, of.minor));
        found.map_or("device=\"\"", |device| device.label.as_str())
    }
}

fn number(out: &mut Out<'_>, value: u64) {
    out.put(Value::Number(value));
}
