//! `/proc/<pid>/net/dev`: the network interfaces of a process's network namespace.

use super::{digits, lines, text, words};
use crate::stats::figures::Interface;

/// Interfaces that are not counted: loopback, and the host's ends of what is counted elsewhere.
const IGNORED: [&[u8]; 4] = [b"lo", b"veth", b"docker", b"nerdctl"];

/// All interfaces but the ignored ones; none when a line is not understood, as in the reference.
#[must_use]
pub fn interfaces(file: &[u8]) -> Vec<Interface> {
    let found: Option<Vec<Option<Interface>>> = lines(file).skip(2).map(interface).collect();
    found.unwrap_or_default().into_iter().flatten().collect()
}

/// `NAME: 8 numbers received, 8 sent`. The inner `None`: it is ignored.
fn interface(line: &[u8]) -> Option<Option<Interface>> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = line[..colon].trim_ascii();
    let mut numbers = [0_u64; 16];
    let mut values = words(&line[colon + 1..]);
    for number in &mut numbers {
        *number = digits(values.next()?)?;
    }
    if values.next().is_some() {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    if IGNORED.iter().any(|prefix| lower.starts_with(prefix)) {
        return Some(None);
    }
    Some(Some(Interface {
        name: text(name),
        rx_bytes: numbers[0],
        rx_packets: numbers[1],
        rx_errors: numbers[2],
        rx_dropped: numbers[3],
        tx_bytes: numbers[8],
        tx_packets: numbers[9],
        tx_errors: numbers[10],
        tx_dropped: numbers[11],
    }))
}
