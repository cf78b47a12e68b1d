//! `/healthz`: what several checks together say, in the reference's words (`apiserver/pkg/server/healthz`).

use std::fmt::Write as _;

use super::Query;

/// One check and how it ended; the reason of a failure is for the log.
pub type Checked<'a> = (&'a str, Result<(), String>);

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// 200, else 500.
    pub healthy: bool,
    /// The text.
    pub text: String,
}

/// All checks of an endpoint named `name` (`healthz`). `?exclude=` leaves checks out, `?verbose` lists them.
#[must_use]
pub fn report(name: &str, checks: &[Checked<'_>], query: &Query) -> Report {
    let mut unknown: Vec<&str> = query.all("exclude").collect();
    unknown.sort_unstable();
    unknown.dedup();
    let excluded = unknown.clone();
    let (mut text, mut healthy) = (String::new(), true);
    // Writing to a String does not fail.
    for (check, result) in checks {
        if excluded.contains(check) {
            unknown.retain(|name| name != check);
            let _ = writeln!(text, "[+]{check} excluded: ok");
        } else if result.is_ok() {
            let _ = writeln!(text, "[+]{check} ok");
        } else {
            healthy = false;
            let _ = writeln!(text, "[-]{check} failed: reason withheld");
        }
    }
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {}",
            names.join(",")
        );
    }
    match (healthy, query.has("verbose")) {
        (false, _) => text += &format!("{name} check failed\n"),
        (true, true) => text += &format!("{name} check passed\n"),
        (true, false) => text = "ok".to_owned(),
    }
    Report { healthy, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(checks: &[Checked<'_>], query: &str) -> (bool, String) {
        let Report { healthy, text } = report("healthz", checks, &Query::parse(query));
        (healthy, text)
    }

    #[test]
    fn reads_as_the_references() {
        let good = [("ping", Ok(())), ("log", Ok(()))];
        assert_eq!(told(&good, ""), (true, "ok".to_owned()));
        assert_eq!(
            told(&good, "verbose"),
            (true, "[+]ping ok\n[+]log ok\nhealthz check passed\n".to_owned())
        );
        let bad = [("ping", Ok(())), ("syncloop", Err("slow".to_owned()))];
        assert_eq!(
            told(&bad, ""),
            (
                false,
                "[+]ping ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n".to_owned()
            )
        );
        assert_eq!(
            told(&bad, "exclude=syncloop&exclude=x&verbose"),
            (
                true,
                "[+]ping ok\n[+]syncloop excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nhealthz check passed\n".to_owned()
            )
        );
    }
}
