use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::stats::figures::{
    Cost, Cpu, Device, Interface, Memory, Operation, Operations, Pressures, Processes, Room, Usage,
};
use crate::stats::text::Identity;

fn at() -> Timestamp {
    Timestamp::from_millisecond(5_000).unwrap()
}

fn operations(read: u64, write: u64) -> Operations {
    let mut operations = Operations::default();
    operations.set(Operation::Read, read);
    operations.set(Operation::Write, write);
    operations
}

/// A cgroup that has something of everything.
fn figures() -> Figures {
    let device = |minor| Device {
        major: 8,
        minor,
        bytes: operations(10, 20),
        count: operations(1, 2),
        cost: Cost {
            usage_us: Some(3),
            ..Cost::default()
        },
    };
    Figures {
        cpu: Cpu {
            usage_ns: 2_500_000_000,
            periods: 9,
            ..Cpu::default()
        },
        memory: Some(Memory {
            usage: 100,
            inactive_file: 1,
            faults: 4,
            ..Memory::default()
        }),
        devices: vec![device(0), device(16), device(32)],
        pressures: Some(Pressures::default()),
        processes: Processes {
            open_files_limit: Some(-1),
            ..Processes::default()
        },
        interfaces: Some(vec![Interface {
            name: "eth0".to_owned(),
            rx_bytes: 77,
            ..Interface::default()
        }]),
        ..Figures::new(at())
    }
}

fn file_system(device: &str) -> FileSystem {
    FileSystem {
        device: device.to_owned(),
        room: Room {
            capacity: 10,
            free: 4,
            ..Room::default()
        },
        disk: crate::stats::parse::disk::DiskStats {
            reads: 6,
            read_ms: 1500,
            ..Default::default()
        },
        ..FileSystem::default()
    }
}

fn scrape(figures: &Figures, limits: &Limits, file_systems: &[FileSystem]) -> String {
    let labels = Labels::new(&Identity {
        id: "/",
        ..Identity::default()
    });
    let row = Row {
        labels: Arc::new(labels),
        figures: Arc::new(figures.clone()),
        limits: *limits,
        file_systems: file_systems.to_vec(),
    };
    let scrape = Scrape {
        at: at(),
        machine: Arc::default(),
        rows: vec![row],
        devices: vec![DeviceName {
            major: 8,
            minor: 0,
            name: "/dev/sda".to_owned(),
        }],
        failed: false,
    };
    whole(scrape)
}

fn whole(scrape: Scrape) -> String {
    let parts: Vec<Vec<u8>> = scrape.parts().collect();
    String::from_utf8(parts.concat()).unwrap()
}

/// Families, labels beside the six, and what follows.
const LINES: &[(&str, &str, &str)] = &[
    ("container_cpu_usage_seconds_total", "cpu=\"total\"", "2.5 5000"),
    ("container_cpu_cfs_periods_total", "", "9 5000"),
    ("container_memory_working_set_bytes", "", "99 5000"),
    (
        "container_memory_failures_total",
        "failure_type=\"pgfault\",scope=\"hierarchy\"",
        "4 5000",
    ),
    (
        "container_network_receive_bytes_total",
        "interface=\"eth0\"",
        "77 5000",
    ),
    ("container_fs_reads_bytes_total", "device=\"/dev/sda\"", "10 5000"),
    ("container_fs_reads_total", "device=\"/dev/sda\"", "1 5000"),
    ("container_fs_reads_total", "device=\"/run\"", "6 5000"),
    ("container_fs_read_seconds_total", "device=\"/run\"", "1.5 5000"),
    ("container_fs_usage_bytes", "device=\"/dev/sda\"", "6 5000"),
    (
        "container_fs_io_cost_usage_seconds_total",
        "device=\"\"",
        "0.000003 5000",
    ),
    (
        "container_blkio_device_usage_total",
        "device=\"\",major=\"8\",minor=\"16\",operation=\"Write\"",
        "20 5000",
    ),
    ("container_tasks_state", "state=\"running\"", "0 5000"),
    ("container_ulimits_soft", "ulimit=\"max_open_files\"", "-1 5000"),
    ("container_start_time_seconds", "", "5"),
    ("container_last_seen", "", "5 5000"),
    ("container_spec_cpu_quota", "", "5000"),
    ("container_spec_memory_limit_bytes", "", "0"),
    ("container_pressure_io_waiting_seconds_total", "", "0 5000"),
];

