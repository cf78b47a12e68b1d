//! Command lines read as pflag reads them, which the reference programs use: `_` and `-` are the same in names;
//! `--flag value` and `--flag=value`; a boolean takes its value only after `=`; a repeated flag is no error.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// The name under which arguments that belong to no flag are kept.
const STRAY: &str = "stray";

/// What came of a command line.
#[derive(Debug)]
pub enum Line {
    /// `--help`: print this.
    Help(String),
    /// The flags; read them with [`last`].
    Flags(ArgMatches),
}

/// Why a command line is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody knows this flag.
    #[error("unknown flag: {0}")]
    UnknownFlag(String),
    /// A flag without its value.
    #[error("flag needs an argument: {0}")]
    NoValue(String),
    /// An argument that belongs to no flag.
    #[error("unexpected argument {0:?}")]
    Stray(String),
    /// Anything else, in clap's words.
    #[error("{0}")]
    Other(String),
}

/// A flag with a value.
#[must_use]
pub fn value(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::Append)
        .allow_hyphen_values(true)
        .value_name("VALUE")
}

/// A boolean: without a value it is `true`.
#[must_use]
pub fn switch(name: &'static str) -> Arg {
    value(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("BOOL")
}

/// Reads a command line; `args` starts with the program's name.
///
/// # Errors
/// When it is refused.
pub fn read(command: Command, args: impl IntoIterator<Item = OsString>) -> Result<Line, Refused> {
    let command = command
        .disable_version_flag(true)
        .arg(Arg::new(STRAY).action(ArgAction::Append).hide(true));
    let matches = match command.try_get_matches_from(normalised(args)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Line::Help(error.to_string())),
        Err(error) => return Err(refused(&error)),
    };
    match last(&matches, STRAY) {
        Some(stray) => Err(Refused::Stray(stray)),
        None => Ok(Line::Flags(matches)),
    }
}

/// The last value of a repeated flag.
#[must_use]
pub fn last(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_many::<String>(name)?.next_back().cloned()
}

/// `_` to `-` in flag names.
fn normalised(args: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    args.into_iter().map(|arg| match arg.to_str() {
        Some(text) if text.starts_with("--") => match text.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
            None => text.replace('_', "-").into(),
        },
        _ => arg,
    })
}

/// clap's refusal in pflag's words.
fn refused(error: &clap::Error) -> Refused {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => Refused::UnknownFlag(flag.clone()),
        (ErrorKind::InvalidValue, Some(ContextValue::String(flag))) => Refused::NoValue(flag.clone()),
        _ => Refused::Other(error.to_string().trim_end().to_owned()),
    }
}
