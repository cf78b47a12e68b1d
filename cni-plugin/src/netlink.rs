//! One synchronous conversation with the kernel's routing netlink (rtnetlink(7)): a request, its answers, its verdict.
//!
//! Synchronous because the kernel works while `sendmsg` runs: the answer is there when the call returns, so a runtime
//! would only add threads and wake-ups to a process that lives for two milliseconds.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub(crate) mod address;
mod forwarding;
pub(crate) mod link;
pub(crate) mod route;
pub(crate) mod shaping;

/// The kernel fills at most this much in one datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// The socket itself failed.
    #[error("cannot talk to the kernel over netlink to {operation}")]
    Socket {
        /// What was to be done.
        operation: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("the kernel refused to {operation}")]
    Refused {
        /// What was to be done.
        operation: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// An answer was not understood.
    #[error("cannot read the kernel's answer when asked to {operation}")]
    Decode {
        /// What was to be done.
        operation: String,
        /// The parser's reason.
        #[source]
        source: DecodeError,
    },
}

impl NetlinkError {
    /// The kernel's reason, if it is one.
    pub(crate) fn kernel_reason(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Refused { source, .. } => rustix::io::Errno::from_io_error(source),
            Self::Socket { .. } | Self::Decode { .. } => None,
        }
    }
}

/// A socket in the network namespace in which it was opened.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the thread's current network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let socket = Socket::new(NETLINK_ROUTE)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Dumps then honour the filters in their request. Kernels before 4.20 do not know the option: callers filter.
            let _ = socket.set_netlink_get_strict_chk(true);
            Ok(socket)
        };
        let operation = || "open a socket".to_owned();
        let socket = open().map_err(|source| NetlinkError::Socket {
            operation: operation(),
            source,
        })?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BYTES),
        })
    }

    /// Asks for a change; `flags` as in netlink(7).
    fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        operation: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        self.converse(message, NLM_F_REQUEST | NLM_F_ACK | flags, &operation)
            .map(drop)
    }

    /// Asks for one object.
    fn get(
        &mut self,
        message: RouteNetlinkMessage,
        operation: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.converse(message, NLM_F_REQUEST | NLM_F_ACK, &operation)
    }

    /// Asks for all objects.
    fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        operation: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.converse(message, NLM_F_REQUEST | NLM_F_DUMP, &operation)
    }

    fn converse<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        message: M,
        flags: u16,
        operation: &dyn Fn() -> String,
    ) -> Result<Vec<M>, NetlinkError> {
        let failed = |source| NetlinkError::Socket {
            operation: operation(),
            source,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (flags, self.sequence);
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(failed)?;
        let mut answers = Vec::new();
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0).map_err(failed)?;
            if read_datagram(&self.buffer, self.sequence, &mut answers, operation)? {
                return Ok(answers);
            }
        }
    }
}

/// Reads the messages of one datagram; true when the conversation is over.
fn read_datagram<M: NetlinkDeserializable>(
    mut bytes: &[u8],
    sequence: u32,
    answers: &mut Vec<M>,
    operation: &dyn Fn() -> String,
) -> Result<bool, NetlinkError> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<M>::deserialize(bytes).map_err(|source| NetlinkError::Decode {
            operation: operation(),
            source,
        })?;
        // The kernel pads each message to 4 bytes; the parser has checked that the length fits.
        let length = usize::try_from(message.header.length)
            .unwrap_or(usize::MAX)
            .next_multiple_of(4);
        bytes = bytes.get(length.max(4)..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            NetlinkPayload::Error(verdict) => {
                return match verdict.code {
                    None => Ok(true),
                    Some(_) => Err(NetlinkError::Refused {
                        operation: operation(),
                        source: verdict.to_io(),
                    }),
                };
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Noop | NetlinkPayload::Overrun(_) => {}
            // `NetlinkPayload` is open for new kinds; none of them ends a conversation.
            _ => {}
        }
    }
    Ok(false)
}
