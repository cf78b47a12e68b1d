//! gantry-cni: a CNI plugin that gives each pod a veth on a bridge, addresses, routes and masquerade to the outside.
//!
//! ```text
//! environment -> request::Command ┐
//! standard input -> config::Network ┴-> lease -> plan::plan (pure, steps with their undo) -> execute -> result JSON
//! ```
//!
//! One process for each call, one thread, no other program started; DEL leaves a copy of itself behind (`detach`).
//! Standard output has exactly one JSON object: the result, the versions, or an error with a code of the specification. As
//! `loopback` (by its own name or the configured type) it is the loopback plugin. Specification: CNI 1.1.0, SPEC.md of
//! containernetworking/cni.

use std::io::{Read, Write};
use std::process::ExitCode;

use commands::{add, check, del, gc, loopback, status};
use config::Header;
use error::Failure;
use request::{Attachment, Command};
use version::Version;

mod announce;
mod bandwidth;
mod chain;
mod commands;
mod config;
mod detach;
mod error;
mod execute;
mod fault;
mod lease;
mod masquerade;
mod memory;
mod netlink;
mod netns;
mod owner;
mod plan;
mod ports;
mod range;
mod request;
mod resolv;
mod result;
mod sysctl;
mod version;

/// More than any configuration with its previous result; bounds what a broken caller makes us hold.
const MAX_STDIN_BYTES: u64 = 4 * 1024 * 1024;

fn main() -> ExitCode {
    let program = std::env::args().next().unwrap_or_default();
    let mut stdin = Vec::new();
    let read = std::io::stdin().take(MAX_STDIN_BYTES).read_to_end(&mut stdin);
    let outcome = read.map_err(Failure::Stdin).and_then(|_| run(&program, &stdin));
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure) => {
            let version = Header::parse(&stdin).map_or(Version::V1_1_0, |header| header.version);
            let report = failure.report(version.as_str());
            (
                serde_json::to_string(&report).unwrap_or_default(),
                ExitCode::FAILURE,
            )
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Does what the environment asks for; answers what to print.
fn run(program: &str, stdin: &[u8]) -> Result<String, Failure> {
    let command = Command::parse(|name| std::env::var(name).ok())?;
    if command == Command::Version {
        return Ok(commands::version::run(stdin));
    }
    let header = Header::parse(stdin)?;
    match command {
        Command::Version | Command::Add(_) | Command::Del(_) => {}
        Command::Check(_) => header.require("CHECK", Version::V0_4_0)?,
        Command::Gc => header.require("GC", Version::V1_1_0)?,
        Command::Status => header.require("STATUS", Version::V1_1_0)?,
    }
    if program.ends_with("loopback") || header.plugin_type == "loopback" {
        return run_loopback(command, &header);
    }
    let nothing = |()| String::new();
    match command {
        Command::Add(attachment) => add::run(stdin, &attachment, attachment.netns()?),
        Command::Del(attachment) => del::run(stdin, &attachment).map(nothing),
        Command::Check(attachment) => check::run(stdin, &attachment, attachment.netns()?).map(nothing),
        Command::Gc => gc::run(stdin).map(nothing),
        Command::Status => status::run(stdin).map(nothing),
        Command::Version => Ok(commands::version::run(stdin)),
    }
}

fn run_loopback(command: Command, header: &Header) -> Result<String, Failure> {
    let nothing = |()| String::new();
    match command {
        Command::Add(attachment) => loopback::add(header, attachment.netns()?),
        Command::Del(Attachment { netns, .. }) => loopback::del(netns.as_deref()).map(nothing),
        Command::Check(attachment) => loopback::check(attachment.netns()?).map(nothing),
        Command::Gc | Command::Status | Command::Version => Ok(String::new()),
    }
}
