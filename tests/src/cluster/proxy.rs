//! A node's service proxy, whichever way it runs: a unit, or the container of gantry's daemon.

use std::time::Duration;

use super::{Cluster, Machine, poll};

/// `ctr` for what the kubelet started.
const CTR: [&str; 3] = ["ctr", "-n", "k8s.io"];
const DAEMON: &str =
    "labels.\"io.kubernetes.pod.namespace\"==kube-system,labels.\"io.kubernetes.container.name\"==gantry";

/// The service proxy of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProxy {
    machine: Machine,
    unit: Option<&'static str>,
}

impl NodeProxy {
    /// That of a machine.
    pub fn on(cluster: &Cluster, machine: &str) -> Self {
        let unit = match (cluster.is_reference("proxy"), cluster.is_reference("cni")) {
            (true, _) => Some("kube-proxy"),
            (false, true) => Some("gantry-proxy"),
            (false, false) => None,
        };
        Self {
            machine: Machine::named(machine),
            unit,
        }
    }

    /// Its unit; `None` if it is a pod.
    pub fn unit(&self) -> Option<&'static str> {
        self.unit
    }

    /// Its process, once it runs; an id on the machine.
    #[track_caller]
    pub fn process(&self) -> u32 {
        match self.unit {
            Some(unit) => self.machine.main_process(unit),
            None => poll(
                Duration::from_secs(60),
                &format!("gantry's daemon runs on {}", self.machine.name()),
                || self.container(),
            ),
        }
    }

    /// The first process of the daemon's container.
    fn container(&self) -> Option<u32> {
        let list = |more: &[&str]| self.machine.try_run(&[&CTR, more].concat()).out;
        let ids = list(&["containers", "ls", "-q", DAEMON]);
        let tasks = list(&["tasks", "ls"]);
        tasks.lines().find_map(|task| {
            let fields: Vec<&str> = task.split_whitespace().collect();
            match fields[..] {
                [id, pid, "RUNNING"] if ids.lines().any(|own| own == id) => pid.parse().ok(),
                _ => None,
            }
        })
    }

    /// The program, as a path on the machine.
    #[track_caller]
    pub fn program(&self) -> String {
        match self.unit {
            Some(unit) => format!("/usr/bin/{unit}"),
            None => format!("/proc/{}/root/usr/bin/gantry-proxy", self.process()),
        }
    }

    /// `kill -9`, and wait until it was started again.
    #[track_caller]
    pub fn kill(&self) {
        let old = self.process();
        self.machine.run(&["kill", "-KILL", &old.to_string()]);
        poll(
            Duration::from_secs(60),
            &format!("the proxy restarted on {}", self.machine.name()),
            || (self.process() != old).then_some(()),
        );
    }
}
