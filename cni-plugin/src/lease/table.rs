//! One table file: a header of 4096 bytes, then one slot for each address of the subnet, in order.
//!
//! The file is sparse: what was never written reads as free. Numbers are little endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::owner::Owner;
use crate::range::Range;

/// A freed address is not given out again for this long while another one is free: time for peers to forget it
/// (neighbour entries, connection tracking, DNS, EndpointSlices).
pub(super) const COOL_DOWN_SECS: u32 = 60;

const MAGIC: &[u8; 16] = b"gantry leases 1\n";
const BOOT_AT: usize = 16;
const BOOT_BYTES: usize = 36;
const CURSOR_AT: u64 = 56;
const SLOTS_AT: u64 = 4096;
const SLOT_BYTES: usize = 32;
/// Slots read at once: one page.
const BATCH: u32 = 128;

/// What is known of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Never leased in this boot.
    Fresh,
    /// Leased; ends by `free`.
    Leased(Owner),
    /// Free again since this second after boot; ends by `take`.
    Freed(u32),
}

#[derive(Debug)]
pub(super) struct Table {
    file: File,
}

impl Table {
    /// Opens a table; one of another boot, or none, becomes an empty one.
    pub(super) fn open(path: &Path, boot: &str) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let wanted = header(boot);
        if !begins_with(&file, &wanted)? {
            file.set_len(0)?;
            file.write_all_at(&wanted, 0)?;
        }
        Ok(Self { file })
    }

    /// Opens a table that has leases of this boot, and writes nothing: there may be no room to.
    pub(super) fn open_existing(path: &Path, boot: &str) -> io::Result<Option<Self>> {
        let file = File::options().read(true).write(true).open(path)?;
        let known = begins_with(&file, &header(boot))?;
        Ok(known.then_some(Self { file }))
    }

    /// The next address of the range to lease, or none.
    pub(super) fn choose(&mut self, range: &Range, now_secs: u32) -> io::Result<Option<u32>> {
        let mut bytes = [0; 4];
        read_up_to(&self.file, &mut bytes, CURSOR_AT)?;
        let cursor = u32::from_le_bytes(bytes).clamp(range.first, range.last);
        let mut search = Search {
            now_secs,
            oldest: None,
        };
        let found = match self.search(cursor, range.last, range, &mut search)? {
            Some(offset) => Some(offset),
            None if cursor > range.first => self.search(range.first, cursor - 1, range, &mut search)?,
            None => None,
        };
        Ok(found.or(search.oldest.map(|(offset, _)| offset)))
    }

    /// This address, if it is free.
    pub(super) fn choose_exactly(&mut self, offset: Option<u32>) -> io::Result<Option<u32>> {
        let Some(offset) = offset else { return Ok(None) };
        Ok(self.holder(offset)?.is_none().then_some(offset))
    }

    /// Who has this address.
    pub(super) fn holder(&mut self, offset: u32) -> io::Result<Option<Owner>> {
        let mut bytes = [0; SLOT_BYTES];
        read_up_to(&self.file, &mut bytes, slot_at(offset))?;
        Ok(match Slot::read(&bytes) {
            Slot::Leased(owner) => Some(owner),
            Slot::Fresh | Slot::Freed(_) => None,
        })
    }

    /// All leased addresses.
    pub(super) fn holders(&mut self) -> io::Result<Vec<(u32, Owner)>> {
        let mut holders = Vec::new();
        let end = self.file.metadata()?.len().saturating_sub(SLOTS_AT) / SLOT_BYTES as u64;
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        let mut first = 0;
        while first < end {
            self.batch(first, |offset, slot| {
                if let Slot::Leased(owner) = slot {
                    holders.push((offset, owner));
                }
                false
            })?;
            first += BATCH;
        }
        Ok(holders)
    }

    /// Leases an address and moves the cursor behind it.
    pub(super) fn take(&mut self, offset: u32, owner: Owner, label: &str, now_secs: u32) -> io::Result<()> {
        self.write(offset, Slot::Leased(owner), label, now_secs)?;
        self.file
            .write_all_at(&offset.saturating_add(1).to_le_bytes(), CURSOR_AT)
    }

    /// Frees an address.
    pub(super) fn free(&mut self, offset: u32, now_secs: u32) -> io::Result<()> {
        self.write(offset, Slot::Freed(now_secs), "", now_secs)
    }

    fn write(&mut self, offset: u32, slot: Slot, label: &str, now_secs: u32) -> io::Result<()> {
        self.file
            .write_all_at(&slot.encode(label, now_secs), slot_at(offset))
    }

    fn search(&self, first: u32, last: u32, range: &Range, search: &mut Search) -> io::Result<Option<u32>> {
        let mut found = None;
        let mut next = first;
        while next <= last && found.is_none() {
            self.batch(next, |offset, slot| {
                let usable = offset <= last && range.address(offset) != range.gateway;
                if usable && search.accept(offset, slot) {
                    found = Some(offset);
                }
                found.is_some() || offset >= last
            })?;
            next = next.saturating_add(BATCH);
        }
        Ok(found)
    }

    /// Shows up to a page of slots from `first` on, until the visitor has seen enough.
    fn batch(&self, first: u32, mut visit: impl FnMut(u32, Slot) -> bool) -> io::Result<()> {
        let mut bytes = [0; BATCH as usize * SLOT_BYTES];
        read_up_to(&self.file, &mut bytes, slot_at(first))?;
        let slots = bytes.as_chunks::<SLOT_BYTES>().0.iter().map(Slot::read);
        for (offset, slot) in (first..).zip(slots) {
            if visit(offset, slot) {
                break;
            }
        }
        Ok(())
    }
}

