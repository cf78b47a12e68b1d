//! Which address belongs to whom: one directory for each network, one table file for each subnet.
//!
//! ```text
//! <dataDir>/<network>/lock                  taken for the length of an ADD, GC or release: one writer at a time
//! <dataDir>/<network>/10.1.2.0-24.leases    header (boot, cursor), then 32 bytes for each address
//! ```
//!
//! Why this shape:
//! - A process killed between any two system calls leaves a valid table: a slot is written by one `pwrite`.
//! - The table names the boot that it belongs to. After a reboot no namespace exists, so the table starts empty. For the
//!   same reason nothing is ever synced to disk.
//! - A lease without its veth is dead: ADD holds the lock from the allocation to the veth, and the kernel removes the veth
//!   with the namespace. So what a killed ADD or a lost DEL leaves is found without any journal, when the range runs out
//!   ([`Leases::retain`]).
//! - Allocation goes round robin from a cursor, so it reads one slot in the usual case, and an address rests as long as
//!   possible before it is used again, at least [`table::COOL_DOWN_SECS`] while others are free.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use crate::fault;
use crate::owner::Owner;
use crate::range::{Range, RangeSet, address_at};
use table::Table;

mod table;

/// The file name ending of tables.
const TABLE_SUFFIX: &str = ".leases";

/// An address given to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The address with the subnet's prefix.
    pub(crate) address: IpNetwork,
    /// The subnet's gateway.
    pub(crate) gateway: IpAddr,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The store is not usable.
    #[error(
        "cannot {verb} the lease store {path}: it needs room and may not be read-only, else set another ipam.dataDir"
    )]
    Io {
        /// What failed.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Every address is in use.
    #[error(
        "no free address in {range} of network {network:?}: delete pods, or give this node a larger range"
    )]
    Exhausted {
        /// The range set.
        range: String,
        /// The network.
        network: String,
    },
    /// The address that the runtime asked for is in use.
    #[error("the requested address {address} is in use in network {network:?}")]
    Taken {
        /// The address.
        address: IpAddr,
        /// The network.
        network: String,
    },
}

impl LeaseError {
    /// The code of the CNI specification.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Io { .. } => 5,
            Self::Exhausted { .. } | Self::Taken { .. } => 11,
        }
    }
}

/// The leases of one network, locked against every other process.
#[derive(Debug)]
pub(crate) struct Leases {
    network: String,
    directory: PathBuf,
    boot: String,
    /// Seconds since boot.
    now_secs: u32,
    /// Held, not read.
    lock: File,
}

/// A copy of this process (see `detach`) may live on with a copy of the descriptor, so closing would not do.
impl Drop for Leases {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Leases {
    /// Opens and locks the store, and makes it if it is not there.
    pub(crate) fn open(data_dir: &Path, network: &str) -> Result<Self, LeaseError> {
        let directory = data_dir.join(network);
        let failed = |source| LeaseError::Io {
            verb: "make",
            path: directory.clone(),
            source,
        };
        fs::create_dir_all(&directory).map_err(failed)?;
        Self::lock(directory, network)
    }

    /// Opens and locks the store if it is there.
    pub(crate) fn open_existing(data_dir: &Path, network: &str) -> Result<Option<Self>, LeaseError> {
        let directory = data_dir.join(network);
        if !directory.is_dir() {
            return Ok(None);
        }
        Self::lock(directory, network).map(Some)
    }

    fn lock(directory: PathBuf, network: &str) -> Result<Self, LeaseError> {
        let path = directory.join("lock");
        let failed = |source| LeaseError::Io {
            verb: "lock",
            path: path.clone(),
            source,
        };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        lock.lock().map_err(failed)?;
        let boot_path = "/proc/sys/kernel/random/boot_id";
        let boot = fs::read_to_string(boot_path).map_err(|source| LeaseError::Io {
            verb: "read the boot of",
            path: boot_path.into(),
            source,
        })?;
        let now_secs = u32::try_from(rustix::system::sysinfo().uptime).unwrap_or(u32::MAX);
        Ok(Self {
            network: network.to_owned(),
            directory,
            boot: boot.trim().to_owned(),
            now_secs,
            lock,
        })
    }

