//! Numbers of the kernel's netlink interface that this crate uses.
//!
//! Facts of `linux/netlink.h`, `linux/netfilter/nfnetlink.h`, `nf_tables.h`, `nfnetlink_conntrack.h` and `nf_nat.h`.
//! One module per attribute space, so that a number is never used in the wrong one.

/// Message flags of `netlink.h`.
pub(crate) mod nlm {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const APPEND: u16 = 0x800;
    /// Set in a reply: the dump raced with a change and has to be repeated.
    pub(crate) const DUMP_INTR: u16 = 0x10;
    /// Set in an error reply: the original message is cut to its header.
    pub(crate) const CAPPED: u16 = 0x100;
    /// Set in an error reply: attributes with an explanation follow.
    pub(crate) const ACK_TLVS: u16 = 0x200;
    /// Attribute of an error reply: the kernel's explanation.
    pub(crate) const ERR_ATTR_MSG: u16 = 1;

    pub(crate) const MSG_ERROR: u16 = 2;
    pub(crate) const MSG_DONE: u16 = 3;
}

/// Subsystems and batch messages of `nfnetlink.h`.
pub(crate) mod nfnl {
    pub(crate) const SUBSYS_CONNTRACK: u16 = 1;
    pub(crate) const SUBSYS_NFTABLES: u16 = 10;
    pub(crate) const BATCH_BEGIN: u16 = 0x10;
    pub(crate) const BATCH_END: u16 = 0x11;
    /// Attribute of a batch's first message: the generation that it was made for.
    pub(crate) const BATCH_GENERATION: u16 = 1;
}

/// Message types of the nf_tables subsystem.
pub(crate) mod msg {
    pub(crate) const NEW_TABLE: u16 = 0;
    pub(crate) const GET_TABLE: u16 = 1;
    pub(crate) const DEL_TABLE: u16 = 2;
    pub(crate) const NEW_CHAIN: u16 = 3;
    pub(crate) const GET_CHAIN: u16 = 4;
    pub(crate) const DEL_CHAIN: u16 = 5;
    pub(crate) const NEW_RULE: u16 = 6;
    pub(crate) const DEL_RULE: u16 = 8;
    pub(crate) const NEW_SET: u16 = 9;
    pub(crate) const GET_SET: u16 = 10;
    pub(crate) const DEL_SET: u16 = 11;
    pub(crate) const NEW_ELEMENT: u16 = 12;
    pub(crate) const GET_ELEMENT: u16 = 13;
    pub(crate) const DEL_ELEMENT: u16 = 14;
    pub(crate) const NEW_GENERATION: u16 = 15;
    pub(crate) const GET_GENERATION: u16 = 16;
}

pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const USERDATA: u16 = 6;
    /// Type of the comment in the user data of a table.
    pub(crate) const UDATA_COMMENT: u8 = 0;
}

pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const USERDATA: u16 = 12;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    pub(crate) const UDATA_COMMENT: u8 = 0;
}

pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const USERDATA: u16 = 7;
    /// Type of the comment in the user data of a rule.
    pub(crate) const UDATA_COMMENT: u8 = 0;
}

pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LEN: u16 = 7;
    pub(crate) const DESC: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const DESC_SIZE: u16 = 1;
    pub(crate) const DESC_CONCAT: u16 = 2;
    pub(crate) const DESC_FIELD: u16 = 1;
    pub(crate) const DESC_FIELD_LEN: u16 = 1;

    pub(crate) const FLAG_INTERVAL: u32 = 0x4;
    pub(crate) const FLAG_MAP: u32 = 0x8;
    pub(crate) const FLAG_TIMEOUT: u32 = 0x10;
    pub(crate) const FLAG_EVAL: u32 = 0x20;
    pub(crate) const FLAG_CONCAT: u32 = 0x80;
    /// The data type that says "verdict".
    pub(crate) const DATA_VERDICT: u32 = 0xffff_ff00;
}

pub(crate) mod element {
    pub(crate) const LIST_TABLE: u16 = 1;
    pub(crate) const LIST_SET: u16 = 2;
    pub(crate) const LIST_ELEMENTS: u16 = 3;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const KEY_END: u16 = 10;
    pub(crate) const FLAG_INTERVAL_END: u32 = 1;
    /// Type of the comment in the user data of an element.
    pub(crate) const UDATA_COMMENT: u8 = 0;
}

pub(crate) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;

    pub(crate) const CODE_DROP: i32 = 0;
    pub(crate) const CODE_ACCEPT: i32 = 1;
    pub(crate) const CODE_JUMP: i32 = -3;
    pub(crate) const CODE_GOTO: i32 = -4;
    pub(crate) const CODE_RETURN: i32 = -5;
}

/// Attributes of expressions; a list element is attribute 1 everywhere.
pub(crate) mod expr {
    pub(crate) const LIST_ELEM: u16 = 1;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DATA: u16 = 2;

    /// First of the sixteen 4-byte registers.
    pub(crate) const REG32_00: u32 = 8;
    pub(crate) const REG_VERDICT: u32 = 0;

    pub(crate) const NAT_DNAT: u32 = 1;
    pub(crate) const NG_RANDOM: u32 = 1;
    pub(crate) const FIB_ADDRTYPE: u32 = 3;
    pub(crate) const FIB_SADDR: u32 = 1;
    pub(crate) const FIB_DADDR: u32 = 2;
    pub(crate) const LOOKUP_INVERT: u32 = 1;
    pub(crate) const REJECT_ICMP: u32 = 0;
    pub(crate) const REJECT_TCP_RESET: u32 = 1;

    pub(crate) const RANGE_MAP_IPS: u32 = 1;
    pub(crate) const RANGE_PROTO_SPECIFIED: u32 = 2;
    pub(crate) const RANGE_PROTO_RANDOM_FULLY: u32 = 16;
}

/// Conntrack messages and attributes.
pub(crate) mod ct {
    pub(crate) const MSG_GET: u16 = 1;
    pub(crate) const MSG_DELETE: u16 = 2;
    pub(crate) const TUPLE_ORIG: u16 = 1;
    pub(crate) const TUPLE_REPLY: u16 = 2;
    pub(crate) const FILTER: u16 = 25;
    pub(crate) const FILTER_ORIG_FLAGS: u16 = 1;
    pub(crate) const FILTER_REPLY_FLAGS: u16 = 2;
    pub(crate) const ID: u16 = 12;
    pub(crate) const TUPLE_IP: u16 = 1;
    pub(crate) const TUPLE_PROTO: u16 = 2;
    pub(crate) const IP_V4_SRC: u16 = 1;
    pub(crate) const IP_V4_DST: u16 = 2;
    pub(crate) const IP_V6_SRC: u16 = 3;
    pub(crate) const IP_V6_DST: u16 = 4;
    pub(crate) const PROTO_NUM: u16 = 1;
    pub(crate) const PROTO_SRC_PORT: u16 = 2;
    pub(crate) const PROTO_DST_PORT: u16 = 3;
    /// Bits of the filter flags: which parts of a tuple are compared.
    pub(crate) const MATCH_IP_SRC: u32 = 1;
    pub(crate) const MATCH_IP_DST: u32 = 2;
    pub(crate) const MATCH_PROTO_NUM: u32 = 8;
    pub(crate) const MATCH_PROTO_SRC_PORT: u32 = 16;
    pub(crate) const MATCH_PROTO_DST_PORT: u32 = 32;
}
