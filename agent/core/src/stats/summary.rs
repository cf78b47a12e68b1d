//! `/stats/summary`: the JSON of the API `stats/v1alpha1`, field for field.
//!
//! A figure that is not known is left out; the reference's rule for zeros is kept (a zero is written). [`make`] builds
//! the parts from the model.

pub mod make;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A time as the Kubernetes API writes it: UTC, whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = Timestamp::from_second(self.0.as_second()).unwrap_or(self.0);
        serializer.collect_str(&whole)
    }
}

macro_rules! object {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$of])* pub $field: $kind,)*
        }
    };
}

/// `Option` that is left out when it is `None`.
macro_rules! stats {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// When it was read.
            pub time: Time,
            $($(#[$of])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$kind>,)*
        }

        impl $name {
            /// Nothing known.
            #[must_use]
            pub fn at(time: Timestamp) -> Self {
                Self { time: Time(time), $($field: None,)* }
            }
        }
    };
}

object! {
    /// The answer.
    Summary {
        /// The node.
        node: Node,
        /// Its pods.
        pods: Vec<Pod>,
    }
}

object! {
    /// The node.
    Node {
        /// Its name.
        node_name: String,
        /// Cgroups of the system: `kubelet`, `pods`, ...
        #[serde(skip_serializing_if = "Vec::is_empty")]
        system_containers: Vec<Container>,
        /// When it was booted.
        start_time: Time,
        /// CPU.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpu: Option<Cpu>,
        /// Memory.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<Memory>,
        /// Disks' pressure.
        #[serde(skip_serializing_if = "Option::is_none")]
        io: Option<Io>,
        /// Network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
        /// The agent's file system.
        #[serde(skip_serializing_if = "Option::is_none")]
        fs: Option<Fs>,
        /// The runtime's file systems.
        #[serde(skip_serializing_if = "Option::is_none")]
        runtime: Option<Runtime>,
        /// Processes.
        #[serde(skip_serializing_if = "Option::is_none")]
        rlimit: Option<Rlimit>,
        /// Swap.
        #[serde(skip_serializing_if = "Option::is_none")]
        swap: Option<Swap>,
    }
}

object! {
    /// A pod.
    Pod {
        /// Which.
        pod_ref: PodRef,
        /// When its sandbox was made.
        start_time: Time,
        /// Its running containers.
        containers: Vec<Container>,
        /// CPU.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpu: Option<Cpu>,
        /// Memory.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<Memory>,
        /// Disks' pressure.
        #[serde(skip_serializing_if = "Option::is_none")]
        io: Option<Io>,
        /// Network.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
        /// Volumes.
        #[serde(rename = "volume", skip_serializing_if = "Vec::is_empty")]
        volumes: Vec<Volume>,
        /// Everything on the node's own disk.
        #[serde(rename = "ephemeral-storage", skip_serializing_if = "Option::is_none")]
        ephemeral_storage: Option<Fs>,
        /// Processes.
        #[serde(rename = "process_stats", skip_serializing_if = "Option::is_none")]
        process_stats: Option<ProcessStats>,
        /// Swap.
        #[serde(skip_serializing_if = "Option::is_none")]
        swap: Option<Swap>,
    }
}

object! {
    /// Which pod.
    PodRef {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// Its UID.
        uid: String,
    }
}

object! {
    /// A container, or a cgroup of the system.
    Container {
        /// Its name.
        name: String,
        /// When it was started.
        start_time: Time,
        /// CPU.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpu: Option<Cpu>,
        /// Memory.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<Memory>,
        /// Disks' pressure.
        #[serde(skip_serializing_if = "Option::is_none")]
        io: Option<Io>,
        /// The layer that it writes to.
        #[serde(skip_serializing_if = "Option::is_none")]
        rootfs: Option<Fs>,
        /// Its logs.
        #[serde(skip_serializing_if = "Option::is_none")]
        logs: Option<Fs>,
        /// Swap.
        #[serde(skip_serializing_if = "Option::is_none")]
        swap: Option<Swap>,
    }
}

