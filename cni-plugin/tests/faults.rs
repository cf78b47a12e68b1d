//! What the host does to us: a store that is full or read-only, a kernel without IPv6. Each has its code and a text with the
//! fix, and nothing half-made stays. Namespaces, bridges, exhaustion and crashes are in `own.rs` and `contract.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::path::Path;
use std::process::Command;

use harness::{Host, Namespace, address, on_host};
use serde_json::{Value, json};

mod harness;

const SUBNET: &str = "10.99.1.0/24";

/// A file system of so many bytes in a directory, until this value goes.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, options: &str) -> Self {
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], at);
        Self(at)
    }

    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], self.0);
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount(words: &[&str], at: &Path) {
    let output = Command::new("mount").args(words).arg(at).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn config(host: &Host) -> Value {
    let mut config = host.config(SUBNET);
    config["ipam"]["ranges"][0][0]["rangeStart"] = json!("10.99.1.9");
    config["ipam"]["ranges"][0][0]["rangeEnd"] = json!("10.99.1.9");
    config
}

fn refused(host: &Host, command: &str, config: &Value, container: &str, pod: &Namespace) -> Value {
    let error = host
        .call(command, config, container, pod.path().to_str().unwrap())
        .error();
    assert_eq!(error["code"], 5, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("ipam.dataDir"), "{error}");
    error
}

#[test]
fn a_full_disk_under_the_store_leaves_nothing_and_is_over_when_there_is_room() {
    // One page: the header of the table has room and its first slot has none. Then not even the header has.
    for filler in [0, 4096] {
        on_host(|host| {
            let disk = Tmpfs::mount(host.data.path(), "size=4k");
            std::fs::write(host.data.path().join("filler"), vec![0; filler]).unwrap();
            let config = config(host);
            let pod = Namespace::new();
            let error = refused(host, "ADD", &config, "a", &pod);
            assert!(
                error["details"].as_str().unwrap().contains("No space left"),
                "{error}"
            );
            assert_eq!(host.devices(), [""; 0]);
            assert!(!pod.ip("link").contains("eth0"));
            host.del(&config, "a", pod.path().to_str().unwrap());
            disk.remount("size=64k");
            // The range has one address: none was lost.
            host.add(&config, "a", &pod);
            disk.remount(&format!("size={}", 8192 + filler));
            host.del(&config, "a", pod.path().to_str().unwrap());
            host.add(&config, "b", &Namespace::new());
        });
    }
}

#[test]
fn a_read_only_store_refuses_and_recovers() {
    on_host(|host| {
        let disk = Tmpfs::mount(host.data.path(), "size=64k");
        let config = config(host);
        let (a, b) = (Namespace::new(), Namespace::new());
        host.add(&config, "a", &a);
        disk.remount("ro");
        let error = refused(host, "ADD", &config, "b", &b);
        assert!(
            error["details"].as_str().unwrap().contains("Read-only"),
            "{error}"
        );
        assert_eq!(host.devices().len(), 1);
        // The interface is gone; that the address could not be freed is said, so that DEL is called again.
        refused(host, "DEL", &config, "a", &a);
        assert_eq!(host.devices(), [""; 0]);
        disk.remount("rw");
        host.del(&config, "a", a.path().to_str().unwrap());
        host.add(&config, "b", &b);
    });
}

#[test]
fn a_host_without_ipv6_takes_ipv4_pods_and_says_what_dual_stack_needs() {
    on_host(|host| {
        for scope in ["all", "default"] {
            host.namespace
                .write(&format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
        }
        let mut config = host.config(SUBNET);
        let pod = Namespace::new();
        for scope in ["all", "default"] {
            pod.write(&format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
        }
        let result = host.add(&config, "a", &pod);
        pod.serve((address(&result), 7).into());
        host.namespace.ask((address(&result), 7).into());
        config["ipam"]["ranges"] = json!([[{ "subnet": SUBNET }], [{ "subnet": "fd00:99::/64" }]]);
        let other = Namespace::new();
        let error = host
            .call("ADD", &config, "b", other.path().to_str().unwrap())
            .error();
        assert_eq!(error["code"], 103, "{error}");
        let msg = error["msg"].as_str().unwrap();
        assert!(msg.contains("net.ipv6.conf.br0.disable_ipv6=0"), "{msg}");
        assert_eq!(host.devices().len(), 1);
        assert!(!other.ip("link").contains("eth0"));
        // What the text says helps.
        host.namespace
            .write("/proc/sys/net/ipv6/conf/br0/disable_ipv6", "0");
        host.add(&config, "b", &other);
    });
}
