//! A transaction: messages about one table that the kernel applies together or not at all.

use crate::element::{Labelled, write_element};
use crate::rule::Rule;
use crate::uapi::{chain, element, msg, nfnl, nlm, rule, set, table};
use crate::wire::{Attrs, Head, Mark, Messages, Writer, comment_data};
use crate::{Family, FieldType, Hook, Set, SetData};

/// A message's list of elements is closed at this size, in bytes: the attribute's length has 16 bits.
const MAX_LIST_BYTES: usize = 56 * 1024;
/// Number of the message that opens a batch. The others follow.
const FIRST_SEQ: u32 = 1;

/// Messages about one table, in order.
///
/// Objects are created if they are missing and left alone if they exist, except elements of maps, where a different value for an
/// existing key is an error (`EEXIST`): delete the old one first, in the same transaction.
#[derive(Debug)]
pub struct Transaction {
    family: Family,
    table: String,
    writer: Writer,
    next_seq: u32,
    last_message: usize,
    next_set_id: u32,
}

impl Transaction {
    /// An empty transaction for a table.
    #[must_use]
    pub fn new(family: Family, table: &str) -> Self {
        let mut tx = Self::unopened(family, table);
        tx.batch_message(nfnl::BATCH_BEGIN, None);
        tx
    }

    /// An empty transaction that the kernel takes only if nothing was changed since this generation
    /// ([`crate::Nft::generation`], [`crate::CommitError::is_outdated`]).
    #[must_use]
    pub fn at_generation(family: Family, table: &str, generation: u32) -> Self {
        let mut tx = Self::unopened(family, table);
        tx.batch_message(nfnl::BATCH_BEGIN, Some(generation));
        tx
    }

    fn unopened(family: Family, table: &str) -> Self {
        Self {
            family,
            table: table.to_owned(),
            writer: Writer::default(),
            next_seq: FIRST_SEQ,
            last_message: 0,
            next_set_id: 1,
        }
    }