stats! {
    /// CPU.
    Cpu {
        /// Thousand-millionths of a CPU, just now; see [`super::rate`].
        usage_nano_cores: u64,
        /// In all.
        usage_core_nano_seconds: u64,
        /// Pressure.
        psi: Psi,
    }
}

stats! {
    /// Memory, in bytes.
    Memory {
        /// Limit without working set.
        available_bytes: u64,
        /// Everything that is accounted.
        usage_bytes: u64,
        /// What could not be freed at once.
        working_set_bytes: u64,
        /// Anonymous memory.
        rss_bytes: u64,
        /// Page faults.
        page_faults: u64,
        /// Page faults that read a disk.
        major_page_faults: u64,
        /// Pressure.
        psi: Psi,
    }
}

stats! {
    /// Disks.
    Io {
        /// Pressure.
        psi: Psi,
    }
}

stats! {
    /// Swap, in bytes.
    Swap {
        /// What may still be used.
        swap_available_bytes: u64,
        /// What is used.
        swap_usage_bytes: u64,
    }
}

stats! {
    /// Room in a file system, and what something takes of it.
    Fs {
        /// Free for everybody.
        available_bytes: u64,
        /// All.
        capacity_bytes: u64,
        /// Taken.
        used_bytes: u64,
        /// Free inodes.
        inodes_free: u64,
        /// All inodes.
        inodes: u64,
        /// Inodes taken.
        inodes_used: u64,
    }
}

stats! {
    /// Processes of the node.
    Rlimit {
        /// The highest process id.
        maxpid: u64,
        /// Processes and threads now.
        curproc: u64,
    }
}

object! {
    /// Pressure on a resource.
    #[derive(Copy)]
    Psi {
        /// All tasks stalled.
        full: PsiData,
        /// Some did.
        some: PsiData,
    }
}

object! {
    /// How long tasks stalled.
    #[derive(Copy)]
    PsiData {
        /// Microseconds.
        total: u64,
        /// Percent of 10 seconds.
        avg10: f64,
        /// Percent of a minute.
        avg60: f64,
        /// Percent of five minutes.
        avg300: f64,
    }
}

object! {
    /// A network namespace: its main interface, then all.
    Network {
        /// When it was read.
        time: Time,
        /// `eth0`, or an empty name.
        #[serde(flatten)]
        main: Interface,
        /// All of them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        interfaces: Vec<Interface>,
    }
}

object! {
    /// A network interface.
    #[derive(Default)]
    Interface {
        /// Its name.
        name: String,
        /// Bytes received.
        #[serde(skip_serializing_if = "Option::is_none")]
        rx_bytes: Option<u64>,
        /// Errors receiving.
        #[serde(skip_serializing_if = "Option::is_none")]
        rx_errors: Option<u64>,
        /// Bytes sent.
        #[serde(skip_serializing_if = "Option::is_none")]
        tx_bytes: Option<u64>,
        /// Errors sending.
        #[serde(skip_serializing_if = "Option::is_none")]
        tx_errors: Option<u64>,
    }
}

object! {
    /// The runtime's file systems.
    Runtime {
        /// Where images are.
        #[serde(skip_serializing_if = "Option::is_none")]
        image_fs: Option<Fs>,
        /// Where containers write.
        #[serde(skip_serializing_if = "Option::is_none")]
        container_fs: Option<Fs>,
    }
}

object! {
    /// A volume.
    Volume {
        /// Its room.
        #[serde(flatten)]
        fs: Fs,
        /// Its name in the pod.
        name: String,
        /// The claim that it comes from.
        #[serde(rename = "pvcRef", skip_serializing_if = "Option::is_none")]
        claim: Option<Claim>,
    }
}

object! {
    /// A PersistentVolumeClaim.
    Claim {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    }
}

object! {
    /// Processes of a pod's containers and sandbox.
    ProcessStats {
        /// How many.
        #[serde(rename = "process_count")]
        process_count: u64,
    }
}
