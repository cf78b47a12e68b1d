//! Host ports in black-box tests: pods with mapped ports, and TCP, UDP and SCTP clients and servers.
//!
//! The stock plugins do it as a chain, `bridge` and `portmap`; ours is one plugin.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use serde_json::{Value, json};

use super::{Answer, Host, Namespace, REACHABLE_WITHIN, reference};

/// How long what must not answer is asked.
const SILENT_FOR: Duration = Duration::from_millis(600);
const PAUSE: Duration = Duration::from_millis(100);

/// A mapping of the runtime's.
pub(crate) fn mapping(protocol: &str, host_port: u16, pod_port: u16) -> Value {
    json!({ "hostPort": host_port, "containerPort": pod_port, "protocol": protocol })
}

/// The configuration of a pod with these ports; ours alone understands it.
pub(crate) fn with_ports(config: &Value, ports: &Value) -> Value {
    let mut config = config.clone();
    config["runtimeConfig"] = json!({ "portMappings": ports });
    config
}

impl Host {
    /// ADD of a pod with mapped ports.
    pub(crate) fn add_ports(&self, config: &Value, ports: &Value, container: &str, pod: &Namespace) -> Value {
        let netns = pod.path().to_str().unwrap();
        if reference().is_none() {
            return self.add(&with_ports(config, ports), container, pod);
        }
        let result = self.add(config, container, pod);
        let chained = portmap(config, ports, &result);
        self.call_portmap("ADD", &chained, container, netns).result()
    }

    /// DEL of a pod with mapped ports.
    pub(crate) fn del_ports(&self, config: &Value, ports: &Value, container: &str, netns: &str) {
        if reference().is_none() {
            self.del(&with_ports(config, ports), container, netns);
            return;
        }
        let chained = portmap(config, ports, &Value::Null);
        let answer = self.call_portmap("DEL", &chained, container, netns);
        assert!(answer.ok, "{answer:?}");
        self.del(config, container, netns);
    }

    /// CHECK of the ports of a pod.
    pub(crate) fn check_ports(
        &self,
        config: &Value,
        ports: &Value,
        (container, netns): (&str, &str),
        result: &Value,
    ) -> Answer {
        if reference().is_some() {
            return self.call_portmap("CHECK", &portmap(config, ports, result), container, netns);
        }
        let mut config = with_ports(config, ports);
        config["prevResult"] = result.clone();
        self.call("CHECK", &config, container, netns)
    }

    fn call_portmap(&self, command: &str, config: &Value, container: &str, netns: &str) -> Answer {
        let variables = [("CNI_CONTAINERID", container), ("CNI_NETNS", netns)];
        let plugin = reference().unwrap().join("portmap");
        self.call_plugin(&plugin, command, &config.to_string(), &variables)
    }
}

/// The configuration of the stock plugin.
fn portmap(config: &Value, ports: &Value, result: &Value) -> Value {
    let mut chained = json!({
        "cniVersion": config["cniVersion"], "name": config["name"], "type": "portmap", "backend": "nftables",
        "runtimeConfig": { "portMappings": ports }
    });
    if !result.is_null() {
        chained["prevResult"] = result.clone();
    }
    chained
}

impl Namespace {
    /// A TCP service that tells each client the address that it came from.
    pub(crate) fn serve_tcp(&self, address: SocketAddr) {
        let listener = self.run(move || {
            let deadline = Instant::now() + REACHABLE_WITHIN;
            loop {
                match TcpListener::bind(address) {
                    Ok(listener) => return listener,
                    Err(error) if Instant::now() > deadline => panic!("{address}: {error}"),
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { return };
                if let Ok(from) = client.peer_addr() {
                    let _ = client.write_all(from.ip().to_string().as_bytes());
                }
            }
        });
    }

    /// The source address that such a service saw, once it answers.
    pub(crate) fn ask_tcp(&self, server: SocketAddr) -> IpAddr {
        self.try_tcp(server, REACHABLE_WITHIN)
            .unwrap_or_else(|| panic!("{server} did not answer over TCP"))
    }

    pub(crate) fn try_tcp(&self, server: SocketAddr, within: Duration) -> Option<IpAddr> {
        self.run(move || {
            let deadline = Instant::now() + within;
            while Instant::now() < deadline {
                let mut text = String::new();
                let asked =
                    TcpStream::connect_timeout(&server, Duration::from_secs(1)).and_then(|mut stream| {
                        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                        stream.read_to_string(&mut text)
                    });
                if asked.is_ok()
                    && let Ok(address) = text.parse()
                {
                    return Some(address);
                }
            }
            None
        })
    }

    /// Asks a UDP service from this port, so that all datagrams are of one flow.
    pub(crate) fn ask_from(&self, port: u16, server: SocketAddr) -> Option<IpAddr> {
        self.try_udp(port, server, REACHABLE_WITHIN)
    }

    /// Whether nobody answers there.
    pub(crate) fn is_silent(&self, server: SocketAddr) -> bool {
        self.try_udp(0, server, SILENT_FOR).is_none() && self.try_tcp(server, SILENT_FOR).is_none()
    }

    pub(crate) fn try_udp(&self, port: u16, server: SocketAddr, within: Duration) -> Option<IpAddr> {
        self.run(move || {
            let any: IpAddr = if server.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            };
            let socket = UdpSocket::bind((any, port)).unwrap();
            socket.set_read_timeout(Some(PAUSE)).unwrap();
            let deadline = Instant::now() + within;
            let mut buffer = [0; 64];
            while Instant::now() < deadline {
                if socket.send_to(b"?", server).is_ok()
                    && let Ok((length, from)) = socket.recv_from(&mut buffer)
                    && from == server
                {
                    return String::from_utf8_lossy(&buffer[..length]).parse().ok();
                }
            }
            None
        })
    }

    /// Sends SCTP's first packet to a port of `server` until it has come to `pod`; the destination port that it has there.
    pub(crate) fn sctp_arrives(&self, server: IpAddr, port: u16, pod: &Self) -> Option<u16> {
        let raw = || {
            let (family, kind) = (AddressFamily::INET, SocketType::RAW);
            let nonblocking = SocketFlags::NONBLOCK;
            rustix::net::socket_with(family, kind, nonblocking, Some(ipproto::SCTP)).unwrap()
        };
        let receiver = pod.run(raw);
        let sender = self.run(raw);
        let packet = sctp_init(40_000, port);
        let deadline = Instant::now() + REACHABLE_WITHIN;
        while Instant::now() < deadline {
            let to = SocketAddr::new(server, 0);
            let _ = rustix::net::sendto(&sender, &packet, SendFlags::empty(), &to);
            let mut buffer = [0; 256];
            if let Ok((length, _)) = rustix::net::recv(&receiver, &mut buffer[..], RecvFlags::empty()) {
                // The IPv4 header has 20 bytes; source and destination port follow.
                let arrived = &buffer[..length];
                return Some(u16::from_be_bytes([*arrived.get(22)?, *arrived.get(23)?]));
            }
            std::thread::yield_now();
        }
        None
    }
}

/// An INIT chunk (RFC 9260, section 3.3.2) with its checksum.
fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend([0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9]);
    let checksum = crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}
