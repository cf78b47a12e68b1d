//! A small client and server over TCP, to see how fast packets pass between two namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::Namespace;

/// A connection from one namespace to an address of another one: the client's end and the server's.
fn connect(from: &Namespace, to: &Namespace, address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = to.run(move || TcpListener::bind((address, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let client = from.run(move || TcpStream::connect(target).unwrap());
    let (server, _) = listener.accept().unwrap();
    for end in [&client, &server] {
        end.set_nodelay(true).unwrap();
    }
    (client, server)
}

/// Sends so many bytes; bytes in a second, as the receiver sees them.
pub(crate) fn throughput(from: &Namespace, to: &Namespace, address: IpAddr, bytes: usize) -> f64 {
    let (mut sender, mut receiver) = connect(from, to, address);
    let started = Instant::now();
    let sending = std::thread::spawn(move || {
        let block = vec![7; 1 << 17];
        let mut left = bytes;
        while left > 0 {
            let count = left.min(block.len());
            sender.write_all(&block[..count]).unwrap();
            left -= count;
        }
        sender
    });
    let mut received = 0;
    let mut buffer = vec![0; 1 << 17];
    while received < bytes {
        let count = receiver.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection broke");
        received += count;
    }
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    drop(sending.join().unwrap());
    rate
}

/// So many round trips of one byte.
pub(crate) fn round_trips(from: &Namespace, to: &Namespace, address: IpAddr, count: usize) -> Vec<Duration> {
    let (mut client, mut server) = connect(from, to, address);
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        for _ in 0..count {
            server.read_exact(&mut byte).unwrap();
            server.write_all(&byte).unwrap();
        }
    });
    let one = |_| {
        let started = Instant::now();
        let mut byte = [1];
        client.write_all(&byte).unwrap();
        client.read_exact(&mut byte).unwrap();
        started.elapsed()
    };
    let times = (0..count).map(one).collect();
    echo.join().unwrap();
    times
}
