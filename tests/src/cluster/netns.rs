//! Sockets where the traffic starts or ends: in a pod, on a node, or outside of the cluster.
//!
//! A thread enters the network namespace; a socket belongs to the namespace that its thread was in when it was made
//! (`setns(2)`), so it can be used anywhere afterwards.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Machine, open_namespace, process_in, run_dir};

/// A connection attempt or an answer takes no longer.
const ANSWER: Duration = Duration::from_secs(10);

/// A network namespace.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

impl NetNs {
    /// The network between the machines, which is outside of the cluster: here the tests run.
    pub fn outside() -> Self {
        Self::open(PathBuf::from(format!(
            "/proc/{}/ns/net",
            process_in(&run_dir().join("network.process"))
        )))
    }

    /// The node's own network.
    pub fn of_machine(machine: &Machine) -> Self {
        Self::open(PathBuf::from(format!("/proc/{}/ns/net", machine.process())))
    }

    /// The network of the pod that process `pid` (an id on `machine`) belongs to.
    pub fn of_process(machine: &Machine, pid: u32) -> Self {
        Self::open(machine.path(&format!("/proc/{pid}/ns/net")))
    }

    fn open(path: PathBuf) -> Self {
        Self {
            file: open_namespace(&path),
        }
    }

    /// Moves the calling thread there.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|error| panic!("cannot enter a network namespace (tests need root): {error}"));
    }

    /// Runs `work` in the namespace, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Connects from here.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.run(|| TcpStream::connect_timeout(&to, ANSWER))?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(stream)
    }

    /// Listens here, on any port of `address`.
    pub fn listen(&self, address: IpAddr) -> TcpListener {
        self.run(|| TcpListener::bind((address, 0)))
            .unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"))
    }

    /// The body of an HTTP answer to `GET path`.
    pub fn http_get(&self, to: SocketAddr, path: &str) -> Result<String, String> {
        let exchange = || {
            let mut stream = self.connect(to)?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = exchange().map_err(|error| format!("GET http://{to}{path}: {error}"))?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.trim().to_owned()),
            _ => Err(format!("GET http://{to}{path}: {answer:?}")),
        }
    }

    /// The answer to a datagram, sent again once a second until `ANSWER` is over.
    pub fn udp_ask(&self, to: SocketAddr, question: &[u8]) -> Result<Vec<u8>, String> {
        let exchange = || {
            let any: IpAddr = match to {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = self.run(|| UdpSocket::bind((any, 0)))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.connect(to)?;
            let mut buffer = [0; 1500];
            let mut last = None;
            for _ in 0..ANSWER.as_secs() {
                socket.send(question)?;
                match socket.recv(&mut buffer) {
                    Ok(length) => return Ok(buffer[..length].to_vec()),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| std::io::ErrorKind::TimedOut.into()))
        };
        exchange().map_err(|error: std::io::Error| format!("UDP {to}: {error}"))
    }
}

/// Sends a line and reads one back.
pub fn exchange_line(stream: &mut TcpStream, line: &str) -> std::io::Result<String> {
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
