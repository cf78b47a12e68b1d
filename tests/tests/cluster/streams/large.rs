//! `kubectl cp` of what is too large for anybody's memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use gantry_tests::cluster::{Machine, Test, secs};

use super::waiting_pod;

/// How much is copied, in MiB; `GANTRY_COPY_MIB` says otherwise.
const MIB: usize = 256;
/// The agent's memory may grow by this at most while it carries the copy, in KiB: a small part of what passes.
const GROWTH_KIB: u64 = 64 * 1024;

fn size_mib() -> usize {
    let wanted = std::env::var("GANTRY_COPY_MIB");
    wanted.map_or(MIB, |text| text.parse().expect("GANTRY_COPY_MIB is a number"))
}

/// A file of that size in which no block is like another.
fn write_large(path: &Path, mib: usize) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for number in 0..(mib << 20) as u64 / 8 {
        let bytes = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        file.write_all(&bytes).expect("room for it");
    }
    file.flush().expect("room for it");
}

fn checksum(path: &Path) -> String {
    let output = Command::new("sha256sum")
        .arg(path)
        .output()
        .expect("it is part of every system");
    first_word(&String::from_utf8_lossy(&output.stdout))
}

fn first_word(text: &str) -> String {
    text.split_ascii_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A field of the agent's memory, in KiB.
fn memory(machine: &Machine, agent: u32, field: &str) -> u64 {
    let line = machine.sh(&format!("grep {field}: /proc/{agent}/status"));
    let number = line
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn a_large_file_is_copied_both_ways_in_bounded_memory() {
    let test = Test::start("copy-large");
    let pod = waiting_pod(&test, "p");
    let here = tempfile::tempdir().expect("a folder");
    let (there, back) = (here.path().join("there"), here.path().join("back"));
    write_large(&there, size_mib());
    let sum = checksum(&there);
    let machine = test.machine_of(&pod);
    let agent = machine.main_process("kubelet");
    // The most that it has had counts from here.
    machine.sh(&format!("echo 5 >/proc/{agent}/clear_refs"));
    let before = memory(&machine, agent, "VmRSS");
    let copy = |from: &str, to: &str| {
        let output = test
            .start_kubectl(&["cp", "--retries=0", from, to])
            .wait(secs(300));
        assert_eq!(output.code, Some(0), "{output:?}");
    };
    copy(&there.display().to_string(), "p:/tmp/large");
    assert_eq!(first_word(&test.exec(&pod, "c", "sha256sum /tmp/large")), sum);
    copy("p:/tmp/large", &back.display().to_string());
    assert_eq!(checksum(&back), sum);
    let most = memory(&machine, agent, "VmHWM");
    println!(
        "agent: {before} KiB before, {most} KiB at most, for {} MiB each way",
        size_mib()
    );
    assert!(
        most < before + GROWTH_KIB,
        "{before} KiB before, {most} KiB at most"
    );
}
