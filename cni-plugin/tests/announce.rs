//! The daemon that enforces network policies is told of each pod before ADD returns, and no pod starts without its word.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry_announce::{Announcement, Answer, Attached};
use harness::daemon::listen;
use harness::{Host, Namespace, address, on_host, ours};
use serde_json::{Value, json};

mod harness;

const POD: &str =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=u";

fn config(host: &Host, socket: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "net", "type": "gantry-cni", "policySocket": socket,
        "isDefaultGateway": true, "ipam": { "dataDir": host.data.path(), "subnet": "10.99.1.0/24" }
    })
}

fn call(host: &Host, command: &str, config: &Value, args: &str, pod: &Namespace) -> harness::Answer {
    let variables = [
        ("CNI_CONTAINERID", "a"),
        ("CNI_NETNS", pod.path().to_str().unwrap()),
        ("CNI_ARGS", args),
    ];
    host.call_plugin(&ours(), command, &config.to_string(), &variables)
}

fn socket_of(host: &Host) -> PathBuf {
    host.data.path().join("policy.sock")
}

#[test]
fn a_pod_is_announced_with_its_addresses_and_its_end_too() {
    on_host(|host| {
        let config = config(host, &socket_of(host));
        let told = listen(&socket_of(host), Answer::Enforced);
        let pod = Namespace::new();
        let result = call(host, "ADD", &config, POD, &pod).result();
        let attached = Attached {
            interface: "a:eth0".into(),
            namespace: "ns".into(),
            name: "web".into(),
            uid: Some("u".into()),
            addresses: [address(&result)].into(),
        };
        assert_eq!(told.recv().unwrap(), Announcement::Attached(attached));
        assert!(call(host, "DEL", &config, POD, &pod).ok);
        let interface = "a:eth0".into();
        assert_eq!(told.recv().unwrap(), Announcement::Detached { interface });
        let again = call(host, "ADD", &config, POD, &pod).result();
        assert_ne!(address(&again), address(&result));
    });
}

#[test]
fn addresses_that_gc_frees_are_told() {
    on_host(|host| {
        let mut config = config(host, &socket_of(host));
        config["cniVersion"] = json!("1.1.0");
        let told = listen(&socket_of(host), Answer::Enforced);
        let pod = Namespace::new();
        let result = call(host, "ADD", &config, POD, &pod).result();
        assert!(matches!(told.recv().unwrap(), Announcement::Attached(_)));
        config["cni.dev/valid-attachments"] = json!([{ "containerID": "a", "ifname": "eth0" }]);
        assert!(call(host, "GC", &config, "", &pod).ok);
        config["cni.dev/valid-attachments"] = json!([]);
        assert!(call(host, "GC", &config, "", &pod).ok);
        let addresses = [address(&result)].into();
        assert_eq!(told.recv().unwrap(), Announcement::Freed { addresses });
        assert!(told.try_recv().is_err(), "only what is not valid, and once");
    });
}

#[test]
fn without_the_daemons_word_there_is_no_pod() {
    on_host(|host| {
        let config = config(host, &socket_of(host));
        let pod = Namespace::new();
        let begun = Instant::now();
        let away = call(host, "ADD", &config, POD, &pod).error();
        assert!(
            begun.elapsed() > Duration::from_secs(2),
            "the daemon may be away for a while"
        );
        assert_eq!(away["code"], 11);
        let msg = away["msg"].as_str().unwrap();
        assert!(msg.contains("is gantry-proxy running on this node?"), "{msg}");
        assert!(
            call(host, "DEL", &config, POD, &pod).ok,
            "the end of a pod needs nobody"
        );
        let _told = listen(&socket_of(host), Answer::Refused("because".into()));
        let refused = call(host, "ADD", &config, POD, &pod).error();
        assert_eq!(
            (&refused["code"], &refused["details"]),
            (&json!(11), &json!("because"))
        );
        assert_eq!(host.veths(), [""; 0]);
        assert!(!pod.ip("link").contains("eth0"));
    });
}

#[test]
fn a_daemon_that_comes_back_is_waited_for() {
    on_host(|host| {
        let config = config(host, &socket_of(host));
        let pod = Namespace::new();
        let added = std::thread::scope(|scope| {
            let add = scope.spawn(|| call(host, "ADD", &config, POD, &pod));
            // The plugin is at work: nobody answers yet.
            let deadline = Instant::now() + Duration::from_secs(20);
            while host.veths().is_empty() {
                assert!(Instant::now() < deadline, "ADD makes an interface");
            }
            let _told = listen(&socket_of(host), Answer::Enforced);
            add.join().unwrap()
        });
        added.result();
    });
}

#[test]
fn who_is_no_pod_and_who_was_not_asked_tells_nobody() {
    on_host(|host| {
        let mut config = config(host, &socket_of(host));
        let pod = Namespace::new();
        for args in ["", "IgnoreUnknown=1;K8S_POD_NAME=web"] {
            call(host, "ADD", &config, args, &pod).result();
            assert!(call(host, "DEL", &config, args, &pod).ok);
        }
        config["policySocket"] = json!("");
        call(host, "ADD", &config, POD, &pod).result();
        assert!(call(host, "DEL", &config, POD, &pod).ok);
        config["policySocket"] = json!("run/policy.sock");
        assert_eq!(call(host, "ADD", &config, POD, &pod).error()["code"], 7);
    });
}