    /// True if nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next_seq == FIRST_SEQ + 1
    }

    /// The bytes so far: equal for equal transactions, so a fingerprint of a table's layout.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.writer.buf
    }

    /// Creates the table if it is missing. `comment` is only set when it is created.
    pub fn add_table(&mut self, comment: &str) {
        self.table_message(msg::NEW_TABLE, nlm::CREATE, comment);
    }

    /// Deletes the table with everything in it, if there is one.
    pub fn delete_table(&mut self) {
        // Deleting needs a table; making one that exists changes nothing.
        self.add_table("");
        self.table_message(msg::DEL_TABLE, 0, "");
    }

    /// Creates a chain if it is missing, at a hook or (without one) to be jumped to.
    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        self.chain_message(name, hook, "");
    }

    /// Creates a chain to be jumped to if it is missing. `comment` is only set when it is created, and from kernel 5.10 on.
    pub fn add_commented_chain(&mut self, name: &str, comment: &str) {
        self.chain_message(name, None, comment);
    }

    fn chain_message(&mut self, name: &str, hook: Option<Hook>, comment: &str) {
        let mark = self.begin(msg::NEW_CHAIN, nlm::CREATE);
        let w = &mut self.writer;
        w.string(chain::TABLE, &self.table);
        w.string(chain::NAME, name);
        if let Some(hook) = hook {
            w.nest(chain::HOOK, |w| {
                w.be32(chain::HOOK_NUMBER, hook.point.number());
                w.bytes(chain::HOOK_PRIORITY, &hook.priority.to_be_bytes());
            });
            w.be32(chain::POLICY, 1);
            w.string(chain::TYPE, hook.kind.name());
        }
        if !comment.is_empty() {
            w.bytes(chain::USERDATA, &comment_data(chain::UDATA_COMMENT, comment));
        }
        self.writer.end_message(mark);
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        let mark = self.begin(msg::DEL_RULE, 0);
        self.writer.string(rule::TABLE, &self.table);
        self.writer.string(rule::CHAIN, name);
        self.writer.end_message(mark);
    }

    /// Deletes a chain that nothing jumps to; an error if there is none.
    pub fn delete_chain(&mut self, name: &str) {
        let mark = self.begin(msg::DEL_CHAIN, 0);
        self.writer.string(chain::TABLE, &self.table);
        self.writer.string(chain::NAME, name);
        self.writer.end_message(mark);
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, new: &Rule) {
        self.rule_message(nlm::APPEND, chain, new);
    }

    /// Puts a rule before all others of a chain.
    pub fn insert_rule(&mut self, chain: &str, new: &Rule) {
        self.rule_message(0, chain, new);
    }

    fn rule_message(&mut self, flags: u16, chain: &str, new: &Rule) {
        let mark = self.begin(msg::NEW_RULE, nlm::CREATE | flags);
        let w = &mut self.writer;
        w.string(rule::TABLE, &self.table);
        w.string(rule::CHAIN, chain);
        w.nest(rule::EXPRESSIONS, |w| {
            w.buf.extend_from_slice(&new.expressions.buf)
        });
        if let Some(comment) = &new.comment {
            w.bytes(rule::USERDATA, &comment_data(rule::UDATA_COMMENT, comment));
        }
        self.writer.end_message(mark);
    }

    /// Creates a set or map if it is missing.
    pub fn add_set(&mut self, new: &Set<'_>) {
        let id = self.next_set_id;
        self.next_set_id += 1;
        let mark = self.begin(msg::NEW_SET, nlm::CREATE);
        let (family, w) = (self.family, &mut self.writer);
        w.string(set::TABLE, &self.table);
        w.string(set::NAME, new.name);
        let (mut flags, data_type) = match new.data {
            SetData::None => (0, None),
            SetData::Verdict => (set::FLAG_MAP, Some((set::DATA_VERDICT, 0))),
            SetData::Fields(fields) => (set::FLAG_MAP, Some(field_types(family, fields))),
        };
        if new.interval {
            flags |= set::FLAG_INTERVAL;
        }
        if new.ranges {
            flags |= set::FLAG_INTERVAL | set::FLAG_CONCAT;
        }
        if new.dynamic {
            flags |= set::FLAG_TIMEOUT | set::FLAG_EVAL;
        }
        let (key_type, key_len) = field_types(family, new.key);
        w.be32(set::FLAGS, flags);
        w.be32(set::KEY_TYPE, key_type);
        w.be32(set::KEY_LEN, key_len);
        if let Some((data_type, data_len)) = data_type {
            w.be32(set::DATA_TYPE, data_type);
            w.be32(set::DATA_LEN, data_len);
        }
        if new.max_elements.is_some() || new.ranges {
            w.nest(set::DESC, |w| describe_set(w, family, new));
        }
        w.be32(set::ID, id);
        self.writer.end_message(mark);
    }

    /// Deletes a set or map that no rule uses; an error if there is none.
    pub fn delete_set(&mut self, name: &str) {
        let mark = self.begin(msg::DEL_SET, 0);
        self.writer.string(set::TABLE, &self.table);
        self.writer.string(set::NAME, name);
        self.writer.end_message(mark);
    }

    /// Adds elements to a set or map.
    pub fn add_elements<'e, E: Into<Labelled<'e>>>(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = E>,
    ) {
        self.elements(msg::NEW_ELEMENT, nlm::CREATE, set, elements);
    }

    /// Adds elements; an error if one exists already.
    pub fn create_elements<'e, E: Into<Labelled<'e>>>(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = E>,
    ) {
        self.elements(msg::NEW_ELEMENT, nlm::CREATE | nlm::EXCL, set, elements);
    }

    /// Deletes elements by key; an error if one is missing.
    pub fn delete_elements<'e, E: Into<Labelled<'e>>>(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = E>,
    ) {
        self.elements(msg::DEL_ELEMENT, 0, set, elements);
    }

    /// Removes all elements of a set or map.
    pub fn flush_set(&mut self, name: &str) {
        let mark = self.begin(msg::DEL_ELEMENT, 0);
        self.writer.string(element::LIST_TABLE, &self.table);
        self.writer.string(element::LIST_SET, name);
        self.writer.end_message(mark);
    }

    fn elements<'e, E: Into<Labelled<'e>>>(
        &mut self,
        kind: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = E>,
    ) {
        let mut open: Option<(Mark, Mark)> = None;
        for item in elements {
            let (message, list) = match open {
                Some((message, list)) if self.writer.since(list) < MAX_LIST_BYTES => (message, list),
                full => {
                    self.close_list(full);
                    let message = self.begin(kind, flags);
                    self.writer.string(element::LIST_TABLE, &self.table);
                    self.writer.string(element::LIST_SET, set);
                    (message, self.writer.begin(element::LIST_ELEMENTS))
                }
            };
            write_element(&mut self.writer, item.into());
            open = Some((message, list));
        }
        self.close_list(open);
    }

    fn close_list(&mut self, open: Option<(Mark, Mark)>) {
        if let Some((message, list)) = open {
            self.writer.end(list);
            self.writer.end_message(message);
        }
    }

    /// The finished batch: the last message asks for an answer, and the end of the batch follows it.
    pub(crate) fn finish(&mut self) -> (&[u8], u32) {
        let last_seq = self.next_seq - 1;
        self.writer.or_flags(self.last_message, nlm::ACK);
        self.batch_message(nfnl::BATCH_END, None);
        (&self.writer.buf, last_seq)
    }

    /// The message of this number in words.
    pub(crate) fn describe(&self, seq: u32) -> String {
        let Some(message) = Messages(&self.writer.buf).find(|m| m.seq == seq) else {
            return "apply the transaction".to_owned();
        };
        if message.kind == nfnl::BATCH_BEGIN || message.kind == nfnl::BATCH_END {
            return "apply the transaction".to_owned();
        }
        let attrs = message.attrs();
        let name = |kind| attrs.string(kind).unwrap_or("?");
        let action = match message.kind & 0xff {
            msg::NEW_TABLE => "create the table".to_owned(),
            msg::DEL_TABLE => "delete the table".to_owned(),
            msg::NEW_CHAIN => format!("create chain {}", name(chain::NAME)),
            msg::DEL_CHAIN => format!("delete chain {}", name(chain::NAME)),
            msg::NEW_RULE => format!("add a rule to chain {}", name(rule::CHAIN)),
            msg::DEL_RULE => format!("flush chain {}", name(rule::CHAIN)),
            msg::NEW_SET => format!("create set {}", name(set::NAME)),
            msg::DEL_SET => format!("delete set {}", name(set::NAME)),
            msg::NEW_ELEMENT => {
                format!("add {} elements to set {}", count(attrs), name(element::LIST_SET))
            }
            msg::DEL_ELEMENT => {
                format!(
                    "delete {} elements of set {}",
                    count(attrs),
                    name(element::LIST_SET)
                )
            }
            other => format!("take message type {other}"),
        };
        format!("{action} of table {}", self.table)
    }

    fn table_message(&mut self, kind: u16, flags: u16, comment: &str) {
        let mark = self.begin(kind, flags);
        self.writer.string(table::NAME, &self.table);
        if !comment.is_empty() {
            self.writer
                .bytes(table::USERDATA, &comment_data(table::UDATA_COMMENT, comment));
        }
        self.writer.end_message(mark);
    }

    fn begin(&mut self, kind: u16, flags: u16) -> Mark {
        self.last_message = self.writer.buf.len();
        let head = Head {
            kind: (nfnl::SUBSYS_NFTABLES << 8) | kind,
            flags: nlm::REQUEST | flags,
            seq: self.next_seq,
            family: self.family.number(),
            version: 0,
            res_id: 0,
        };
        self.next_seq += 1;
        self.writer.begin_message(head)
    }

    fn batch_message(&mut self, kind: u16, generation: Option<u32>) {
        let head = Head {
            kind,
            flags: nlm::REQUEST,
            seq: self.next_seq,
            family: 0,
            version: 0,
            res_id: nfnl::SUBSYS_NFTABLES,
        };
        self.next_seq += 1;
        let mark = self.writer.begin_message(head);
        if let Some(generation) = generation {
            self.writer.be32(nfnl::BATCH_GENERATION, generation);
        }
        self.writer.end_message(mark);
    }
}

