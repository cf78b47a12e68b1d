//! Notices when somebody else changes a table.
//!
//! The kernel tells every committed change to the members of a multicast group, each message with the port of the socket that the
//! change came through. So a change of our own is known by its port and costs no question; one of another program is known by its
//! table, and changes of other tables are passed over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket as RawSocket, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

use crate::error::OpenError;
use crate::uapi::{msg, nfnl};
use crate::wire::Messages;
use crate::{Family, Nft};

/// The group of nf_tables' changes (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;
/// Every message about an object names its table in this attribute.
const TABLE: u16 = 1;
/// The program that committed, in the message that ends a transaction.
const PROGRAM: u16 = 3;
/// Longer than any notification: the kernel gathers them to less than a page or two.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Notifications wait here while we write ourselves; when they do not fit, the loss is reported.
const QUEUE_BYTES: usize = 1024 * 1024;

/// What happened since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing that concerns the table.
    Nothing,
    /// Another program changed it.
    Change {
        /// The program's name, or empty.
        program: String,
    },
    /// Notifications were lost: it may have been changed.
    Lost,
}

/// A socket that is or is not a member of the group.
#[derive(Debug)]
pub struct Monitor {
    raw: RawSocket,
    buf: Vec<u8>,
}

impl Monitor {
    /// Opens a socket in the network namespace of the calling thread; it hears nothing before [`Monitor::listen`].
    ///
    /// # Errors
    /// When the kernel lacks netfilter netlink or the process may not use it.
    pub fn open() -> Result<Self, OpenError> {
        let mut raw = RawSocket::new(NETLINK_NETFILTER)?;
        raw.bind_auto()?;
        raw.set_non_blocking(true)?;
        if sockopt::set_socket_recv_buffer_size_force(&raw, QUEUE_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&raw, QUEUE_BYTES).map_err(io::Error::from)?;
        }
        Ok(Self {
            raw,
            buf: vec![0; RECEIVE_BYTES],
        })
    }

    /// Joins the group. What happened before is not told.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn listen(&mut self) -> io::Result<()> {
        self.raw.add_membership(GROUP)
    }

    /// Leaves the group, and forgets what was not read: while much is written, the notifications of it would cost more than the
    /// writing.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn pause(&mut self) -> io::Result<()> {
        self.raw.drop_membership(GROUP)?;
        loop {
            match rustix::net::recv(&self.raw, &mut self.buf[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads all that is there: did anybody but the socket `own` change this table? Does not wait.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub fn look(&mut self, family: Family, table: &str, own: u32) -> io::Result<Seen> {
        let (mut lost, mut by) = (false, None::<(u32, String)>);
        loop {
            let len = match rustix::net::recv(&self.raw, &mut self.buf[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => len,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => {
                    lost = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for message in Messages(self.buf.get(..len).unwrap_or_default()) {
                // The kernel itself, and we.
                if message.port == 0 || message.port == own {
                    continue;
                }
                let ends = message.kind == kind(msg::NEW_GENERATION);
                match &mut by {
                    Some((port, program)) if *port == message.port && ends => {
                        let name = message.attrs().string(PROGRAM);
                        name.unwrap_or_default().clone_into(program);
                    }
                    Some(_) => {}
                    None if concerns(&message, family, table) => by = Some((message.port, String::new())),
                    None => {}
                }
            }
        }
        Ok(match by {
            Some((_, program)) => Seen::Change { program },
            None if lost => Seen::Lost,
            None => Seen::Nothing,
        })
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl Nft {
    /// The port of this socket: changes made through it carry it in their notifications.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }
}

fn kind(message: u16) -> u16 {
    (nfnl::SUBSYS_NFTABLES << 8) | message
}

fn concerns(message: &crate::wire::Message<'_>, family: Family, table: &str) -> bool {
    message.kind >> 8 == nfnl::SUBSYS_NFTABLES
        && message.kind != kind(msg::NEW_GENERATION)
        && message.payload.first() == Some(&family.number())
        && message.attrs().string(TABLE) == Some(table)
}
