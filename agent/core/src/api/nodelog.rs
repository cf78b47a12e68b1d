//! `/logs/?query=...` (KEP-2258): the logs of the machine's services, or one file.
//!
//! The query becomes arguments of journalctl, so services are checked to have no character with a meaning of its own.

use jiff::{Timestamp, tz::TimeZone};

use super::Query;

/// Characters of a service's name.
const SERVICE_BYTES: usize = 256;
/// Services in one query.
const SERVICES: usize = 4;
/// Lines that may be asked for.
const LINES: i64 = 100_000;

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeLog {
    /// Nothing was asked for by query: the path counts.
    Path,
    /// One file below the directory of logs.
    File(String),
    /// These services, with these arguments for journalctl beside their names.
    Services {
        /// Without `.service`.
        services: Vec<String>,
        /// `--since=...`, ...
        options: Vec<String>,
    },
}

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be read: 400.
    Unreadable(String),
    /// It makes no sense: 406.
    Unacceptable(String),
}

#[derive(Default)]
struct Parsed {
    services: Vec<String>,
    files: Vec<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    boot: Option<i64>,
    lines: Option<i64>,
    pattern: String,
}

/// Reads a query. `at_root`: the path is that of the directory itself.
///
/// # Errors
/// See [`Refused`]; texts as the reference's.
pub fn parse(query: &Query, at_root: bool) -> Result<NodeLog, Refused> {
    let parsed = Parsed::read(query).map_err(|errors| Refused::Unreadable(aggregate(&errors)))?;
    if !parsed.has_anything() {
        return Ok(NodeLog::Path);
    }
    if !at_root {
        return Err(Refused::Unacceptable("path not allowed in query mode".to_owned()));
    }
    let errors = parsed.problems();
    if !errors.is_empty() {
        return Err(Refused::Unacceptable(aggregate(&errors)));
    }
    Ok(match parsed.files.first() {
        // Clients on Windows write backslashes.
        Some(file) => NodeLog::File(file.replace('\\', "/")),
        None => NodeLog::Services {
            options: parsed.options(),
            services: parsed.services,
        },
    })
}

fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

fn invalid(field: &str, value: &str, why: &str) -> String {
    format!("{field}: Invalid value: {value}: {why}")
}

impl Parsed {
    fn read(query: &Query) -> Result<Self, Vec<String>> {
        let (mut parsed, mut errors) = (Self::default(), Vec::new());
        for text in query.all("query") {
            if text.contains(['/', '\\']) {
                parsed.files.push(text.to_owned());
            } else if !text.trim().is_empty() {
                parsed.services.push(text.to_owned());
            }
        }
        if query.has("query") && parsed.files.is_empty() && parsed.services.is_empty() {
            let given: Vec<_> = query.all("query").map(|text| format!("{text:?}")).collect();
            errors.push(invalid(
                "query",
                &format!("[{}]", given.join(",")),
                "may not be empty",
            ));
        }
        let mut time = |field: &str| {
            let text = query.text(field);
            let read = (!text.is_empty()).then(|| text.parse::<Timestamp>());
            read.and_then(|read| {
                read.map_err(|_| errors.push(invalid(field, &format!("{text:?}"), "invalid time format")))
                    .ok()
            })
        };
        (parsed.since, parsed.until) = (time("sinceTime"), time("untilTime"));
        let mut number = |field: &str| {
            let text = query.text(field);
            let read = (!text.is_empty()).then(|| text.parse::<i64>());
            read.and_then(|read| {
                let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
                read.map_err(|_| errors.push(invalid(field, &format!("{text:?}"), &why)))
                    .ok()
            })
        };
        (parsed.boot, parsed.lines) = (number("boot"), number("tailLines"));
        parsed.pattern = query.text("pattern").to_owned();
        if errors.is_empty() {
            Ok(parsed)
        } else {
            Err(errors)
        }
    }

    fn has_options(&self) -> bool {
        let Self {
            services: _,
            files: _,
            since,
            until,
            boot,
            lines,
            pattern,
        } = self;
        since.is_some() || until.is_some() || boot.is_some() || lines.is_some() || !pattern.is_empty()
    }

