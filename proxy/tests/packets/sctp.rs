//! SCTP: behaviour 12. Its first two messages are made by hand, because not every kernel has its sockets.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use gantry_nft::Family;
use gantry_proxy::table::Layout;
use gantry_proxy_core::{Event, Policy, Port, Protocol, Service, ServicePort, Slice};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};

use crate::host::{Host, Outcome};
use crate::objects::*;
use crate::rig::{LAYOUT, Rig};

const PATIENCE: Duration = Duration::from_millis(600);
pub(crate) const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// The endpoint's port.
const PORT: u16 = 9999;
/// The client's tag, by which the answer is known.
const TAG: u32 = 0x1234_5678;

/// CRC32c, as RFC 9260 has it in its header.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1));
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A message of one chunk.
pub(crate) fn message(ports: (u16, u16), tag: u32, chunk: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    // An answer carries a cookie of four bytes.
    let cookie: &[u8] = if chunk == INIT_ACK {
        &[0, 7, 0, 8, 1, 2, 3, 4]
    } else {
        &[]
    };
    bytes.extend([chunk, 0, 0, u8::try_from(20 + cookie.len()).unwrap()]);
    bytes.extend(TAG.to_be_bytes());
    // Window, streams out and in, first number.
    bytes.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    bytes.extend(cookie);
    let sum = checksum(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

/// What of a message is looked at.
#[derive(Debug)]
struct Seen {
    from: IpAddr,
    ports: (u16, u16),
    chunk: u8,
}

/// A raw socket; `to` is the only peer if there is one, and refusals are told then.
fn open(on: &Host, family: Family, to: Option<IpAddr>) -> OwnedFd {
    on.run(|| {
        let family = match family {
            Family::Ipv4 => AddressFamily::INET,
            Family::Ipv6 => AddressFamily::INET6,
        };
        let socket = rustix::net::socket(family, SocketType::RAW, Some(ipproto::SCTP)).unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        if let Some(to) = to {
            rustix::net::connect(&socket, &SocketAddr::new(to, 0)).unwrap();
        }
        socket
    })
}

/// The next message to a port.
fn receive(socket: &OwnedFd, port: u16) -> Result<Seen, Errno> {
    loop {
        let mut buf = [0; 256];
        let (len, _, from) = rustix::net::recvfrom(socket, &mut buf, RecvFlags::empty())?;
        let from = SocketAddr::try_from(from.unwrap()).unwrap().ip();
        // With the header of IPv4, without that of IPv6.
        let start = if from.is_ipv4() {
            usize::from(buf[0] & 15) * 4
        } else {
            0
        };
        let bytes = &mut buf[start..len];
        let ports = (
            u16::from_be_bytes([bytes[0], bytes[1]]),
            u16::from_be_bytes([bytes[2], bytes[3]]),
        );
        if ports.1 != port {
            continue;
        }
        let sum = [bytes[8], bytes[9], bytes[10], bytes[11]];
        bytes[8..12].fill(0);
        assert_eq!(sum, checksum(bytes).to_le_bytes(), "the checksum of what arrives");
        return Ok(Seen {
            from,
            ports,
            chunk: bytes[12],
        });
    }
}

/// Begins an association with whoever serves `to`, which is to be `a`.
fn begin(rig: &Rig, from: &Host, to: SocketAddr, port: u16) -> Outcome {
    let family = if to.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let (client, server) = (open(from, family, Some(to.ip())), open(&rig.a, family, None));
    let init = message((port, to.port()), 0, INIT);
    match rustix::net::send(&client, &init, SendFlags::empty()) {
        Ok(_) => {}
        // A host's own packet is refused by its own system call.
        Err(Errno::PERM | Errno::CONNREFUSED) => return Outcome::Refused,
        Err(other) => panic!("{other}"),
    }
    let Ok(request) = receive(&server, PORT) else {
        return match receive(&client, port) {
            Err(Errno::CONNREFUSED) => Outcome::Refused,
            Err(Errno::AGAIN) => Outcome::Nothing,
            other => panic!("{other:?}"),
        };
    };
    assert_eq!(request.chunk, INIT);
    let ack = message((PORT, request.ports.0), TAG, INIT_ACK);
    let back = SocketAddr::new(request.from, 0);
    rustix::net::sendto(&server, &ack, SendFlags::empty(), &back).unwrap();
    let reply = receive(&client, port).expect("the answer comes back");
    assert_eq!(
        (reply.from, reply.ports.0, reply.chunk),
        (to.ip(), to.port(), INIT_ACK)
    );
    Outcome::Answer("a".into(), request.from.to_string())
}

fn objects(cluster_ip: &str, address: &[&str]) -> [Event; 2] {
    let of = Service {
        cluster_ip: Some(cluster_ip.parse().unwrap()),
        ports: [ServicePort {
            name: "s".into(),
            protocol: Protocol::Sctp,
            port: number(90),
            node_port: Some(number(30090)),
        }]
        .into(),
        external: Policy::Cluster,
        ..Service::default()
    };
    let Event::Slice { slice, .. } = endpoints(address) else {
        panic!("endpoints are a slice")
    };
    let ports = [Port {
        name: "s".into(),
        protocol: Protocol::Sctp,
        port: number(PORT),
    }];
    let slice = Slice {
        ports: ports.into(),
        ..slice
    };
    let name = "default/sctp-1".into();
    [
        Event::Service("default/sctp".into(), of),
        Event::Slice {
            name,
            service: "default/sctp".into(),
            slice,
        },
    ]
}

#[test]
fn associations_begin_through_cluster_ip_and_node_port() {
    for (family, vip, node, backend, [pod, inside]) in [
        (
            Family::Ipv4,
            "10.96.0.9",
            "192.0.2.1",
            A,
            ["10.244.1.2", "10.244.1.1"],
        ),
        (
            Family::Ipv6,
            "fd00:96::9",
            "fd00:192::1",
            "fd00:244::10",
            ["fd00:244::2", "fd00:244::1"],
        ),
    ] {
        let mut rig = Rig::laid_out(Layout { family, ..LAYOUT });
        rig.apply(objects(vip, &[backend]));
        let direct = SocketAddr::new(backend.parse().unwrap(), 8080).to_string();
        for host in [&rig.node, &rig.client, &rig.outside] {
            host.reaches(&direct);
        }
        let [vip_port, node_port] =
            [(vip, 90), (node, 30090)].map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port));
        for (number, host, to, seen) in [
            (5001, &rig.client, vip_port, pod),
            (5002, &rig.outside, vip_port, inside),
            (5003, &rig.node, vip_port, inside),
            (5004, &rig.outside, node_port, inside),
            (5005, &rig.client, node_port, inside),
        ] {
            assert_eq!(
                begin(&rig, host, to, number),
                Outcome::Answer("a".into(), seen.into()),
                "{to}"
            );
        }
        rig.apply(objects(vip, &[]));
        for (number, host, to) in [(5006, &rig.client, vip_port), (5007, &rig.outside, node_port)] {
            assert_eq!(begin(&rig, host, to, number), Outcome::Refused, "{to}");
        }
    }
}
