//! First packets of connections, made by hand: SYN, datagram and INIT, and who gets them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use gantry_policy_core::Protocol;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::sctp;

/// The raw sockets of a host: one for each protocol and family.
pub(super) struct Wire(Vec<Socket>);

struct Socket {
    protocol: Protocol,
    is_ipv6: bool,
    socket: OwnedFd,
}

/// What of a packet is looked at.
pub(super) struct Packet {
    pub(super) from: IpAddr,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

impl Wire {
    /// In the host's namespace.
    pub(super) fn open(addresses: [IpAddr; 2]) -> Self {
        let protocols = [
            (Protocol::Tcp, ipproto::TCP),
            (Protocol::Udp, ipproto::UDP),
            (Protocol::Sctp, ipproto::SCTP),
        ];
        let sockets = addresses.iter().flat_map(|address| {
            protocols.map(|(protocol, number)| {
                let family = if address.is_ipv6() {
                    AddressFamily::INET6
                } else {
                    AddressFamily::INET
                };
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = rustix::net::socket_with(family, SocketType::RAW, flags, Some(number)).unwrap();
                Socket {
                    protocol,
                    is_ipv6: address.is_ipv6(),
                    socket,
                }
            })
        });
        Self(sockets.collect())
    }

    /// `ports`: source and destination.
    pub(super) fn send(&self, from: IpAddr, to: IpAddr, protocol: Protocol, ports: [u16; 2]) {
        let is_it = |one: &&Socket| one.protocol == protocol && one.is_ipv6 == to.is_ipv6();
        let socket = self.0.iter().find(is_it).unwrap();
        let bytes = match protocol {
            Protocol::Tcp => with_sum(from, to, 6, syn(ports), 16),
            Protocol::Udp => with_sum(from, to, 17, datagram(ports), 6),
            Protocol::Sctp => sctp::message((ports[0], ports[1]), 0, sctp::INIT),
        };
        rustix::net::sendto(
            &socket.socket,
            &bytes,
            SendFlags::empty(),
            &SocketAddr::new(to, 0),
        )
        .unwrap();
    }

    /// What has arrived from this port.
    pub(super) fn receive(&self, source_port: u16) -> Vec<Packet> {
        let mut packets = Vec::new();
        for Socket {
            protocol,
            is_ipv6,
            socket,
        } in &self.0
        {
            let mut buf = [0; 256];
            loop {
                let (len, _, from) = match rustix::net::recvfrom(socket, &mut buf, RecvFlags::empty()) {
                    Ok(received) => received,
                    Err(Errno::AGAIN) => break,
                    Err(error) => panic!("{error}"),
                };
                // With the header of IPv4, without that of IPv6.
                let start = if *is_ipv6 { 0 } else { usize::from(buf[0] & 15) * 4 };
                let bytes = &buf[start..len];
                let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                if port(0) == source_port {
                    packets.push(Packet {
                        from: SocketAddr::try_from(from.unwrap()).unwrap().ip(),
                        protocol: *protocol,
                        port: port(2),
                    });
                }
            }
        }
        packets
    }
}

fn syn(ports: [u16; 2]) -> Vec<u8> {
    let mut bytes: Vec<u8> = ports.into_iter().flat_map(u16::to_be_bytes).collect();
    // Sequence number, acknowledgement, five words, SYN, window; then the sum and the urgent pointer.
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

fn datagram(ports: [u16; 2]) -> Vec<u8> {
    let mut bytes: Vec<u8> = ports.into_iter().flat_map(u16::to_be_bytes).collect();
    bytes.extend([0, 9, 0, 0, b'?']);
    bytes
}

/// The Internet checksum (RFC 1071) over pseudo-header and message, put there.
fn with_sum(from: IpAddr, to: IpAddr, protocol: u8, mut message: Vec<u8>, at: usize) -> Vec<u8> {
    let mut summed: Vec<u8> = [from, to]
        .iter()
        .flat_map(|address| match address {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        })
        .collect();
    summed.extend([0, protocol]);
    summed.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    summed.extend(&message);
    let words = summed
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or_default()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    message
}
