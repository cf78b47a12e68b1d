//! One synchronous netlink socket to netfilter.
//!
//! The kernel works on a batch inside the call that sends it, so every answer is in the receive queue when `send` returns; answers to
//! a batch are therefore read without waiting. Dumps are read until the kernel says that they are done.

use std::io;

use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::net::{RecvFlags, SendFlags, sockopt};

use crate::error::{OpenError, QueryError};
use crate::uapi::nlm;
use crate::wire::{Attrs, Messages, u32_at};

/// Room for one answer, in bytes: the kernel never makes a dump message longer than 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Receive queue in bytes: an answer for each refused message of a large batch has to fit.
const RECEIVE_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// How often a dump is repeated when the tables change under it.
const DUMP_ATTEMPTS: u32 = 20;

/// The kernel's answer to one message.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub(crate) seq: u32,
    /// 0 for success, otherwise the error number.
    pub(crate) errno: i32,
    /// The kernel's explanation, or empty.
    pub(crate) detail: String,
}

/// A socket and its receive buffer.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: RawSocket,
    /// The address that the kernel knows it by.
    port: u32,
    buf: Vec<u8>,
    send_buffer_bytes: usize,
}

impl Socket {
    pub(crate) fn open() -> Result<Self, OpenError> {
        let mut raw = RawSocket::new(NETLINK_NETFILTER)?;
        let port = raw.bind_auto()?.port_number();
        raw.connect(&SocketAddr::new(0, 0))?;
        // Both only improve error reports; kernels before 4.12 lack them.
        let _ = raw.set_cap_ack(true);
        let _ = raw.set_ext_ack(true);
        if sockopt::set_socket_recv_buffer_size_force(&raw, RECEIVE_QUEUE_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&raw, RECEIVE_QUEUE_BYTES).map_err(io::Error::from)?;
        }
        Ok(Self {
            raw,
            port,
            buf: vec![0; RECEIVE_BYTES],
            send_buffer_bytes: 0,
        })
    }

    /// The address that the kernel knows this socket by.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Sends bytes in one system call; raises the send buffer first when they need it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // The kernel wants the batch to be smaller than the buffer by a little.
        let wanted = bytes.len() + 4096;
        if wanted > self.send_buffer_bytes {
            if sockopt::set_socket_send_buffer_size_force(&self.raw, wanted).is_err() {
                sockopt::set_socket_send_buffer_size(&self.raw, wanted)?;
            }
            self.send_buffer_bytes = wanted;
        }
        rustix::net::send(&self.raw, bytes, SendFlags::empty())?;
        Ok(())
    }

    /// Reads every answer that is already queued.
    pub(crate) fn queued_acks(&mut self) -> io::Result<Vec<Ack>> {
        let mut acks = Vec::new();
        loop {
            let len = match rustix::net::recv(&self.raw, &mut self.buf[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => len,
                Err(rustix::io::Errno::AGAIN) => return Ok(acks),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            for message in Messages(&self.buf[..len]) {
                if message.kind == nlm::MSG_ERROR {
                    acks.push(parse_ack(message.payload, message.flags));
                }
            }
        }
    }

    /// Sends a request and gathers the answers; repeats a dump that raced with a change.
    ///
    /// `request` is one message. The result is the datagrams one after the other, without error and end messages.
    pub(crate) fn query(&mut self, what: &'static str, request: &[u8]) -> Result<Vec<u8>, QueryError> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(request)
                .map_err(|source| QueryError::Io { what, source })?;
            if let Some(answer) = self.answer().map_err(|source| QueryError::Io { what, source })? {
                return Ok(answer);
            }
        }
        Err(QueryError::Unsteady {
            what,
            attempts: DUMP_ATTEMPTS,
        })
    }

    /// Reads one answer to its end; `None` if a dump has to be repeated.
    fn answer(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut all = Vec::new();
        let mut steady = true;
        loop {
            let len = match rustix::net::recv(&self.raw, &mut self.buf[..], RecvFlags::empty()) {
                Ok((len, _)) => len,
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let mut end = false;
            for message in Messages(&self.buf[..len]) {
                steady &= message.flags & nlm::DUMP_INTR == 0;
                match message.kind {
                    nlm::MSG_DONE => end = true,
                    nlm::MSG_ERROR => {
                        let ack = parse_ack(message.payload, message.flags);
                        match ack.errno {
                            0 => end = true,
                            EINTR => (end, steady) = (true, false),
                            errno => return Err(io::Error::from_raw_os_error(errno)),
                        }
                    }
                    _ => {}
                }
            }
            all.extend_from_slice(&self.buf[..len]);
            if end {
                return Ok(steady.then_some(all));
            }
        }
    }
}

/// A dump ends with this when the tables changed under it.
const EINTR: i32 = 4;

/// Reads an error message: i32 negative errno, the original header, then explanations.
fn parse_ack(payload: &[u8], flags: u16) -> Ack {
    let errno = payload
        .first_chunk()
        .copied()
        .map_or(0, i32::from_ne_bytes)
        .saturating_neg();
    let seq = u32_at(payload, 12).unwrap_or(0);
    let original = if flags & nlm::CAPPED == 0 {
        u32_at(payload, 4).unwrap_or(16)
    } else {
        16
    };
    let attrs_at = original
        .checked_next_multiple_of(4)
        .and_then(|length| usize::try_from(length).ok())
        .map_or(usize::MAX, |length| length.saturating_add(4));
    let detail = (flags & nlm::ACK_TLVS != 0)
        .then(|| Attrs(payload.get(attrs_at..).unwrap_or_default()).string(nlm::ERR_ATTR_MSG))
        .flatten()
        .unwrap_or_default();
    Ack {
        seq,
        errno,
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_acknowledgement_makes_the_reader_panic(errno: i32, length: u32, rest: Vec<u8>, flags: u16) {
            let payload = [&errno.to_ne_bytes()[..], &length.to_ne_bytes(), &rest].concat();
            let _ = parse_ack(&payload, flags);
            let _ = parse_ack(&rest, flags);
        }
    }
}
