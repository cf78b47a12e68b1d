use proptest::prelude::*;

use super::*;
use crate::stats::figures::{Cpu, Device, Memory, Operation};

#[test]
fn numbers() {
    for (text, value) in [
        ("12\n", Some(12)),
        ("max\n", Some(u64::MAX)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("-1", None),
        ("", None),
        ("1 2", None),
    ] {
        assert_eq!(number(text.as_bytes()), value, "{text:?}");
    }
}

#[test]
fn cpu_time_of_both_versions() {
    let mut v2 = Cpu::default();
    cpu::stat_v2(
        b"usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 1\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\nnr_bursts 1\nburst_usec 5\n",
        &mut v2,
    );
    assert_eq!((v2.usage_ns, v2.user_ns, v2.system_ns), (30_000, 20_000, 10_000));
    assert_eq!((v2.periods, v2.throttled_periods, v2.throttled_ns), (4, 3, 2000));
    assert_eq!((v2.bursts, v2.burst_ns), (1, 5000));
    let mut v1 = Cpu::default();
    cpu::stat_v1(b"nr_periods 4\nnr_throttled 3\nthrottled_time 2000\n", &mut v1);
    cpu::acct_stat(b"user 2\nsystem 1\n", &mut v1);
    assert_eq!((v1.periods, v1.throttled_periods, v1.throttled_ns), (4, 3, 2000));
    assert_eq!((v1.user_ns, v1.system_ns), (20_000_000, 10_000_000));
    assert_eq!(cpu::max(b"max 100000\n"), (None, 100_000));
    assert_eq!(cpu::max(b"5000 100000\n"), (Some(5000), 100_000));
    assert_eq!(
        [1, 39, 10_000, 0].map(cpu::shares_of_weight),
        [2, 998, 262_144, 0]
    );
}

#[test]
fn memory_of_both_versions() {
    let mut v2 = Memory::default();
    memory::stat_v2(
        b"anon 1\nfile 2\nfile_mapped 3\ninactive_file 4\nactive_file 5\npgfault 6\npgmajfault 7\nslab 9\n",
        &mut v2,
    );
    let mut v1 = Memory::default();
    memory::stat_v1(
        b"cache 90\ntotal_rss 1\ntotal_cache 2\ntotal_mapped_file 3\ntotal_inactive_file 4\ntotal_active_file 5\npgfault 6\npgmajfault 7\ntotal_swap 0\n",
        &mut v1,
    );
    assert_eq!(v1, v2);
    assert_eq!((v2.rss, v2.cache, v2.mapped_file, v2.faults), (1, 2, 3, 6));
    let info = memory::meminfo(b"MemTotal:  10 kB\nMemAvailable: 4 kB\nSwapTotal: 2 kB\nSwapFree: 1 kB\n");
    assert_eq!(
        (info.total, info.available, info.swap_total, info.swap_free),
        (10_240, 4096, 2048, 1024)
    );
}

#[test]
fn input_and_output_of_both_versions() {
    let mut v2: Vec<Device> = Vec::new();
    io::stat(
        b"8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0 cost.usage=5\n253:1 \n",
        &mut v2,
    );
    assert_eq!(v2.len(), 1);
    assert_eq!(v2[0].bytes.get(Operation::Write), Some(20));
    assert_eq!(v2[0].count.get(Operation::Read), Some(1));
    assert_eq!(v2[0].cost.usage_us, Some(5));
    let mut v1: Vec<Device> = Vec::new();
    io::blkio(
        b"8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n9:0 Read 1\nTotal 31\n",
        io::Kind::Bytes,
        &mut v1,
    );
    io::blkio(b"8:0 Read 1\nTotal 1\n", io::Kind::Count, &mut v1);
    assert_eq!(v1.len(), 2);
    assert_eq!((v1[0].major, v1[0].bytes.get(Operation::Total)), (8, Some(30)));
    assert_eq!(v1[0].count.get(Operation::Read), Some(1));
    assert!(v1[1].count.is_empty());
}

#[test]
fn pressure() {
    let pressure = psi::pressure(
        b"some avg10=1.50 avg60=0.25 avg300=0.00 total=12\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=3\n",
    );
    assert_eq!((pressure.some.avg10, pressure.some.total_us), (1.5, 12));
    assert_eq!((pressure.full.avg10, pressure.full.total_us), (0.1, 3));
}

#[test]
fn interfaces_but_ignored_ones() {
    const FILE: &[u8] = b"Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
        eth0:       1       2    3    4    0     0          0         0        5       6    7    8    0     0       0          0\n\
        veth12:     1       2    3    4    0     0          0         0        5       6    7    8    0     0       0          0\n";
    let found = net::interfaces(FILE);
    assert_eq!(found.len(), 1);
    let eth0 = &found[0];
    assert_eq!(eth0.name, "eth0");
    assert_eq!(
        (eth0.rx_bytes, eth0.rx_packets, eth0.rx_errors, eth0.rx_dropped),
        (1, 2, 3, 4)
    );
    assert_eq!(
        (eth0.tx_bytes, eth0.tx_packets, eth0.tx_errors, eth0.tx_dropped),
        (5, 6, 7, 8)
    );
    assert_eq!(net::interfaces(b"a\nb\neth0: 1 2\n"), []);
}

#[test]
fn processes() {
    assert_eq!(process::pids(b"1\n22\nx\n").collect::<Vec<_>>(), [1, 22]);
    let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                  Max open files            1024                 524288               files\n";
    assert_eq!(process::open_files_limit(limits.as_bytes()), Some(1024));
    assert_eq!(
        process::open_files_limit(limits.replace("1024", "unlimited").as_bytes()),
        Some(-1)
    );
    assert_eq!(process::tasks(b"1.36 3.49 4.53 2/3518 3715089\n"), Some(3518));
    let v1 = b"9:name=systemd:/system.slice/a.service\n4:memory:/system.slice\n1:cpu,cpuacct:/system.slice\n0::/x\n";
    assert_eq!(
        process::cgroup(v1, false).as_deref(),
        Some("/system.slice/a.service")
    );
    assert_eq!(process::cgroup(v1, true).as_deref(), Some("/x"));
    assert_eq!(process::cgroup(b"4:memory:/a\n1:cpu:/b\n", false), None);
}

#[test]
fn disks_and_mounts() {
    let disks = disk::diskstats(b"   8       0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13\n 8 1 sda1 1\n");
    assert_eq!(disks.len(), 1);
    assert_eq!(
        (disks[0].major, disks[0].reads, disks[0].weighted_io_ms),
        (8, 1, 11)
    );
    let mounts = disk::mounts(
        b"22 1 8:1 / /a\\040b rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw\n23 1 0:5 / /dev rw - tmpfs tmpfs rw\nbroken\n",
    );
    assert_eq!(mounts.len(), 2);
    assert_eq!(
        (mounts[0].point.as_str(), mounts[0].source.as_str()),
        ("/a b", "/dev/sda1")
    );
    assert_eq!(
        (mounts[1].major, mounts[1].minor, mounts[1].kind.as_str()),
        (0, 5, "tmpfs")
    );
}

/// Every parser.
fn parse_all(bytes: &[u8]) {
    let (mut cpu, mut memory, mut devices) = (Cpu::default(), Memory::default(), Vec::new());
    let _ = number(bytes);
    cpu::stat_v2(bytes, &mut cpu);
    cpu::stat_v1(bytes, &mut cpu);
    cpu::acct_stat(bytes, &mut cpu);
    let _ = cpu::max(bytes);
    memory::stat_v2(bytes, &mut memory);
    memory::stat_v1(bytes, &mut memory);
    let _ = memory::meminfo(bytes);
    io::stat(bytes, &mut devices);
    io::blkio(bytes, io::Kind::Bytes, &mut devices);
    let _ = psi::pressure(bytes);
    let _ = net::interfaces(bytes);
    process::pids(bytes).count();
    let _ = process::open_files_limit(bytes);
    let _ = process::tasks(bytes);
    let _ = process::cgroup(bytes, true);
    let _ = process::cgroup(bytes, false);
    let _ = disk::diskstats(bytes);
    let _ = disk::mounts(bytes);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse_all(&bytes);
    }

    #[test]
    fn what_looks_like_the_kernels_never_panics(text in "((usage_usec|anon|8:0|some|eth0:|total_rss|Total|Max open files|-|rbytes=|avg10=|:|=|\\\\| |\n|[0-9]{1,25}|/a){0,3} ?){0,40}") {
        parse_all(text.as_bytes());
    }

    #[test]
    fn numbers_read_back(value in any::<u64>()) {
        prop_assert_eq!(number(format!("{value}\n").as_bytes()), Some(value));
    }

    #[test]
    fn interfaces_read_back(numbers in prop::collection::vec(any::<u64>(), 16), name in "[a-km-u][a-z0-9]{0,14}") {
        prop_assume!(!["docker", "nerdctl"].iter().any(|prefix| name.starts_with(prefix)));
        let line: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let found = net::interfaces(format!("a\nb\n{name}: {}\n", line.join(" ")).as_bytes());
        prop_assert_eq!(&found[0].name, &name);
        prop_assert_eq!([found[0].rx_bytes, found[0].rx_dropped, found[0].tx_bytes, found[0].tx_dropped],
            [numbers[0], numbers[3], numbers[8], numbers[11]]);
    }
}
