//! gantry-agent, a kubelet: runs the pods bound to its node through a CRI runtime.

#![allow(dead_code, unused_imports, reason = "until run.rs wires everything")]

mod cli;
mod config;
mod events;
mod hooks;
mod objects;
mod probes;
mod runtime;
mod status;
mod volumes;

use std::process::ExitCode;

use cli::Invocation;

fn main() -> ExitCode {
    let hostname = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .trim()
        .to_ascii_lowercase();
    match cli::parse(std::env::args_os(), &hostname) {
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Invocation::Run(config)) => {
            let _ = config;
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("Error: {:#}", anyhow::Error::new(error));
            ExitCode::FAILURE
        }
    }
}
