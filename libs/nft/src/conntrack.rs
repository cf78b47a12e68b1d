//! Tracked connections: deleting exactly those that match a filter.
//!
//! The flows are listed by a filter, which kernels since about 5.8 apply themselves (`CTA_FILTER`) and older ones ignore, compared here
//! once more, and deleted one by one by tuple and identity: so it is known how many there were.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{OpenError, QueryError};
use crate::socket::Socket;
use crate::uapi::{ct, nfnl, nlm};
use crate::wire::{Attrs, Head, Messages, Writer};

/// Which flows: every part that is given has to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowFilter {
    /// Transport protocol number.
    pub protocol: u8,
    /// Destination address of the first packet (a service's address); sets the family.
    pub original_dst: Option<IpAddr>,
    /// Destination port of the first packet.
    pub original_port: u16,
    /// Where the flow really goes: the source address of replies.
    pub reply_src: Option<IpAddr>,
    /// Where the flow really goes: the source port of replies.
    pub reply_port: Option<u16>,
}

/// A tracked flow, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Transport protocol number.
    pub protocol: u8,
    /// Source of the first packet.
    pub original_src: IpAddr,
    /// Destination of the first packet.
    pub original_dst: IpAddr,
    /// Destination port of the first packet; 0 for protocols without ports.
    pub original_port: u16,
    /// Source of the replies.
    pub reply_src: IpAddr,
    /// Source port of the replies; 0 for protocols without ports.
    pub reply_port: u16,
}

impl FlowFilter {
    /// True if a flow is meant.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.protocol == flow.protocol
            && self.original_dst.is_none_or(|ip| ip == flow.original_dst)
            && self.original_port == flow.original_port
            && self.reply_src.is_none_or(|ip| ip == flow.reply_src)
            && self.reply_port.is_none_or(|port| port == flow.reply_port)
    }

    /// Family of the addresses in the filter.
    fn family(&self) -> u8 {
        let address = self.original_dst.or(self.reply_src);
        if address.is_some_and(|ip| ip.is_ipv6()) {
            10
        } else {
            2
        }
    }
}

/// A connection to the kernel's conntrack.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel lacks netfilter netlink or the process may not use it.
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self {
            socket: Socket::open()?,
        })
    }

    /// Deletes the flows that match, and no other; says how many there were.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn delete_flows(&mut self, filter: &FlowFilter) -> Result<usize, QueryError> {
        let listed = self.socket.query("flows", &list_request(filter))?;
        self.delete_listed(&listed, filter.family(), |flow| filter.matches(flow))
    }

    /// Deletes the flows of one family that are chosen; says how many there were.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn delete_chosen(
        &mut self,
        ipv6: bool,
        chosen: impl FnMut(&Flow) -> bool,
    ) -> Result<usize, QueryError> {
        let family = if ipv6 { 10 } else { 2 };
        let listed = self.list(family)?;
        self.delete_listed(&listed, family, chosen)
    }

    /// The same for flows of one protocol: the kernel lists no others.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn delete_chosen_of(
        &mut self,
        ipv6: bool,
        protocol: u8,
        chosen: impl FnMut(&Flow) -> bool,
    ) -> Result<usize, QueryError> {
        let family = if ipv6 { 10 } else { 2 };
        let mut w = Writer::default();
        let mark = w.begin_message(head(ct::MSG_GET, nlm::DUMP, family));
        w.nest(ct::TUPLE_ORIG, |w| {
            w.nest(ct::TUPLE_PROTO, |w| w.bytes(ct::PROTO_NUM, &[protocol]));
        });
        w.nest(ct::FILTER, |w| {
            w.bytes(ct::FILTER_ORIG_FLAGS, &ct::MATCH_PROTO_NUM.to_ne_bytes());
            w.bytes(ct::FILTER_REPLY_FLAGS, &0_u32.to_ne_bytes());
        });
        w.end_message(mark);
        let listed = self.socket.query("flows", &w.buf)?;
        self.delete_listed(&listed, family, chosen)
    }

    /// The flows of one family.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn flows(&mut self, ipv6: bool) -> Result<Vec<Flow>, QueryError> {
        let answer = self.list(if ipv6 { 10 } else { 2 })?;
        Ok(Messages(&answer).filter_map(|m| read_flow(m.attrs())).collect())
    }

    fn list(&mut self, family: u8) -> Result<Vec<u8>, QueryError> {
        let mut w = Writer::default();
        let mark = w.begin_message(head(ct::MSG_GET, nlm::DUMP, family));
        w.end_message(mark);
        self.socket.query("flows", &w.buf)
    }

    fn delete_listed(
        &mut self,
        listed: &[u8],
        family: u8,
        mut chosen: impl FnMut(&Flow) -> bool,
    ) -> Result<usize, QueryError> {
        let mut deleted = 0;
        for message in Messages(listed) {
            let attrs = message.attrs();
            if !read_flow(attrs).is_some_and(|flow| chosen(&flow)) {
                continue;
            }
            let mut w = Writer::default();
            let mark = w.begin_message(head(ct::MSG_DELETE, nlm::ACK, family));
            for kind in [ct::TUPLE_ORIG, ct::ID] {
                if let Some(payload) = attrs.get(kind) {
                    w.bytes(kind, payload);
                }
            }
            w.end_message(mark);
            match self.socket.query("the deletion of a flow", &w.buf) {
                Err(e) if !e.is_absent() => return Err(e),
                Ok(_) => deleted += 1,
                // It ended by itself.
                Err(_) => {}
            }
        }
        Ok(deleted)
    }
}

fn head(kind: u16, flags: u16, family: u8) -> Head {
    // Version 1 makes the kernel respect the family when it deletes by filter.
    Head {
        kind: (nfnl::SUBSYS_CONNTRACK << 8) | kind,
        flags: nlm::REQUEST | flags,
        seq: 0,
        family,
        version: 1,
        res_id: 0,
    }
}

