//! gantry-agent, a kubelet: runs the pods bound to its node through a CRI runtime.

mod bootstrap;
mod cgroups;
mod cli;
mod config;
mod events;
mod health;
mod hooks;
mod images;
mod logs;
mod metrics;
mod node;
mod normal;
mod objects;
mod pods;
mod probes;
mod process;
mod report;
mod run;
mod runtime;
mod server;
mod stats;
mod status;
#[cfg(test)]
mod testing;
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
        Ok(Invocation::Run(config)) => match run::main(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error),
        },
        Err(error) => refuse(&anyhow::Error::new(error)),
    }
}

/// The whole chain on stderr; systemd starts us again.
fn refuse(error: &anyhow::Error) -> ExitCode {
    eprintln!("Error: {error:#}");
    ExitCode::FAILURE
}
