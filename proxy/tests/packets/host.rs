//! Network namespaces as hosts: what they send, what they serve, and what comes of an attempt.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::netns::Netns;

/// How long an answer may take before a packet counts as dropped.
const PATIENCE: Duration = Duration::from_millis(600);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A backend answered: its name, and the client's address as it saw it.
    Answer(String, String),
    /// Reset or port unreachable.
    Refused,
    /// Nothing came back.
    Nothing,
}

impl Outcome {
    /// Which backend answered.
    pub(crate) fn backend(&self) -> &str {
        match self {
            Self::Answer(name, _) => name,
            other => panic!("no answer but {other:?}"),
        }
    }

    /// Whom the backend saw.
    pub(crate) fn seen(&self) -> &str {
        match self {
            Self::Answer(_, seen) => seen,
            other => panic!("no answer but {other:?}"),
        }
    }
}

/// A network namespace as a host.
#[derive(Debug)]
pub(crate) struct Host(Netns);

impl Host {
    pub(crate) fn new(role: &str) -> Self {
        Self(Netns::new(role))
    }

    pub(crate) fn ip(&self, args: &[&str]) {
        self.0.ip(args);
    }

    /// Runs something on a thread inside the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.run(work)
    }

    /// Waits for the first answer: neighbours have to be found, and a packet that asks for one may be lost.
    pub(crate) fn reaches(&self, to: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !matches!(self.tcp(to), Outcome::Answer(..)) {
            assert!(Instant::now() < deadline, "{to} does not answer");
        }
    }

    /// Connects and reads what the backend says.
    pub(crate) fn tcp(&self, to: &str) -> Outcome {
        let to: SocketAddr = to.parse().unwrap();
        self.run(|| match TcpStream::connect_timeout(&to, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut text = String::new();
                match stream.read_to_string(&mut text) {
                    Ok(_) => answer(&text),
                    Err(e) => failure(&e),
                }
            }
            Err(e) => failure(&e),
        })
    }

    /// Sends a datagram from a port of its own and reads the backend's answer.
    pub(crate) fn udp(&self, to: &str) -> Outcome {
        self.udp_from(to, 0)
    }

    /// Sends a datagram from a given port and reads the backend's answer.
    pub(crate) fn udp_from(&self, to: &str, port: u16) -> Outcome {
        self.run(|| {
            let any = if to.starts_with('[') { "::" } else { "0.0.0.0" };
            let socket = UdpSocket::bind((any, port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to).unwrap();
            let mut buf = [0; 128];
            match socket.send(b"?").and_then(|_| socket.recv(&mut buf)) {
                Ok(len) => answer(std::str::from_utf8(&buf[..len]).unwrap()),
                Err(e) => failure(&e),
            }
        })
    }

    /// Serves TCP and UDP on a port until the process ends: says the backend's name and the client's address.
    pub(crate) fn serve(&self, name: &'static str, port: u16) {
        let (tcp, udp) = self.run(|| {
            let tcp = TcpListener::bind(("::", port)).unwrap();
            // A busy machine lets clients wait for the server's thread, but their connections are not to be dropped.
            rustix::net::listen(&tcp, 4096).unwrap();
            (tcp, UdpSocket::bind(("::", port)).unwrap())
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = tcp.accept() {
                // A client that has gone already is no concern of the server.
                let _ = write!(stream, "{name} {}", peer.ip().to_canonical());
            }
        });
        std::thread::spawn(move || {
            let mut buf = [0; 128];
            while let Ok((_, peer)) = udp.recv_from(&mut buf) {
                let _ = udp.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }
}

fn answer(text: &str) -> Outcome {
    let (name, seen) = text.split_once(' ').expect("name and address");
    Outcome::Answer(name.to_owned(), seen.to_owned())
}

fn failure(error: &std::io::Error) -> Outcome {
    match error.kind() {
        // A host's own datagram is refused by its own system call.
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::PermissionDenied => {
            Outcome::Refused
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Nothing,
        other => panic!("{other}: {error}"),
    }
}

/// A host's address, and the node's, in a network.
pub(crate) fn way(net: &str, last: &str, bits: &str) -> (String, String) {
    (format!("{net}{last}/{bits}"), format!("{net}1"))
}

/// A veth pair: `port` on the node, `eth0` with addresses and default routes on the host.
pub(crate) fn connect(node: &Host, host: &Host, port: &str, ways: &[(String, String)]) {
    node.ip(&[
        "link",
        "add",
        port,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        host.0.name(),
    ]);
    node.ip(&["link", "set", port, "up"]);
    host.ip(&["link", "set", "eth0", "up"]);
    for (address, gateway) in ways {
        host.ip(&["addr", "add", address, "dev", "eth0"]);
        host.ip(&["route", "add", "default", "via", gateway]);
    }
}