/// The request for what the kernel can tell apart. Of IPv6 addresses it takes the ones that differ for the same (6.18 does; the
/// comparison in `ctnetlink_filter_match_tuple` is the wrong way round), so it is asked for ports only.
fn list_request(filter: &FlowFilter) -> Vec<u8> {
    let mut w = Writer::default();
    let mark = w.begin_message(head(ct::MSG_GET, nlm::DUMP, filter.family()));
    let mut orig_flags = ct::MATCH_PROTO_NUM | ct::MATCH_PROTO_DST_PORT;
    w.nest(ct::TUPLE_ORIG, |w| {
        if let Some(IpAddr::V4(ip)) = filter.original_dst {
            orig_flags |= ct::MATCH_IP_DST;
            w.nest(ct::TUPLE_IP, |w| w.bytes(ct::IP_V4_DST, &ip.octets()));
        }
        w.nest(ct::TUPLE_PROTO, |w| {
            w.bytes(ct::PROTO_NUM, &[filter.protocol]);
            w.bytes(ct::PROTO_DST_PORT, &filter.original_port.to_be_bytes());
        });
    });
    let mut reply_flags = 0;
    let reply_src = match filter.reply_src {
        Some(IpAddr::V4(ip)) => Some(ip),
        Some(IpAddr::V6(_)) | None => None,
    };
    if reply_src.is_some() || filter.reply_port.is_some() {
        w.nest(ct::TUPLE_REPLY, |w| {
            if let Some(ip) = reply_src {
                reply_flags |= ct::MATCH_IP_SRC;
                w.nest(ct::TUPLE_IP, |w| w.bytes(ct::IP_V4_SRC, &ip.octets()));
            }
            if let Some(port) = filter.reply_port {
                reply_flags |= ct::MATCH_PROTO_NUM | ct::MATCH_PROTO_SRC_PORT;
                w.nest(ct::TUPLE_PROTO, |w| {
                    w.bytes(ct::PROTO_NUM, &[filter.protocol]);
                    w.bytes(ct::PROTO_SRC_PORT, &port.to_be_bytes());
                });
            }
        });
    }
    w.nest(ct::FILTER, |w| {
        // The flags are host endian.
        w.bytes(ct::FILTER_ORIG_FLAGS, &orig_flags.to_ne_bytes());
        w.bytes(ct::FILTER_REPLY_FLAGS, &reply_flags.to_ne_bytes());
    });
    w.end_message(mark);
    w.buf
}

/// Reads a listed flow; `None` if a part is missing.
fn read_flow(attrs: Attrs<'_>) -> Option<Flow> {
    let orig = attrs.nested(ct::TUPLE_ORIG)?;
    let reply = attrs.nested(ct::TUPLE_REPLY)?;
    let orig_proto = orig.nested(ct::TUPLE_PROTO)?;
    Some(Flow {
        protocol: *orig_proto.get(ct::PROTO_NUM)?.first()?,
        original_src: read_address(orig.nested(ct::TUPLE_IP)?, ct::IP_V4_SRC, ct::IP_V6_SRC)?,
        original_dst: read_address(orig.nested(ct::TUPLE_IP)?, ct::IP_V4_DST, ct::IP_V6_DST)?,
        original_port: orig_proto.be16(ct::PROTO_DST_PORT).unwrap_or(0),
        reply_src: read_address(reply.nested(ct::TUPLE_IP)?, ct::IP_V4_SRC, ct::IP_V6_SRC)?,
        reply_port: reply
            .nested(ct::TUPLE_PROTO)?
            .be16(ct::PROTO_SRC_PORT)
            .unwrap_or(0),
    })
}

fn read_address(attrs: Attrs<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(bytes) = attrs.get(v4) {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(attrs.get(v6)?).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP flow from 10.96.0.10:53 to 10.244.0.7:5353, as the kernel lists it.
    fn listed() -> Vec<u8> {
        let mut w = Writer::default();
        for (tuple, port) in [(ct::TUPLE_ORIG, 53_u16), (ct::TUPLE_REPLY, 5353)] {
            w.nest(tuple, |w| {
                w.nest(ct::TUPLE_IP, |w| {
                    w.bytes(ct::IP_V4_SRC, &[10, 244, 0, 7]);
                    w.bytes(ct::IP_V4_DST, &[10, 96, 0, 10]);
                });
                w.nest(ct::TUPLE_PROTO, |w| {
                    w.bytes(ct::PROTO_NUM, &[17]);
                    w.bytes(ct::PROTO_SRC_PORT, &port.to_be_bytes());
                    w.bytes(ct::PROTO_DST_PORT, &port.to_be_bytes());
                });
            });
        }
        w.buf
    }

    #[test]
    fn a_flow_is_read() {
        let flow = read_flow(Attrs(&listed())).expect("a flow");
        assert_eq!(flow.original_dst, IpAddr::from([10, 96, 0, 10]));
        assert_eq!(
            (flow.protocol, flow.original_port, flow.reply_port),
            (17, 53, 5353)
        );
        assert_eq!(flow.reply_src, IpAddr::from([10, 244, 0, 7]));
    }

    proptest::proptest! {
        #[test]
        fn no_change_of_a_flow_makes_the_reader_panic(
            changes in proptest::collection::vec((0_usize..200, proptest::num::u8::ANY), 0..6),
            length in 0_usize..200,
        ) {
            let mut bytes = listed();
            for (at, byte) in changes {
                let length = bytes.len();
                bytes[at % length] = byte;
            }
            bytes.truncate(length);
            let _ = read_flow(Attrs(&bytes));
        }
    }
}
