//! Disk input and output of a cgroup: `io.stat` (version 2) and `blkio.*` (version 1).

use super::{digits, lines, words};
use crate::stats::figures::{Device, Operation, Operations};

/// Which figures a file of version 1 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `*io_service_bytes*`.
    Bytes,
    /// `*io_serviced*`.
    Count,
}

/// Version 2's `io.stat`: `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ...`.
pub fn stat(text: &[u8], devices: &mut Vec<Device>) {
    for line in lines(text) {
        let mut words = words(line);
        let Some((major, minor)) = words.next().and_then(numbers) else {
            continue;
        };
        for word in words {
            let Some((key, value)) = assignment(word) else {
                continue;
            };
            let device = find(devices, major, minor);
            match key {
                b"rbytes" => device.bytes.set(Operation::Read, value),
                b"wbytes" => device.bytes.set(Operation::Write, value),
                b"rios" => device.count.set(Operation::Read, value),
                b"wios" => device.count.set(Operation::Write, value),
                b"cost.usage" => device.cost.usage_us = Some(value),
                b"cost.wait" => device.cost.wait_us = Some(value),
                b"cost.indebt" => device.cost.indebt_us = Some(value),
                b"cost.indelay" => device.cost.indelay_us = Some(value),
                _ => {}
            }
        }
    }
}

/// A file of version 1: `MAJOR:MINOR OPERATION N`; the last line, a total, has no device.
pub fn blkio(text: &[u8], kind: Kind, devices: &mut Vec<Device>) {
    for line in lines(text) {
        let mut words = words(line);
        let (Some((major, minor)), Some(operation), Some(value)) = (
            words.next().and_then(numbers),
            words.next().and_then(Operation::parse),
            words.next().and_then(digits),
        ) else {
            continue;
        };
        let device = find(devices, major, minor);
        let operations: &mut Operations = match kind {
            Kind::Bytes => &mut device.bytes,
            Kind::Count => &mut device.count,
        };
        operations.set(operation, value);
    }
}

fn find(devices: &mut Vec<Device>, major: u64, minor: u64) -> &mut Device {
    let known = devices
        .iter()
        .position(|device| (device.major, device.minor) == (major, minor));
    let at = known.unwrap_or_else(|| {
        devices.push(Device {
            major,
            minor,
            ..Device::default()
        });
        devices.len() - 1
    });
    &mut devices[at]
}

/// `MAJOR:MINOR`.
pub(crate) fn numbers(text: &[u8]) -> Option<(u64, u64)> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((digits(&text[..colon])?, digits(&text[colon + 1..])?))
}

fn assignment(word: &[u8]) -> Option<(&[u8], u64)> {
    let sign = word.iter().position(|byte| *byte == b'=')?;
    Some((&word[..sign], digits(&word[sign + 1..])?))
}