    /// Leases an address of the set, `wanted` if given. `label` is kept for people who read the table.
    pub(crate) fn allocate(
        &mut self,
        set: &RangeSet,
        owner: Owner,
        label: &str,
        wanted: Option<IpAddr>,
    ) -> Result<Lease, LeaseError> {
        for range in &set.0 {
            let mut table = self.table(range.subnet)?;
            let offset = match wanted {
                None => table.choose(range, self.now_secs),
                Some(address) => table.choose_exactly(range.offset(address)),
            };
            let failed = |source| LeaseError::Io {
                verb: "use",
                path: self.path(range.subnet),
                source,
            };
            let Some(offset) = offset.map_err(failed)? else {
                continue;
            };
            table.take(offset, owner, label, self.now_secs).map_err(failed)?;
            return Ok(lease(range, offset));
        }
        Err(match wanted {
            Some(address) => LeaseError::Taken {
                address,
                network: self.network.clone(),
            },
            None => LeaseError::Exhausted {
                range: set.to_string(),
                network: self.network.clone(),
            },
        })
    }

    /// Whether this owner has this address.
    pub(crate) fn holds(
        &mut self,
        set: &RangeSet,
        owner: Owner,
        address: IpAddr,
    ) -> Result<bool, LeaseError> {
        let Some(range) = set.range_of(address) else {
            return Ok(false);
        };
        let Some(offset) = range.offset(address) else {
            return Ok(false);
        };
        let failed = |source| LeaseError::Io {
            verb: "read",
            path: self.path(range.subnet),
            source,
        };
        let holder = self.table(range.subnet)?.holder(offset).map_err(failed)?;
        Ok(holder == Some(owner))
    }

    /// Frees what this owner holds. In every table, also those of subnets that the configuration no longer has.
    pub(crate) fn release(&mut self, owner: Owner) -> Result<(), LeaseError> {
        self.retain(|holder| Ok::<_, LeaseError>(holder != owner))
    }

    /// Frees the leases of all owners that `keep` does not want.
    pub(crate) fn retain<E: From<LeaseError>>(
        &mut self,
        mut keep: impl FnMut(Owner) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut freed = 0;
        for (path, mut table) in self.tables()? {
            let failed = |source| LeaseError::Io {
                verb: "free an address in",
                path: path.clone(),
                source,
            };
            for (offset, owner) in table.holders().map_err(failed)? {
                if !keep(owner)? {
                    fault::kill_before(format_args!("lease-{freed}"));
                    table.free(offset, self.now_secs).map_err(failed)?;
                    freed += 1;
                }
            }
        }
        Ok(())
    }

    /// Who has which address.
    pub(crate) fn held(&self) -> Result<Vec<(Owner, IpAddr)>, LeaseError> {
        let mut held = Vec::new();
        for (path, mut table) in self.tables()? {
            let Some(subnet) = subnet_of(&path) else { continue };
            let holders = table.holders().map_err(|source| LeaseError::Io {
                verb: "read",
                path: path.clone(),
                source,
            })?;
            held.extend(
                holders
                    .into_iter()
                    .map(|(offset, owner)| (owner, address_at(subnet, offset))),
            );
        }
        Ok(held)
    }

    /// All tables of this boot, also those of subnets that the configuration no longer has.
    fn tables(&self) -> Result<Vec<(PathBuf, Table)>, LeaseError> {
        let failed = |source| LeaseError::Io {
            verb: "list",
            path: self.directory.clone(),
            source,
        };
        let mut tables = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !path.to_str().is_some_and(|path| path.ends_with(TABLE_SUFFIX)) {
                continue;
            }
            let table = Table::open_existing(&path, &self.boot).map_err(|source| LeaseError::Io {
                verb: "open",
                path: path.clone(),
                source,
            })?;
            tables.extend(table.map(|table| (path, table)));
        }
        Ok(tables)
    }

    fn path(&self, subnet: IpNetwork) -> PathBuf {
        self.directory
            .join(format!("{}-{}{TABLE_SUFFIX}", subnet.ip(), subnet.prefix()))
    }

    fn table(&self, subnet: IpNetwork) -> Result<Table, LeaseError> {
        let path = self.path(subnet);
        Table::open(&path, &self.boot).map_err(|source| LeaseError::Io {
            verb: "open",
            path,
            source,
        })
    }
}

/// The subnet of a table, which its name says.
fn subnet_of(path: &Path) -> Option<IpNetwork> {
    let name = path.file_name()?.to_str()?.strip_suffix(TABLE_SUFFIX)?;
    let (address, prefix) = name.rsplit_once('-')?;
    IpNetwork::new(address.parse().ok()?, prefix.parse().ok()?).ok()
}

fn lease(range: &Range, offset: u32) -> Lease {
    let address = range.address(offset);
    // The prefix is that of a valid network of the same family; the fallback only avoids a panic path.
    let address = IpNetwork::new(address, range.subnet.prefix()).unwrap_or_else(|_| address.into());
    Lease {
        address,
        gateway: range.gateway,
    }
}

#[cfg(test)]
mod tests;