    fn has_anything(&self) -> bool {
        self.has_options() || !self.services.is_empty() || !self.files.is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let mut errors: Vec<String> = self
            .services
            .iter()
            .filter_map(|name| bad_service(name))
            .collect();
        if self.services.len() > SERVICES {
            errors.push(format!(
                "query: Too many: {}: must have at most {SERVICES} items",
                self.services.len()
            ));
        }
        let (services, files) = (&self.services, &self.files);
        match (services.is_empty(), files.len()) {
            (true, 0) => errors.push("query: Required value: cannot be empty with options".to_owned()),
            (false, 1..) => {
                let both = format!("\"[{}], [{}]\"", files.join(" "), services.join(" "));
                errors.push(invalid("query", &both, "cannot specify a file and service"));
            }
            (true, 2..) => errors.push(invalid(
                "query",
                &quoted(files),
                "cannot specify more than one file",
            )),
            (true, 1) if self.has_options() => {
                errors.push(invalid(
                    "query",
                    &quoted(files),
                    "cannot specify file with options",
                ));
            }
            (true, 1) | (false, 0) => {}
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            errors.push(invalid(
                "untilTime",
                &format!("{until:?}"),
                "must be after `sinceTime`",
            ));
        }
        if let Some(boot) = self.boot.filter(|boot| *boot > 0) {
            errors.push(invalid("boot", &boot.to_string(), "must be less than 1"));
        }
        if let Some(lines) = self.lines.filter(|lines| !(0..=LINES).contains(lines)) {
            let why = format!("must be between 0 and {LINES}, inclusive");
            errors.push(invalid("tailLines", &lines.to_string(), &why));
        }
        errors
    }

    fn options(&self) -> Vec<String> {
        let time = |time: Timestamp| {
            time.to_zoned(TimeZone::UTC)
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        };
        let mut options = Vec::new();
        options.extend(self.since.map(|since| format!("--since={}", time(since))));
        options.extend(self.until.map(|until| format!("--until={}", time(until))));
        if let Some(lines) = self.lines {
            options.push("--pager-end".to_owned());
            options.push(format!("--lines={lines}"));
        }
        if !self.pattern.is_empty() {
            options.push(format!("--grep={}", self.pattern));
        }
        options.extend(self.boot.map(|boot| format!("--boot={boot}")));
        options
    }
}

fn quoted(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(","))
}

fn bad_service(name: &str) -> Option<String> {
    let why = if name.len() > SERVICE_BYTES {
        format!("length must be less than {SERVICE_BYTES}")
    } else if !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.:@".contains(c))
    {
        "input contains unsupported characters".to_owned()
    } else {
        return None;
    };
    Some(invalid("query", &format!("{name:?}"), &why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(query: &str) -> Result<NodeLog, Refused> {
        parse(&Query::parse(query), true)
    }

    #[test]
    fn queries_become_arguments() {
        assert_eq!(ask(""), Ok(NodeLog::Path));
        assert_eq!(ask("query=/syslog"), Ok(NodeLog::File("/syslog".into())));
        let text =
            "query=kubelet&query=containerd&sinceTime=2026-01-02T03:04:05Z&tailLines=7&pattern=a+b&boot=-1";
        assert_eq!(
            ask(text),
            Ok(NodeLog::Services {
                services: vec!["kubelet".into(), "containerd".into()],
                options: [
                    "--since=2026-01-02 03:04:05",
                    "--pager-end",
                    "--lines=7",
                    "--grep=a b",
                    "--boot=-1"
                ]
                .map(str::to_owned)
                .to_vec(),
            })
        );
    }

    #[test]
    fn refusals_read_as_the_references() {
        let unreadable = |query| match ask(query) {
            Err(Refused::Unreadable(text)) => text,
            other => panic!("{query}: {other:?}"),
        };
        let unacceptable = |query| match ask(query) {
            Err(Refused::Unacceptable(text)) => text,
            other => panic!("{query}: {other:?}"),
        };
        assert_eq!(
            unreadable("query=+"),
            "query: Invalid value: [\" \"]: may not be empty"
        );
        assert_eq!(
            unreadable("query=a&sinceTime=x"),
            "sinceTime: Invalid value: \"x\": invalid time format"
        );
        assert!(unreadable("boot=x&tailLines=y").starts_with("[boot: Invalid value"));
        assert_eq!(
            unacceptable("query=a%3Bb"),
            "query: Invalid value: \"a;b\": input contains unsupported characters"
        );
        assert_eq!(
            unacceptable("boot=0"),
            "query: Required value: cannot be empty with options"
        );
        assert!(unacceptable("query=a&boot=1").contains("must be less than 1"));
        assert!(unacceptable("query=/a&tailLines=1").contains("cannot specify file with options"));
        assert!(unacceptable("query=/a&query=b").contains("cannot specify a file and service"));
        assert_eq!(
            parse(&Query::parse("query=a"), false),
            Err(Refused::Unacceptable("path not allowed in query mode".into()))
        );
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic_and_no_service_is_an_option(text in "[ -~]{0,60}", root in any::<bool>()) {
            if let Ok(NodeLog::Services { services, options }) = parse(&Query::parse(&text), root) {
                prop_assert!(services.iter().all(|name| !name.contains([' ', '=', '/'])));
                prop_assert!(options.iter().all(|option| option.starts_with("--")));
            }
        }
    }
}