/// The rule of choice: the first address that is fresh or has rested, else the one that has rested longest.
struct Search {
    now_secs: u32,
    oldest: Option<(u32, u32)>,
}

impl Search {
    fn accept(&mut self, offset: u32, slot: Slot) -> bool {
        match slot {
            Slot::Fresh => true,
            Slot::Leased(_) => false,
            Slot::Freed(since) => {
                if self.oldest.is_none_or(|(_, oldest)| since < oldest) {
                    self.oldest = Some((offset, since));
                }
                self.now_secs.saturating_sub(since) >= COOL_DOWN_SECS
            }
        }
    }
}

impl Slot {
    /// Owner (16), second of the last change (4), state (1), the start of the container's identifier (11).
    fn read(bytes: &[u8; SLOT_BYTES]) -> Self {
        let (owner, rest) = bytes.split_at(16);
        let (since, rest) = rest.split_at(4);
        let owner = owner.try_into().map(u128::from_le_bytes).unwrap_or_default();
        let since = since.try_into().map(u32::from_le_bytes).unwrap_or_default();
        match rest[0] {
            1 => Self::Leased(Owner(owner)),
            2 => Self::Freed(since),
            _ => Self::Fresh,
        }
    }

    fn encode(self, label: &str, now_secs: u32) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        let (owner, since, state) = match self {
            Self::Fresh => (Owner(0), 0, 0),
            Self::Leased(owner) => (owner, now_secs, 1),
            Self::Freed(since) => (Owner(0), since, 2),
        };
        bytes[..16].copy_from_slice(&owner.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&since.to_le_bytes());
        bytes[20] = state;
        let label = label.as_bytes();
        let length = label.len().min(SLOT_BYTES - 21);
        bytes[21..21 + length].copy_from_slice(&label[..length]);
        bytes
    }
}

fn header(boot: &str) -> [u8; BOOT_AT + BOOT_BYTES] {
    let mut header = [0; BOOT_AT + BOOT_BYTES];
    header[..BOOT_AT].copy_from_slice(MAGIC);
    let boot = boot.as_bytes();
    let boot = &boot[..boot.len().min(BOOT_BYTES)];
    header[BOOT_AT..BOOT_AT + boot.len()].copy_from_slice(boot);
    header
}

fn begins_with(file: &File, header: &[u8; BOOT_AT + BOOT_BYTES]) -> io::Result<bool> {
    let mut found = [0; BOOT_AT + BOOT_BYTES];
    read_up_to(file, &mut found, 0)?;
    Ok(found == *header)
}

fn slot_at(offset: u32) -> u64 {
    SLOTS_AT + u64::from(offset) * SLOT_BYTES as u64
}

/// Reads what is there; the rest stays zero.
fn read_up_to(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, at) {
            Ok(0) => break,
            Ok(count) => {
                bytes = &mut bytes[count..];
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
