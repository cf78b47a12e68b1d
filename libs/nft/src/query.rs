//! Questions about what is in the kernel.

use crate::element::{Element, Labelled, Value, read_element, read_labelled, write_element};
use crate::error::QueryError;
use crate::uapi::{chain, element, msg, nfnl, nlm, set, table};
use crate::wire::{Attrs, Head, Messages, Writer, read_comment};
use crate::{Family, Nft};

/// Attribute of a generation answer: the number.
const GENERATION_ID: u16 = 1;

/// What a table says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableInfo {
    /// Its comment, or empty.
    pub comment: String,
}

/// The elements of a set as they were listed.
#[derive(Debug)]
pub struct Listing {
    bytes: Vec<u8>,
}

impl Listing {
    /// The elements, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        self.attrs().filter_map(read_element)
    }

    /// The elements with their comments and the ends of their ranges.
    pub fn labelled(&self) -> impl Iterator<Item = Labelled<'_>> {
        self.attrs().filter_map(read_labelled)
    }

    fn attrs(&self) -> impl Iterator<Item = Attrs<'_>> {
        replies(&self.bytes, msg::NEW_ELEMENT)
            .filter_map(|attrs| attrs.nested(element::LIST_ELEMENTS))
            .flatten()
            .map(|(_, bytes)| Attrs(bytes))
    }
}

impl Nft {
    /// The number of the ruleset's generation: every transaction of anybody raises it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn generation(&mut self) -> Result<u32, QueryError> {
        let what = "the ruleset generation";
        let answer = self
            .socket
            .query(what, &request(0, msg::GET_GENERATION, nlm::ACK, |_| {}))?;
        Messages(&answer)
            .find_map(|m| m.attrs().be32(GENERATION_ID))
            .ok_or(QueryError::Io {
                what,
                source: std::io::ErrorKind::InvalidData.into(),
            })
    }

    /// A table, or `None` if it does not exist.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn table(&mut self, family: Family, name: &str) -> Result<Option<TableInfo>, QueryError> {
        let ask = request(family.number(), msg::GET_TABLE, nlm::ACK, |w| {
            w.string(table::NAME, name)
        });
        let answer = match self.socket.query("a table", &ask) {
            Err(e) if e.is_absent() => return Ok(None),
            other => other?,
        };
        Ok(replies(&answer, msg::NEW_TABLE).next().map(|attrs| TableInfo {
            comment: attrs
                .get(table::USERDATA)
                .and_then(|bytes| read_comment(bytes, table::UDATA_COMMENT))
                .unwrap_or_default()
                .to_owned(),
        }))
    }

    /// Names of the tables of a family, whoever made them.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn tables(&mut self, family: Family) -> Result<Vec<String>, QueryError> {
        let ask = request(family.number(), msg::GET_TABLE, nlm::DUMP, |_| {});
        let answer = self.socket.query("tables", &ask)?;
        let names = replies(&answer, msg::NEW_TABLE).filter_map(|attrs| attrs.string(table::NAME));
        Ok(names.map(str::to_owned).collect())
    }

    /// Names of the chains of a table.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<String>, QueryError> {
        let ask = request(family.number(), msg::GET_CHAIN, nlm::DUMP, |w| {
            w.string(chain::TABLE, table)
        });
        let answer = self.socket.query("chains", &ask)?;
        Ok(names(&answer, msg::NEW_CHAIN, chain::TABLE, table, chain::NAME))
    }

    /// Names of the sets and maps of a table.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn sets(&mut self, family: Family, table: &str) -> Result<Vec<String>, QueryError> {
        let ask = request(family.number(), msg::GET_SET, nlm::DUMP, |w| {
            w.string(set::TABLE, table)
        });
        let answer = self.socket.query("sets", &ask)?;
        Ok(names(&answer, msg::NEW_SET, set::TABLE, table, set::NAME))
    }

    /// All elements of a set or map.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or there is no such set ([`QueryError::is_absent`]).
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Listing, QueryError> {
        let ask = request(family.number(), msg::GET_ELEMENT, nlm::DUMP, |w| {
            w.string(element::LIST_TABLE, table);
            w.string(element::LIST_SET, set);
        });
        Ok(Listing {
            bytes: self.socket.query("elements", &ask)?,
        })
    }

    /// True if a set has an element of this key; false also if there is no such table or set.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn has_element(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        key: &[u8],
    ) -> Result<bool, QueryError> {
        let ask = request(family.number(), msg::GET_ELEMENT, nlm::ACK, |w| {
            w.string(element::LIST_TABLE, table);
            w.string(element::LIST_SET, set);
            w.nest(element::LIST_ELEMENTS, |w| {
                let member = Element {
                    key,
                    value: Value::Member,
                };
                write_element(w, member.into());
            });
        });
        match self.socket.query("an element", &ask) {
            Ok(_) => Ok(true),
            Err(e) if e.is_absent() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// One request message.
fn request(family: u8, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    let mark = w.begin_message(Head {
        kind: (nfnl::SUBSYS_NFTABLES << 8) | kind,
        flags: nlm::REQUEST | flags,
        seq: 0,
        family,
        version: 0,
        res_id: 0,
    });
    fill(&mut w);
    w.end_message(mark);
    w.buf
}

/// The attributes of the answers of one kind.
fn replies(bytes: &[u8], kind: u16) -> impl Iterator<Item = Attrs<'_>> {
    Messages(bytes)
        .filter(move |m| m.kind == (nfnl::SUBSYS_NFTABLES << 8) | kind)
        .map(|m| m.attrs())
}

/// Names of listed objects that belong to a table: older kernels ignore the filter.
fn names(answer: &[u8], kind: u16, table_attr: u16, table: &str, name_attr: u16) -> Vec<String> {
    replies(answer, kind)
        .filter(|attrs| attrs.string(table_attr) == Some(table))
        .filter_map(|attrs| attrs.string(name_attr).map(str::to_owned))
        .collect()
}