#[test]
fn lines_are_those_of_the_reference() {
    let limits = Limits {
        created: at(),
        cpu_quota_us: Some(5000),
        memory: u64::MAX,
        ..Limits::default()
    };
    let text = scrape(
        &figures(),
        &limits,
        &[file_system("/dev/sda"), file_system("/run")],
    );
    let labels = |more: &str| {
        let mut parts = vec![
            "container=\"\"",
            "id=\"/\"",
            "image=\"\"",
            "name=\"\"",
            "namespace=\"\"",
            "pod=\"\"",
        ];
        parts.extend(more.split(',').filter(|part| !part.is_empty()));
        parts.sort_unstable();
        parts.join(",")
    };
    for (name, more, value) in LINES {
        let line = format!("{name}{{{}}} {value}\n", labels(more));
        assert!(text.contains(&line), "{line} in:\n{text}");
    }
    assert!(text.contains("container_scrape_error 0\n"));
}

#[test]
fn no_two_lines_have_the_same_name_and_labels() {
    let limits = Limits {
        cpu_quota_us: Some(1),
        ..Limits::default()
    };
    let text = scrape(
        &figures(),
        &limits,
        &[file_system("/dev/sda"), file_system("/run")],
    );
    let mut seen = HashSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let end = line
            .find('}')
            .map_or_else(|| line.find(' ').unwrap(), |end| end + 1);
        assert!(seen.insert(&line[..end]), "twice: {line}");
    }
    let families: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let different: HashSet<_> = families.iter().collect();
    assert_eq!(families.len(), different.len());
}

#[test]
fn a_large_answer_comes_in_parts_of_whole_families() {
    let row = |number: usize| Row {
        labels: Arc::new(Labels::new(&Identity {
            name: &number.to_string(),
            ..Identity::default()
        })),
        figures: Arc::new(figures()),
        limits: Limits::default(),
        file_systems: Vec::new(),
    };
    let scrape = Scrape {
        at: at(),
        machine: Arc::default(),
        rows: (0..500).map(row).collect(),
        devices: Vec::new(),
        failed: false,
    };
    let parts: Vec<Vec<u8>> = scrape.clone().parts().collect();
    let (last, others) = parts.split_last().unwrap();
    assert!(others.len() > 10);
    assert!(others.iter().all(|part| part.len() >= PART));
    for part in parts.iter() {
        assert!(part.starts_with(b"# HELP ") && part.ends_with(b"\n"));
    }
    assert!(last.ends_with(b"machine_scrape_error 0\n"));
    let text = whole(scrape);
    let heads = text.lines().filter(|line| line.starts_with("# TYPE "));
    let families: HashSet<&str> = heads.clone().collect();
    assert_eq!(families.len(), heads.count());
    assert_eq!(text.matches("container_memory_rss{").count(), 500);
}

#[test]
fn families_without_a_line_are_left_out() {
    let text = scrape(&Figures::new(at()), &Limits::default(), &[]);
    for absent in [
        "container_cpu_usage_seconds_total",
        "container_cpu_cfs",
        "container_spec_cpu_quota",
        "container_spec_memory",
        "container_fs_",
        "container_network",
        "container_pressure",
        "container_ulimits",
        "container_blkio",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(text.contains("container_memory_rss{"), "zeros are written");
}

proptest! {
    #[test]
    fn any_names_make_lines_of_one_shape(pod in ".*", image in ".*", device in ".*") {
        let labels = Labels::new(&Identity { pod: &pod, image: &image, ..Identity::default() });
        let row = Row {
            labels: Arc::new(labels),
            figures: Arc::new(figures()),
            limits: Limits::default(),
            file_systems: vec![file_system(&device)],
        };
        let text = whole(Scrape { at: at(), machine: Arc::default(), rows: vec![row], devices: Vec::new(), failed: true });
        for line in text.split('\n') {
            let head = ["# HELP ", "# TYPE ", "container_", "machine_", "cadvisor_"];
            prop_assert!(line.is_empty() || head.iter().any(|head| line.starts_with(head)), "{}", line);
        }
    }

    #[test]
    fn usage_adds_up(parts in prop::collection::vec((any::<u32>(), any::<u32>()), 0..9)) {
        let usage = |(bytes, inodes): &(u32, u32)| Usage { bytes: u64::from(*bytes), inodes: u64::from(*inodes) };
        let sum: Usage = parts.iter().map(usage).sum();
        prop_assert_eq!(sum.bytes, parts.iter().map(|(bytes, _)| u64::from(*bytes)).sum::<u64>());
    }
}
