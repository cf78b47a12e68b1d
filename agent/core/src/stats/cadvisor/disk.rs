//! Disks: what cgroups read and write, and the node's file systems.
//!
//! A row has a line for each block device that its cgroup used; the node's row also one for each file system. Where
//! both have the same name only the cgroup's is written: no two lines may have the same labels.

use super::{Family, Out, Place, Row, Value, counter, gauge};
use crate::stats::figures::{Cost, Device, FileSystem, Operation, Operations};
use crate::stats::text;

pub(super) const SPACE: &[Family] = &[
    gauge(
        "container_fs_inodes_free",
        "Number of available Inodes",
        |row, out| {
            room(row, out, |fs| Value::Number(fs.room.inodes_free));
        },
    ),
    gauge("container_fs_inodes_total", "Number of Inodes", |row, out| {
        room(row, out, |fs| Value::Number(fs.room.inodes));
    }),
    gauge(
        "container_fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem.",
        |row, out| room(row, out, |fs| Value::Number(fs.room.capacity)),
    ),
    gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
        |row, out| room(row, out, |fs| Value::Number(fs.room.used())),
    ),
];

pub(super) const WORK: &[Family] = &[
    counter(
        "container_fs_reads_bytes_total",
        "Cumulative count of bytes read",
        |row, out| work(row, out, |device| device.bytes, Operation::Read, None),
    ),
    counter(
        "container_fs_reads_total",
        "Cumulative count of reads completed",
        |row, out| {
            let disk = |fs: &FileSystem| fs.disk.reads;
            work(row, out, |device| device.count, Operation::Read, Some(disk));
        },
    ),
    counter(
        "container_fs_sector_reads_total",
        "Cumulative count of sector reads completed",
        |row, out| room(row, out, |fs| Value::Number(fs.disk.sectors_read)),
    ),
    counter(
        "container_fs_reads_merged_total",
        "Cumulative count of reads merged",
        |row, out| room(row, out, |fs| Value::Number(fs.disk.reads_merged)),
    ),
    counter(
        "container_fs_read_seconds_total",
        "Cumulative count of seconds spent reading",
        |row, out| room(row, out, |fs| Value::Millis(fs.disk.read_ms)),
    ),
    counter(
        "container_fs_writes_bytes_total",
        "Cumulative count of bytes written",
        |row, out| work(row, out, |device| device.bytes, Operation::Write, None),
    ),
    counter(
        "container_fs_writes_total",
        "Cumulative count of writes completed",
        |row, out| {
            let disk = |fs: &FileSystem| fs.disk.writes;
            work(row, out, |device| device.count, Operation::Write, Some(disk));
        },
    ),
    counter(
        "container_fs_sector_writes_total",
        "Cumulative count of sector writes completed",
        |row, out| room(row, out, |fs| Value::Number(fs.disk.sectors_written)),
    ),
    counter(
        "container_fs_writes_merged_total",
        "Cumulative count of writes merged",
        |row, out| room(row, out, |fs| Value::Number(fs.disk.writes_merged)),
    ),
    counter(
        "container_fs_write_seconds_total",
        "Cumulative count of seconds spent writing",
        |row, out| room(row, out, |fs| Value::Millis(fs.disk.write_ms)),
    ),
    gauge(
        "container_fs_io_current",
        "Number of I/Os currently in progress",
        |row, out| room(row, out, |fs| Value::Number(fs.disk.in_progress)),
    ),
    counter(
        "container_fs_io_time_seconds_total",
        "Cumulative count of seconds spent doing I/Os",
        |row, out| room(row, out, |fs| Value::Millis(fs.disk.io_ms)),
    ),
    counter(
        "container_fs_io_time_weighted_seconds_total",
        "Cumulative weighted I/O time in seconds",
        |row, out| room(row, out, |fs| Value::Millis(fs.disk.weighted_io_ms)),
    ),
    counter(
        "container_blkio_device_usage_total",
        "Blkio Device bytes usage",
        usage,
    ),
];

/// Only where io.cost is in use.
pub(super) const COST: &[Family] = &[
    counter(
        "container_fs_io_cost_usage_seconds_total",
        "Cumulative IOCost usage in seconds",
        |row, out| cost(row, out, |cost| cost.usage_us),
    ),
    counter(
        "container_fs_io_cost_wait_seconds_total",
        "Cumulative IOCost wait in seconds",
        |row, out| cost(row, out, |cost| cost.wait_us),
    ),
    counter(
        "container_fs_io_cost_indebt_seconds_total",
        "Cumulative IOCost debt in seconds",
        |row, out| cost(row, out, |cost| cost.indebt_us),
    ),
    counter(
        "container_fs_io_cost_indelay_seconds_total",
        "Cumulative IOCost delay in seconds",
        |row, out| cost(row, out, |cost| cost.indelay_us),
    ),
];

fn room(row: &Row, out: &mut Out<'_>, of: fn(&FileSystem) -> Value) {
    for fs in &row.file_systems {
        out.named((Place::AfterContainer, "device", &fs.device), of(fs));
    }
}

/// Each device with its label, and each label once: several devices that nobody can name would make equal lines.
fn each(
    row: &Row,
    out: &mut Out<'_>,
    wanted: impl Fn(&Device) -> bool,
    mut put: impl FnMut(&mut Out<'_>, &str, &Device),
) {
    let devices = &row.figures.devices;
    for (at, device) in devices.iter().enumerate().filter(|(_, device)| wanted(device)) {
        let label = out.device(device);
        let mut before = devices.iter().take(at).filter(|device| wanted(device));
        if before.all(|other| out.device(other) != label) {
            put(out, label, device);
        }
    }
}

fn work(
    row: &Row,
    out: &mut Out<'_>,
    of: fn(&Device) -> Operations,
    operation: Operation,
    disk: Option<fn(&FileSystem) -> u64>,
) {
    let used = |device: &Device| !of(device).is_empty();
    each(row, out, used, |out, label, device| {
        let value = of(device).get(operation).unwrap_or(0);
        out.with(&[(Place::AfterContainer, label)], Value::Number(value));
    });
    let Some(disk) = disk else { return };
    for fs in &row.file_systems {
        let mut label = String::new();
        text::label(&mut label, "device", &fs.device);
        let mut devices = row.figures.devices.iter().filter(|device| used(device));
        if devices.all(|device| out.device(device) != label) {
            out.with(&[(Place::AfterContainer, &label)], Value::Number(disk(fs)));
        }
    }
}

fn usage(row: &Row, out: &mut Out<'_>) {
    for device in &row.figures.devices {
        let name = out.device(device);
        let numbers = format!("major=\"{}\",minor=\"{}\"", device.major, device.minor);
        for operation in Operation::ALL {
            let Some(bytes) = device.bytes.get(operation) else {
                continue;
            };
            let labels = [
                (Place::AfterContainer, name),
                (Place::AfterImage, &numbers),
                (Place::AfterNamespace, operation.label()),
            ];
            out.with(&labels, Value::Number(bytes));
        }
    }
}

fn cost(row: &Row, out: &mut Out<'_>, of: fn(&Cost) -> Option<u64>) {
    let charged = |device: &Device| of(&device.cost).is_some();
    each(row, out, charged, |out, label, device| {
        let value = of(&device.cost).unwrap_or(0);
        out.with(&[(Place::AfterContainer, label)], Value::Micros(value));
    });
}
