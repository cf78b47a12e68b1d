use serde_json::json;

use super::make::{Reading, ephemeral, fs, whole_fs};
use super::*;
use crate::stats::figures::{self, Figures, Limits, Room, Usage};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn figures() -> Figures {
    Figures {
        cpu: figures::Cpu {
            usage_ns: 5,
            ..figures::Cpu::default()
        },
        memory: Some(figures::Memory {
            usage: 100,
            inactive_file: 30,
            rss: 60,
            swap: 8,
            ..figures::Memory::default()
        }),
        interfaces: Some(vec![figures::Interface {
            name: "eth0".to_owned(),
            rx_bytes: 1,
            ..figures::Interface::default()
        }]),
        ..Figures::new(at(1_500))
    }
}

fn reading<'a>(figures: &'a Figures, limits: &'a Limits) -> Reading<'a> {
    Reading {
        figures,
        limits,
        nano_cores: 7,
    }
}

#[test]
fn names_are_those_of_the_api() {
    let limits = Limits {
        memory: 1000,
        swap: u64::MAX,
        ..Limits::default()
    };
    let figures = figures();
    let reading = reading(&figures, &limits);
    let zeros = json!({"total": 0, "avg10": 0.0, "avg60": 0.0, "avg300": 0.0});
    let psi = json!({"full": zeros, "some": zeros});
    let time = "1970-01-01T00:00:01Z";
    assert_eq!(
        serde_json::to_value(reading.cpu()).unwrap(),
        json!({"time": time, "usageNanoCores": 7, "usageCoreNanoSeconds": 5, "psi": psi})
    );
    assert_eq!(
        serde_json::to_value(reading.memory()).unwrap(),
        json!({"time": time, "availableBytes": 930, "usageBytes": 100, "workingSetBytes": 70, "rssBytes": 60,
               "pageFaults": 0, "majorPageFaults": 0, "psi": psi})
    );
    assert_eq!(
        serde_json::to_value(reading.swap()).unwrap(),
        json!({"time": time, "swapUsageBytes": 8})
    );
    let eth0 = json!({"name": "eth0", "rxBytes": 1, "rxErrors": 0, "txBytes": 0, "txErrors": 0});
    let mut network = eth0.clone();
    network["time"] = json!(time);
    network["interfaces"] = json!([eth0]);
    assert_eq!(serde_json::to_value(reading.network()).unwrap(), network);
    let volume = Volume {
        fs: fs(at(0), None, Some(Usage { bytes: 1, inodes: 2 })),
        name: "v".to_owned(),
        claim: None,
    };
    assert_eq!(
        serde_json::to_value(volume).unwrap(),
        json!({"time": "1970-01-01T00:00:00Z", "usedBytes": 1, "inodesUsed": 2, "name": "v"})
    );
}

#[test]
fn available_memory_is_never_negative() {
    let limits = Limits {
        memory: 50,
        ..Limits::default()
    };
    let mut figures = figures();
    assert_eq!(reading(&figures, &limits).memory().available_bytes, Some(0));
    figures.memory = Some(figures::Memory {
        usage: 1,
        inactive_file: 2,
        ..figures::Memory::default()
    });
    assert_eq!(reading(&figures, &limits).memory().working_set_bytes, Some(0));
    figures.memory = None;
    assert_eq!(reading(&figures, &limits).memory().working_set_bytes, Some(0));
    assert_eq!(reading(&figures, &limits).swap(), None);
}

#[test]
fn a_pods_disk_is_the_sum_of_its_parts() {
    let room = Room {
        capacity: 100,
        free: 60,
        available: 50,
        inodes: 10,
        inodes_free: 4,
    };
    let node = whole_fs(at(0), room);
    assert_eq!((node.used_bytes, node.inodes_used), (Some(40), Some(6)));
    let parts = [
        fs(at(1000), None, Some(Usage { bytes: 3, inodes: 1 })),
        fs(at(9000), None, None),
        fs(at(5000), None, Some(Usage { bytes: 4, inodes: 1 })),
    ];
    let sum = ephemeral(&node, parts.iter());
    assert_eq!((sum.used_bytes, sum.inodes_used), (Some(7), Some(2)));
    assert_eq!((sum.available_bytes, sum.time), (Some(50), Time(at(9000))));
    assert_eq!(ephemeral(&node, [].iter()).used_bytes, None);
}
