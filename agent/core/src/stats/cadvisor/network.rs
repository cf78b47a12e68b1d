//! Network interfaces: of sandboxes and of the node.

use super::{Family, Out, Place, Row, Value, counter};
use crate::stats::figures::Interface;

pub(super) const FAMILIES: &[Family] = &[
    counter(
        "container_network_receive_bytes_total",
        "Cumulative count of bytes received",
        |row, out| each(row, out, |of| of.rx_bytes),
    ),
    counter(
        "container_network_receive_packets_total",
        "Cumulative count of packets received",
        |row, out| each(row, out, |of| of.rx_packets),
    ),
    counter(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
        |row, out| each(row, out, |of| of.rx_dropped),
    ),
    counter(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |row, out| each(row, out, |of| of.rx_errors),
    ),
    counter(
        "container_network_transmit_bytes_total",
        "Cumulative count of bytes transmitted",
        |row, out| each(row, out, |of| of.tx_bytes),
    ),
    counter(
        "container_network_transmit_packets_total",
        "Cumulative count of packets transmitted",
        |row, out| each(row, out, |of| of.tx_packets),
    ),
    counter(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        |row, out| each(row, out, |of| of.tx_dropped),
    ),
    counter(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |row, out| each(row, out, |of| of.tx_errors),
    ),
];

fn each(row: &Row, out: &mut Out<'_>, of: fn(&Interface) -> u64) {
    for interface in row.figures.interfaces.iter().flatten() {
        let label = (Place::AfterImage, "interface", interface.name.as_str());
        out.named(label, Value::Number(of(interface)));
    }
}
