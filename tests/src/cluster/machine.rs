//! A machine of the cluster: commands on it, its files, its units.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{process_in, repository, run_dir, wait::poll};

/// A node, or `control-plane`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    name: String,
}

/// A stopped unit, started again on drop.
#[derive(Debug)]
pub struct Stopped {
    machine: Machine,
    unit: &'static str,
}

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Machine {
    /// The machine of that name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    /// Its name, which is also the node's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's first process, as the host sees it.
    pub fn process(&self) -> u32 {
        process_in(&run_dir().join("machines").join(&self.name).join("process"))
    }

    /// Where the host finds a file of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.process()))
    }

    /// Runs a command to its end, whatever it is.
    pub fn try_run(&self, command: &[&str]) -> Output {
        let output = Command::new(repository().join("hack/node"))
            .arg(&self.name)
            .args(command)
            .output()
            .unwrap_or_else(|error| panic!("cannot run hack/node {}: {error}", self.name));
        Output {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The standard output of a command that succeeds.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> String {
        let output = self.try_run(command);
        assert!(output.code == Some(0), "{command:?} on {}: {output:?}", self.name);
        output.out
    }

    /// The same for a line of shell.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(&["sh", "-c", script])
    }

    /// `systemctl VERB UNIT`
    #[track_caller]
    pub fn systemctl(&self, verb: &str, unit: &str) {
        self.run(&["systemctl", verb, unit]);
    }

    /// Stops a unit until the answer is dropped, which also happens when the test fails.
    #[track_caller]
    pub fn stop(&self, unit: &'static str) -> Stopped {
        self.systemctl("stop", unit);
        Stopped {
            machine: self.clone(),
            unit,
        }
    }

    /// The main process of a unit, once it runs; an id on this machine.
    #[track_caller]
    pub fn main_process(&self, unit: &str) -> u32 {
        poll(
            Duration::from_secs(30),
            &format!("{unit} runs on {}", self.name),
            || {
                let out = self.run(&["systemctl", "show", "--property=MainPID", "--value", unit]);
                out.trim().parse().ok().filter(|pid| *pid != 0)
            },
        )
    }

    /// `kill -9` the main process of a unit, and wait until systemd has started it again.
    #[track_caller]
    pub fn kill_unit(&self, unit: &str) {
        let old = self.main_process(unit);
        self.run(&["kill", "-KILL", &old.to_string()]);
        poll(
            Duration::from_secs(40),
            &format!("{unit} restarted on {}", self.name),
            || (self.main_process(unit) != old).then_some(()),
        );
    }

    /// The last lines of a unit's log.
    pub fn journal(&self, unit: &str, lines: u32) -> String {
        let lines = lines.to_string();
        self.try_run(&["journalctl", "--no-pager", "-o", "cat", "-u", unit, "-n", &lines])
            .out
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let output = self.machine.try_run(&["systemctl", "start", self.unit]);
        if output.code != Some(0) {
            eprintln!("{} on {} stays stopped: {output:?}", self.unit, self.machine.name);
        }
    }
}