/// How many elements a message holds.
fn count(attrs: Attrs<'_>) -> usize {
    attrs.nested(element::LIST_ELEMENTS).map_or(0, Iterator::count)
}

/// How large a set may become, and where the fields of a set of ranges end.
fn describe_set(w: &mut Writer, family: Family, new: &Set<'_>) {
    if let Some(size) = new.max_elements {
        w.be32(set::DESC_SIZE, size);
    }
    if !new.ranges {
        return;
    }
    w.nest(set::DESC_CONCAT, |w| {
        for field in new.key {
            let (_, len) = field_types(family, &[*field]);
            w.nest(set::DESC_FIELD, |w| w.be32(set::DESC_FIELD_LEN, len));
        }
    });
}

/// nft's number for a concatenation of types (6 bits each), and its length in bytes.
fn field_types(family: Family, fields: &[FieldType]) -> (u32, u32) {
    fields.iter().fold((0, 0), |(number, len), field| {
        let (n, l) = match field {
            FieldType::Address => match family {
                Family::Ipv4 => (7, 4),
                Family::Ipv6 => (8, 16),
            },
            FieldType::Protocol => (12, 1),
            FieldType::Port => (13, 2),
            // nft's own type for numbers, `integer`, has no size: nft 1.0.6 fails on sorting such keys.
            FieldType::Number => (19, 4),
        };
        let l: u32 = if fields.len() > 1 {
            u32::next_multiple_of(l, 4)
        } else {
            l
        };
        ((number << 6) | n, len + l)
    })
}
